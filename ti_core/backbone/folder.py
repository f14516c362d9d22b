"""Find a base model on disk and check it, without torch: `miniature`, a diffusers folder, a single file, a hub name.

It reads JSON, safetensors headers and bytes to digest; it does not load weights and does not know what they compute.
"""

import hashlib
import json
import re
from collections.abc import Collection, Container
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from ti_core.backbone.checkpoint import configuration, configuration_of_file
from ti_core.backbone.digests import digest_files
from ti_core.backbone.hub import HubName, UnreachableError, hub_name
from ti_core.backbone.supported import kinds_of, refused
from ti_core.backbone.weights import check_safetensors, checked, choose_listed, files_of
from ti_core.config import BackboneKind, base_slug
from ti_core.errors import InputError
from ti_core.nouns import everyday
from ti_core.records import BaseModelInfo, JudgeInfo
from ti_core.settings import expanded

try:
    MINIATURE: Path | None = Path(str(files("pseudoword_miniature")))
except ModuleNotFoundError:
    MINIATURE = None
"""Folder of the miniature's weights, a distribution of their own: `mini-sd` (diffusers layout) and `mini-clip`
(open_clip's local-dir layout). None where they are not installed."""

PARTS: dict[BackboneKind, tuple[str, ...]] = {
    "miniature": ("text_encoder", "unet", "vae"),
    "sd1": ("text_encoder", "unet", "vae"),
    "sd2": ("text_encoder", "unet", "vae"),
    "sdxl": ("text_encoder", "text_encoder_2", "unet", "vae"),
}
"""Sub-folders with weights. Nothing pickled is ever read."""
TEXT_ENCODERS: dict[BackboneKind, dict[str, str]] = {
    "miniature": {"clip_l": "text_encoder"},
    "sd1": {"clip_l": "text_encoder"},
    "sd2": {"clip_h": "text_encoder"},
    "sdxl": {"clip_l": "text_encoder", "clip_g": "text_encoder_2"},
}
"""The text encoders, by the names that words' files have for them, and their sub-folders."""
CONFIGURATION = ["*.json", "*.txt"]
"""What a model's configuration and tokenizers are made of, and the indices of sharded weights."""


def find_base(name: str) -> BaseModelInfo:
    """Find and check the base model `name`: `miniature`, a diffusers folder, a .safetensors file or a hub name
    (`owner/model`, `owner/model@revision`).

    Raises InputError when there is none, when it is damaged, or when it is of a kind that is not supported.
    """
    file = expanded(name).resolve()
    single = name.endswith(".safetensors") and file.is_file()
    if single:
        check_safetensors(file)
        wanted, folder = configuration_of_file(file)
    else:
        wanted, folder = None, _folder(name)
    kind = "miniature" if name == "miniature" else _kind(folder)
    if wanted not in (None, kind):
        raise InputError(
            f"{file} is an {wanted} checkpoint, but {folder} configures an {kind}: put the right one there."
        )
    used = _checked_configs(name, folder, kind)
    if not single:
        used += checked(folder, PARTS[kind])
    variant = "fp16" if any(".fp16" in file for file in used) else ""
    digest = digest_files(folder, used)
    if single:
        digest = hashlib.sha256(f"{digest_files(file.parent, [file.name], named=False)}{digest}".encode()).hexdigest()
    blocks = len(_setting(folder / "vae/config.json", "block_out_channels", list))
    return BaseModelInfo(
        name=name,
        slug=base_slug(name),
        folder=str(file if single else folder),
        kind=kind,
        digest=digest,
        resolution=_setting(folder / "unet/config.json", "sample_size", int) * 2 ** (blocks - 1),
        variant=variant,
        prediction=_json(folder / "scheduler/scheduler_config.json").get("prediction_type", "epsilon"),
    )


def _kind(folder: Path) -> BackboneKind:
    """The kind of a diffusers folder. The U-Net of SD 2.x projects with linear layers around its attention, that of
    1.x with convolutions: the weights have other shapes, so this setting can be relied on."""
    kinds = kinds_of(str(_json(folder / "model_index.json").get("_class_name")), folder)
    if "sd2" in kinds and _json(folder / "unet/config.json").get("use_linear_projection"):
        return "sd2"
    return kinds[0]


