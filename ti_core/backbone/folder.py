"""Find a base model on disk and check it, without torch: `miniature`, a diffusers folder, or a hub name.

It reads JSON, safetensors headers and bytes to digest; it does not load weights and does not know what they compute.
"""

import hashlib
import json
import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from ti_core.config import BackboneKind, base_slug
from ti_core.errors import InputError
from ti_core.records import BaseModelInfo, JudgeInfo

MINIATURE = Path(str(files("ti_core") / "miniature"))
"""Folder of the shipped miniature: `mini-sd` (diffusers layout) and `mini-clip` (open_clip's local-dir layout)."""

PARTS = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
"""Sub-folders with weights, and the file each must hold. Nothing pickled is ever read."""
CONFIGS = ("model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in PARTS))


def find_base(name: str) -> BaseModelInfo:
    """Find and check the base model `name`.

    Raises InputError when there is none, when it is damaged, or when it is of a kind that is not supported.
    """
    folder = _folder(name)
    for config in CONFIGS:
        _json(folder / config)
    pipeline = _json(folder / "model_index.json").get("_class_name")
    if pipeline != "StableDiffusionPipeline":
        raise InputError(
            f"{folder} holds a {pipeline}, which is not supported: name a Stable Diffusion 1.x folder "
            "(StableDiffusionPipeline)."
        )
    for part, weights in PARTS.items():
        check_safetensors(folder / part / weights)
    _vocabulary(folder / "tokenizer")
    kind: BackboneKind = "miniature" if name == "miniature" else "sd1"
    blocks = len(_setting(folder / "vae/config.json", "block_out_channels", list))
    return BaseModelInfo(
        name=name,
        slug=base_slug(name),
        folder=str(folder),
        kind=kind,
        digest=_digest_files(folder, _used_files(folder)),
        resolution=_setting(folder / "unet/config.json", "sample_size", int) * 2 ** (blocks - 1),
    )


def find_judge(name: str, kind: BackboneKind) -> JudgeInfo:
    """Find the CLIP that judges: a folder, `ARCHITECTURE/PRETRAINED` of open_clip, or "" for the kind's own.

    Raises InputError for a folder that does not hold open_clip's local-dir layout.
    """
    if not name and kind == "sd1":
        name = "ViT-B-32/openai"  # the paper's judge, arXiv 2208.01618 section 5
    folder = Path(name).expanduser() if name else MINIATURE / "mini-clip"
    if folder.is_dir():
        _json(folder / "open_clip_config.json")
        check_safetensors(folder / "open_clip_model.safetensors")
        used = [
            str(path.relative_to(folder))
            for path in folder.iterdir()
            if path.suffix in {".json", ".safetensors", ".txt"}
        ]
        return JudgeInfo(
            name=name or "miniature", location=f"local-dir:{folder.resolve()}", digest=_digest_files(folder, used)
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
    vocabulary = _vocabulary(Path(base.folder) / "tokenizer")
    unknown = [word for word in phrase.lower().split() if f"{_written(word)}</w>" not in vocabulary]
    if unknown:
        from difflib import get_close_matches

        words = [token.removesuffix("</w>") for token in vocabulary if token.endswith("</w>") and token[:-4].isalpha()]
        close = get_close_matches(unknown[0], words, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else " Take a plainer word: animal, toy, food."
        raise InputError(f"Unknown class word: {base.name} does not know the word {unknown[0]!r}.{hint}")


def check_safetensors(path: Path) -> None:
    """Raise InputError unless `path` is a complete safetensors file, judged by its header and its size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length) if length < size else b"")
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        whole = 8 + length + end == size
    except FileNotFoundError:
        raise InputError(f"The model folder is not complete: there is no {path}.") from None
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise InputError(f"{path} is damaged or cut short; copy the model folder again.")


def _folder(name: str) -> Path:
    if name == "miniature":
        return MINIATURE / "mini-sd"
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"There is no base model {name!r}: name `miniature`, a diffusers folder or a hub name (owner/model)."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        wanted = ["*.json", "*.txt", *(f"{part}/{weights}" for part, weights in PARTS.items())]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            f"The base model {name} is neither a folder here nor to be had from the hub ({type(error).__name__})."
        ) from None


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


def _used_files(folder: Path) -> list[str]:
    tokenizer = [
        f"tokenizer/{path.name}" for path in (folder / "tokenizer").glob("*") if path.suffix in {".json", ".txt"}
    ]
    return [*CONFIGS, *(f"{part}/{weights}" for part, weights in PARTS.items()), *tokenizer]


def _digest_files(folder: Path, names: list[str]) -> str:
    whole = hashlib.sha256()
    for name in sorted(names):
        stat = (folder / name).stat()
        whole.update(f"{name}\0{_digest_file(folder / name, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return whole.hexdigest()


@lru_cache(maxsize=256)
def _digest_file(path: Path, size: int, modified: int) -> str:  # size and time are part of the cache's key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
