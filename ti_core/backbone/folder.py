"""Find a base model on disk and check it, without torch: `miniature`, a diffusers folder, a single file, a hub name.

It reads JSON, safetensors headers and bytes to digest; it does not load weights and does not know what they compute.
"""

import hashlib
import json
import re
from collections.abc import Container
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from ti_core.backbone.checkpoint import configuration, configuration_of_file
from ti_core.config import BackboneKind, base_slug
from ti_core.errors import InputError
from ti_core.nouns import everyday
from ti_core.records import BaseModelInfo, JudgeInfo

try:
    MINIATURE: Path | None = Path(str(files("pseudoword_miniature")))
except ModuleNotFoundError:
    MINIATURE = None
"""Folder of the miniature's weights, a distribution of their own: `mini-sd` (diffusers layout) and `mini-clip`
(open_clip's local-dir layout). None where they are not installed."""

PIPELINES: dict[str, tuple[BackboneKind, ...]] = {
    "StableDiffusionPipeline": ("sd1", "sd2", "miniature"),
    "StableDiffusionXLPipeline": ("sdxl",),
}
"""diffusers' class that model_index.json names → kinds it may be."""
NETWORKS = {"unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors"}
ENCODERS = {"text_encoder": "model.safetensors"}
PARTS: dict[BackboneKind, dict[str, str]] = {
    "miniature": ENCODERS | NETWORKS,
    "sd1": ENCODERS | NETWORKS,
    "sd2": ENCODERS | NETWORKS,
    "sdxl": ENCODERS | {"text_encoder_2": "model.safetensors"} | NETWORKS,
}
"""Sub-folders with weights, and the file each must hold. Nothing pickled is ever read."""


def find_base(name: str) -> BaseModelInfo:
    """Find and check the base model `name`: `miniature`, a diffusers folder, a .safetensors file or a hub name.

    Raises InputError when there is none, when it is damaged, or when it is of a kind that is not supported.
    """
    file = Path(name).expanduser().resolve()
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
    used = _checked_configs(folder, kind)
    if not single:
        weights = [f"{part}/{file_name}" for part, file_name in PARTS[kind].items()]
        for path in weights:
            check_safetensors(folder / path)
        used += weights
    digest = _digest_files(folder, used)
    if single:
        digest = hashlib.sha256(f"{_digest_files(file.parent, [file.name], named=False)}{digest}".encode()).hexdigest()
    blocks = len(_setting(folder / "vae/config.json", "block_out_channels", list))
    return BaseModelInfo(
        name=name,
        slug=base_slug(name),
        folder=str(file if single else folder),
        kind=kind,
        digest=digest,
        resolution=_setting(folder / "unet/config.json", "sample_size", int) * 2 ** (blocks - 1),
    )


def _kind(folder: Path) -> BackboneKind:
    """The kind of a diffusers folder. The U-Net of SD 2.x projects with linear layers around its attention, that of
    1.x with convolutions: the weights have other shapes, so this setting can be relied on."""
    pipeline = _json(folder / "model_index.json").get("_class_name")
    kinds = PIPELINES.get(str(pipeline))
    if kinds is None:
        raise InputError(
            f"{folder} holds a {pipeline}, which is not supported: name a Stable Diffusion 1.x or 2.x "
            "(StableDiffusionPipeline) or XL (StableDiffusionXLPipeline) folder."
        )
    if "sd2" in kinds and _json(folder / "unet/config.json").get("use_linear_projection"):
        return "sd2"
    return kinds[0]


def _checked_configs(folder: Path, kind: BackboneKind) -> list[str]:
    """Names of the configuration files of a base model, checked."""
    parts = PARTS[kind]
    configs = ["model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in parts)]
    for config in configs:
        _json(folder / config)
    predicted = _json(folder / configs[1]).get("prediction_type", "epsilon")
    if predicted not in ("epsilon", "v_prediction"):
        raise InputError(
            f"{folder} predicts {predicted}, which is not supported: name a model of noise or v prediction."
        )
    channels = _setting(folder / "unet/config.json", "in_channels", int)
    latent = _json(folder / "vae/config.json").get("latent_channels", 4)
    if channels != latent:
        raise InputError(
            f"The U-Net in {folder} reads {channels} channels and the VAE makes {latent}: it is made for inpainting or "
            "the like; name the plain text-to-image model."
        )
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
    folder = Path(name).expanduser() if name else _miniature() / "mini-clip"
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
    vocabulary = _vocabulary(configuration(base) / "tokenizer")
    unknown = [word for word in phrase.lower().split() if not _knows(vocabulary, word)]
    if unknown:
        from difflib import get_close_matches

        # Not the vocabulary's own tokens: many are pieces of words, which say nothing to a person.
        close = get_close_matches(unknown[0], [noun for noun in everyday() if _knows(vocabulary, noun)], n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else " Take a plainer word: cat, robot, person."
        raise InputError(f"Unknown class word: {base.name} does not know the word {unknown[0]!r}.{hint}")


def known_nouns(base: BaseModelInfo) -> tuple[str, ...]:
    """The everyday nouns that the base model knows as words."""
    vocabulary = _vocabulary(configuration(base) / "tokenizer")
    return tuple(noun for noun in everyday() if _knows(vocabulary, noun))


def _knows(vocabulary: Container[str], word: str) -> bool:
    return f"{_written(word)}</w>" in vocabulary


def check_safetensors(path: Path) -> None:
    """Raise InputError unless `path` is a complete safetensors file, judged by its header and its size."""
    try:
        with safe_open(path, "numpy"):
            pass
    except FileNotFoundError:
        raise InputError(f"The model folder is not complete: there is no {path}.") from None
    except (SafetensorError, OSError):
        raise InputError(f"{path} is damaged or cut short; copy the model folder again.") from None


def _folder(name: str) -> Path:
    if name == "miniature":
        return _miniature() / "mini-sd"
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"There is no base model {name!r}: name `miniature`, a diffusers folder, a .safetensors file "
            "or a hub name (owner/model)."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        wanted = ["*.json", "*.txt", *(f"{part}/{weights}" for part, weights in PARTS["sdxl"].items())]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            f"The base model {name} is neither a folder here nor to be had from the hub ({type(error).__name__})."
        ) from None


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


def _digest_files(folder: Path, names: list[str], *, named: bool = True) -> str:
    whole = hashlib.sha256()
    for name in sorted(names):
        stat = (folder / name).stat()
        whole.update(
            f"{name if named else ''}\0{_digest_file(folder / name, stat.st_size, stat.st_mtime_ns)}\n".encode()
        )
    return whole.hexdigest()


@lru_cache(maxsize=256)
def _digest_file(path: Path, size: int, modified: int) -> str:  # size and time are part of the cache's key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
