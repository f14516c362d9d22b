"""A base model in one .safetensors file, in the layout it was first published in; without torch.

Such a file holds weights alone. Which kind it is shows in the names of its tensors; configuration and tokenizers come
from a diffusers folder beside it, or from the hub's folder of its kind. This module reads headers only.
"""

from pathlib import Path

from safetensors import safe_open

from ti_core.backbone.hub import UnreachableError, hub_name
from ti_core.backbone.supported import FLUX, INPAINTING, REFINER, SD3
from ti_core.config import BackboneKind
from ti_core.errors import InputError
from ti_core.records import BaseModelInfo

SIGNS: dict[str, BackboneKind] = {
    "conditioner.embedders.1.model.positional_embedding": "sdxl",
    "cond_stage_model.model.positional_embedding": "sd2",
    "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": "sd1",
}
"""A tensor of the (last) text encoder of each kind."""
OTHERS = {
    "conditioner.embedders.0.model.positional_embedding": REFINER,
    "model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": SD3,
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": FLUX,
    "double_blocks.0.img_attn.qkv.weight": FLUX,
}
"""A tensor of each kind that is known and not supported → what it is, in words."""
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
"""Of the U-Net, [320, channels, 3, 3]: an inpainting model reads 9 channels."""
PUBLISHED: dict[BackboneKind, str] = {
    "sd1": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
"""Hub folders whose configuration fits every file of a kind. SD 2.x has none: a file does not tell whether it predicts
noise (512 px) or v (768 px), and the wrong one would train to nonsense in silence."""

CONFIGURED = ("model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt",
              "text_encoder/config.json", "unet/config.json", "vae/config.json")  # fmt: skip
"""What a single file needs of such a folder."""


def is_file(base: BaseModelInfo) -> bool:
    """Whether the base model is a single file."""
    return base.folder.endswith(".safetensors")


def configuration(base: BaseModelInfo) -> Path:
    """The folder with a base model's configuration and tokenizers: its own, or the one that goes with its file."""
    return configuration_of_file(Path(base.folder))[1] if is_file(base) else Path(base.folder)


def configuration_of_file(file: Path) -> tuple[BackboneKind, Path]:
    """Return the kind of a single file and the folder with its configuration and tokenizers.

    Raises InputError when the kind is not supported, or when there is no such folder.
    """
    kind, names = _kind(file)
    beside = file.with_suffix("")
    if beside.is_dir():
        return kind, beside
    repository = "" if "v_pred" in names else PUBLISHED.get(kind, "")
    found = hub_name(repository)
    second = ["text_encoder_2/config.json", "tokenizer_2/merges.txt"] if kind == "sdxl" else []
    if found:
        try:
            return kind, found.cached([*CONFIGURED, *second]) or found.download(["*.json", "*.txt"])
        except UnreachableError:
            pass
    source = f" of {repository}, or of any folder like it," if repository else " of the folder it was made from"
    raise InputError(
        f"{file} holds weights alone, and their configuration is not here: put model_index.json and the folders "
        f"scheduler, tokenizer, text_encoder, {'tokenizer_2, text_encoder_2, ' if kind == 'sdxl' else ''}unet and vae"
        f"{source} without their weights into {beside}."
    )


def _kind(file: Path) -> tuple[BackboneKind, set[str]]:
    """The kind of a single file and the names of its tensors. Raises InputError when the kind is not supported."""
    with safe_open(file, "numpy") as opened:
        names = set(opened.keys())
        channels = opened.get_slice(FIRST_LAYER).get_shape()[1] if FIRST_LAYER in names else 0
    other = INPAINTING if channels == 9 else next((OTHERS[sign] for sign in OTHERS if sign in names), "")
    if other:
        raise InputError(f"{file} holds {other}. That is not supported here; Stable Diffusion 1.x, 2.x and XL are.")
    kind = next((kind for sign, kind in SIGNS.items() if sign in names), None)
    if kind is None:
        addition = " It is a LoRA, an addition to a base model." if any("lora" in name for name in names) else ""
        raise InputError(
            f"{file} is no complete Stable Diffusion 1.x, 2.x or XL checkpoint: it holds no text encoder of theirs."
            f"{addition} Name a checkpoint with all parts, or a diffusers folder."
        )
    return kind, names
