"""The DreamBooth authors' data set as a folder: which class each subject has, which prompts objects and animals get.

The layout is that of google/dreambooth (arXiv 2208.12242, section 4.2): a sub-folder of pictures per subject and one
text, `prompts_and_classes.txt`. This module reads that text and knows nothing of judging.
"""

import re
from dataclasses import dataclass

from ti_core.errors import InputError
from ti_core.images.sources import read_text
from ti_core.settings import Settings

FILE = "prompts_and_classes.txt"
LIVE = frozenset({"cat", "dog"})
"""Classes of the live subjects, which get prompts of their own."""


@dataclass(frozen=True)
class DreamBench:
    """Subject → class, and the two lists of prompts, each prompt with one `{}` in place of the token and its class."""

    classes: dict[str, str]
    objects: tuple[str, ...]
    live: tuple[str, ...]

    def prompts(self, concept: str, class_word: str) -> tuple[str, ...]:
        """The prompts for a subject: by its class in the data set, or, for a concept that is none of its subjects, by
        its class word."""
        class_name = self.classes.get(concept.replace("-", "_"), class_word)
        return self.live if class_name.lower() in LIVE else self.objects


def read_dreambench(folder: str, settings: Settings) -> DreamBench | None:
    """Read the text at `folder` (or s3:// prefix), None where there is none. Raises InputError when it is damaged."""
    try:
        data = read_text(folder, FILE, settings)
        text = None if data is None else data.decode()
    except UnicodeDecodeError:
        raise InputError(f"{folder}/{FILE} is damaged: it is no UTF-8 text.") from None
    if text is None:
        return None
    classes_text, _, prompts_text = text.partition("\nPrompts")
    classes = dict(re.findall(r"^(\w+),([\w ]+)$", classes_text, re.MULTILINE))
    classes.pop("subject_name", None)
    objects, _, live = prompts_text.partition("Live Subject Prompts")
    found = DreamBench(classes, _prompts(objects), _prompts(live))
    if not (found.classes and found.objects and found.live):
        raise InputError(f"{folder}/{FILE} is damaged: it must name classes, object prompts and live subject prompts.")
    return found


def _prompts(text: str) -> tuple[str, ...]:
    return tuple(prompt.replace("{0} {1}", "{}") for prompt in re.findall(r"^'([^']*\{0\} \{1\}[^']*)'", text, re.M))