def _checked_configs(name: str, folder: Path, kind: BackboneKind) -> list[str]:
    """Names of the configuration files of the base model `name`, checked."""
    parts = PARTS[kind]
    configs = ["model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in parts)]
    read = {config: _json(folder / config) for config in configs}
    called = "" if kind == "miniature" else name.rstrip("/").rpartition("/")[2]
    _setting(folder / "unet/config.json", "in_channels", int)
    reason = refused(called, read[configs[1]], read["unet/config.json"], read["vae/config.json"])
    if reason:
        raise InputError(f"{folder} is not supported: {reason}.")
    tokenizers = ["tokenizer", "tokenizer_2"] if "text_encoder_2" in parts else ["tokenizer"]
    for tokenizer in tokenizers:
        _vocabulary(folder / tokenizer)
    return configs + [
        f"{tokenizer}/{path.name}"
        for tokenizer in tokenizers
        for path in (folder / tokenizer).glob("*")
        if path.suffix in {".json", ".txt"}
    ]


def find_judge(name: str, kind: BackboneKind) -> JudgeInfo:
    """Find the CLIP that judges: a folder, `ARCHITECTURE/PRETRAINED` of open_clip, or "" for the kind's own.

    Raises InputError for a folder that does not hold open_clip's local-dir layout.
    """
    if not name and kind != "miniature":
        name = "ViT-B-32/openai"  # the paper's judge, arXiv 2208.01618 section 5
    folder = expanded(name) if name else _miniature() / "mini-clip"
    if folder.is_dir():
        _json(folder / "open_clip_config.json")
        check_safetensors(folder / "open_clip_model.safetensors")
        used = [
            str(path.relative_to(folder))
            for path in folder.iterdir()
            if path.suffix in {".json", ".safetensors", ".txt"}
        ]
        return JudgeInfo(
            name=name or "miniature", location=f"local-dir:{folder.resolve()}", digest=digest_files(folder, used)
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"{name} is no CLIP: name a folder with open_clip_config.json, or ARCHITECTURE/PRETRAINED.")
    # open_clip's pretrained tags are fixed to one file each, so the tag stands for the weights.
    return JudgeInfo(name=name, location=name, digest=hashlib.sha256(name.encode()).hexdigest())


def check_class_word(phrase: str, base: BaseModelInfo) -> None:
    """Raise InputError unless every word of `phrase` is one token of the base model's vocabulary.

    A word that the tokenizer must break into pieces is one the base model hardly knows; it would be a poor start and
    a poor baseline. The vocabulary is read from the folder, without a tokenizer.
    """
    vocabulary = _vocabulary(configuration(base) / "tokenizer")
    unknown = [word for word in phrase.lower().split() if not _knows(vocabulary, word)]
    if unknown:
        from difflib import get_close_matches

        # Not the vocabulary's own tokens: many are pieces of words, which say nothing to a person.
        close = get_close_matches(unknown[0], [noun for noun in everyday() if _knows(vocabulary, noun)], n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else " Take a plainer word: cat, robot, person."
        raise InputError(f"Unknown class word: {base.name} does not know the word {unknown[0]!r}.{hint}")


def text_widths(base: BaseModelInfo) -> dict[str, int]:
    """The width of each text encoder, by the name that words' files have for it."""
    folder = configuration(base)
    parts = TEXT_ENCODERS[base.kind]
    return {name: _setting(folder / part / "config.json", "hidden_size", int) for name, part in parts.items()}


def known_nouns(base: BaseModelInfo) -> tuple[str, ...]:
    """The everyday nouns that the base model knows as words."""
    vocabulary = _vocabulary(configuration(base) / "tokenizer")
    return tuple(noun for noun in everyday() if _knows(vocabulary, noun))


def _knows(vocabulary: Container[str], word: str) -> bool:
    return f"{_written(word)}</w>" in vocabulary


def _folder(name: str) -> Path:
    if name == "miniature":
        return _miniature() / "mini-sd"
    folder = expanded(name)
    if name and folder.is_dir():
        return folder.resolve()
    repository = hub_name(name)
    if repository is None:
        raise InputError(
            f"There is no base model {name!r}: name `miniature`, a diffusers folder, a .safetensors file "
            "or a hub name (owner/model or owner/model@revision)."
        )
    return _from_hub(name, repository)


def _from_hub(name: str, repository: HubName) -> Path:
    """The folder of a hub's model: from the cache if that holds all of it, else what is missing is downloaded."""
    there = repository.cached(["model_index.json"])
    if there and is_whole(name, there):
        return there
    try:
        folder = repository.download(CONFIGURATION)
        kind = _kind(folder)  # what is not supported is refused before gigabytes of it come
        _checked_configs(name, folder, kind)
        return repository.download(CONFIGURATION + _weights_listed(kind, folder, repository.listing()))
    except UnreachableError:
        if there is None:
            raise
        return there  # which file it lacks is told by whoever reads it


def is_whole(name: str, folder: Path) -> bool:
    """Whether the snapshot `folder` of the hub's model `name` holds all that a run reads of it."""
    try:
        kind = _kind(folder)
        _checked_configs(name, folder, kind)
        checked(folder, PARTS[kind])
    except InputError:
        return False
    return True


def _weights_listed(kind: BackboneKind, folder: Path, listing: Collection[str]) -> list[str]:
    """The files of a repository that hold the weights; the indices of sharded ones lie in `folder` already."""
    names = []
    for part in PARTS[kind]:
        found = choose_listed(part, listing)
        if found:  # what is missing is told by whoever reads it
            names += [f"{part}/{name}" for name in files_of(found, folder / part)]
    return names


def _miniature() -> Path:
    if MINIATURE is None:
        raise InputError(
            "The miniature's weights are not installed here: pip install pseudoword-miniature, or name another base "
            "model."
        )
    return MINIATURE


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"The model folder is not complete: there is no {path}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object.")
    return value


T = TypeVar("T")


def _setting(config: Path, name: str, kind: type[T]) -> T:
    value = _json(config).get(name)
    if not isinstance(value, kind):
        raise InputError(f"{config} is damaged: its {name} is {value!r}.")
    return value


def _vocabulary(tokenizer: Path) -> dict[str, int]:
    whole = tokenizer / "tokenizer.json"
    if whole.is_file():
        model = _json(whole).get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(vocabulary, dict):
            raise InputError(f"{whole} is damaged: it holds no vocabulary.")
        return vocabulary
    if not (tokenizer / "merges.txt").is_file():
        raise InputError(f"The model folder is not complete: there is no {tokenizer / 'merges.txt'}.")
    return _json(tokenizer / "vocab.json")


def _written(word: str) -> str:
    """`word` as byte-level vocabularies write it: each byte of its UTF-8 is one printable character (é becomes Ã©)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte if byte in printable else 256 + others.index(byte)) for byte in word.encode())
