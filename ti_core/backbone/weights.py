"""Which files hold the weights of a base model's part: one file or shards, in full or as the fp16 variant.

It knows names and headers, as diffusers and transformers write them, and no tensors.
"""

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ti_core.errors import InputError

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
"""What diffusers calls the weights of a part; transformers' (the text encoders') are `model`."""
VARIANTS = ("", "fp16")
"""Full weights first: where a folder has both, those of fewer digits are for whoever has nothing else."""


@dataclass(frozen=True)
class PartWeights:
    """The weights of one part: the file that a loader opens first, or the index of its shards; "" or the variant."""

    first: str
    variant: str

    @property
    def sharded(self) -> bool:
        """Whether `first` is an index."""
        return self.first.endswith(".json")


def choose(part: str, there: Callable[[str], bool]) -> PartWeights | None:
    """Choose among the files of a part's folder that are `there`; None where there are no safetensors weights.

    Where one file and shards lie side by side, it is the one that the part's library loads.
    """
    stem = STEMS.get(part, "model")
    for variant in VARIANTS:
        dotted = f".{variant}" if variant else ""
        single, index = f"{stem}{dotted}.safetensors", f"{stem}.safetensors.index{dotted}.json"
        for name in (index, single) if part in STEMS else (single, index):
            if there(name):
                return PartWeights(name, variant)
    return None


def choose_listed(part: str, listing: Collection[str]) -> PartWeights | None:
    """`choose` for a part of a repository whose files are `listing`."""
    return choose(part, lambda name: f"{part}/{name}" in listing)


def weights_in(folder: Path) -> PartWeights:
    """The weights of the part in `folder`, whose name is the part's.

    Raises InputError, naming the file that is missing, when there are none.
    """
    found = choose(folder.name, lambda name: (folder / name).exists())
    if found:
        return found
    missing = folder / f"{STEMS.get(folder.name, 'model')}.safetensors"
    if any(folder.glob("*.bin")):
        raise InputError(
            f"{folder} holds its weights as .bin, a format that can run code when it is read, and no {missing.name}: "
            "name a model with safetensors weights, or convert it (diffusers: `save_pretrained` writes them)."
        )
    raise InputError(f"The model folder is not complete: there is no {missing}.")


def files_of(weights: PartWeights, folder: Path) -> list[str]:
    """Names of all files of a part's weights, the index first. Raises InputError for a damaged index."""
    return [weights.first, *shards(folder / weights.first)] if weights.sharded else [weights.first]


def shards(index: Path) -> list[str]:
    """Names of the shards that an index names. Raises InputError when it is damaged."""
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is damaged: {error!r}.") from None
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise InputError(f"{index} is damaged: it names no files beside it.")
    return names


def check_safetensors(path: Path) -> None:
    """Raise InputError unless `path` is a complete safetensors file, judged by its header and its size."""
    try:
        with safe_open(path, "numpy"):
            pass
    except FileNotFoundError:
        raise InputError(f"The model folder is not complete: there is no {path}.") from None
    except (SafetensorError, OSError):
        raise InputError(f"{path} is damaged or cut short; copy the model folder again.") from None


def checked(folder: Path, parts: Iterable[str]) -> list[str]:
    """Names of the files that hold the weights of the `parts` of a model folder, each checked by its header.

    Raises InputError, naming the file, when one is missing or damaged.
    """
    names = []
    for part in parts:
        for name in files_of(weights_in(folder / part), folder / part):
            if name.endswith(".safetensors"):
                check_safetensors(folder / part / name)
            names.append(f"{part}/{name}")
    return names
