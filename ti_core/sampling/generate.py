"""Use published words: a prompt with any of them to pictures. It trains and judges nothing."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ti_core import __version__
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import resident
from ti_core.client import noticed, vectors, words_in
from ti_core.client import words as published
from ti_core.config import EvaluationConfig
from ti_core.errors import InputError
from ti_core.quoting import escaped
from ti_core.records import BaseModelInfo, Champion
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.settings import Settings

log = logging.getLogger(__name__)


def generate(
    prompt: str,
    out: Path,
    seeds: Sequence[int],
    config: EvaluationConfig,
    base_model: str,
    settings: Settings,
) -> list[Path]:
    """Make one PNG per seed from `prompt`, in which `<name>`, in capitals or not, stands for the champion of that
    concept.

    Each picture holds prompt, seed, words with their versions, base model and sampler as text. What looks like a
    mistake in the prompt is warned of.

    One seed writes `out`; several write `out` with -1, -2, … before its suffix. `base_model` "" is the settings' own.
    Raises NotFoundError for a word that is not published for this base model, InputError for a prompt that is too long
    or no text, a word made for other weights of the same name, or an `out` that cannot be written.
    """
    settings.check_place(base_model, settings.base_model)
    base = find_base(base_model or settings.base_model)
    if re.search("[\ud800-\udfff]", prompt):  # how Python reads a byte that is no UTF-8
        raise InputError(f"The prompt {escaped(prompt)} is no text: some of its bytes are no UTF-8.")
    for text in noticed(prompt, {row.concept for row in published(base.slug, settings=settings)}):
        log.warning("%s", text)
    found = [vectors(name, base.slug, settings) for name in words_in(prompt)]
    words = {one.placeholder: rows for one, rows in found}
    for one, _ in found:
        if one.base_digest != base.digest:
            raise InputError(
                f"The word {one.placeholder} was made for other weights than those of {base.name} here (digest "
                f"{one.base_digest[:12]}, not {base.digest[:12]}): name the base model it was trained on, or train "
                "it anew."
            )
    resolved = config.resolved(base.kind)
    how = Sampling(resolved.sampler or "ddim", resolved.sampler_steps, resolved.guidance, base.resolution)
    with resident(base, settings.device, precision=settings.precision) as model:
        jobs = encode(model, [prompt], words).repeat_interleave(len(seeds))
        pictures = sample(model, jobs, list(seeds), how)
    paths = [out] if len(seeds) == 1 else [out.with_stem(f"{out.stem}-{n + 1}") for n in range(len(seeds))]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, picture, seed in zip(paths, pictures, seeds, strict=True):
            Image.fromarray(picture).save(
                path, "PNG", pnginfo=_told(prompt, seed, base, how, [one for one, _ in found])
            )
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.") from None
    return paths


def _told(prompt: str, seed: int, base: BaseModelInfo, how: Sampling, words: Sequence[Champion]) -> PngInfo:
    """What a picture says of how it was made."""
    told = PngInfo()
    fields = {
        "prompt": prompt,
        "seed": str(seed),
        "words": ", ".join(f"{one.placeholder} version {one.version}, step {one.step}" for one in words),
        "base_model": f"{base.name} ({base.digest[:12]})",
        "sampler": f"{how.sampler}, {how.steps} steps, guidance {how.guidance:g}",
        "software": f"Pseudoword {__version__}",
    }
    for name, text in fields.items():
        told.add_itxt(name, text)
    return told
