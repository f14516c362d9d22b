"""Small real models for tests: the shipped miniature, loaded once, and random Stable Diffusion folders.

`save_sd1`, `save_sd2` and `save_sdxl` write what their folders hold, with every dimension made tiny. For SD 1.5 that
is a tokenizer of vocab.json and merges.txt, a CLIP text encoder of width 32, a U-Net, a VAE, the last three with
tensors named as in published weights, and a PNDM scheduler. Its weights are random, so it shows that code agrees with
code, never that anything is learned.
"""

import json
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.backbone.sd1 import ENCODER
from ti_core.config import Precision, TrainingConfig
from ti_core.training.events import CheckpointReady, ConceptJob, Event
from ti_core.training.state import TrainingState

KNOWN = ("a", "photo", "of", "the", "in", "style", "dog", "cat", "toy", "red", "hat", "small")
"""Words that are one token each in the tiny folder's vocabulary."""
PUBLISHED_VAE = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Attention weights of published VAEs still have their first names."""
SIDE = 16
"""Pixels a side of the tiny folder's pictures; its latents are half as wide."""


@cache
def miniature() -> Backbone:
    """The shipped miniature on the CPU, loaded once in a test process."""
    return load(find_base("miniature"), torch.device("cpu"))


@cache
def tiny_sd1(dtype: torch.dtype | None = None, precision: Precision = "") -> Backbone:
    """A tiny random SD 1.x on the CPU, made once in a test process: ten times faster than the miniature."""
    with tempfile.TemporaryDirectory() as folder:
        return load(find_base(str(save_sd1(Path(folder) / "tiny-sd1"))), torch.device("cpu"), dtype, precision)


def stock_pipeline(folder: Path | str) -> Any:
    """A fresh stock pipeline in fp32 on a model folder."""
    pipeline = DiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_sd1(folder: Path, *, legacy_eos: bool = True, seed: int = 0) -> Path:
    """Write a tiny random SD 1.x folder. `legacy_eos` writes eos_token_id 2, as SD 1.4 and 1.5 do, else the real id."""
    torch.manual_seed(seed)
    vocabulary = _save_tokenizer(folder / "tokenizer")
    _save_text_encoder(folder / "text_encoder", len(vocabulary), legacy_eos)
    _save_networks(folder, cross_attention_dim=32)
    _rename(folder / "vae/diffusion_pytorch_model.safetensors", PUBLISHED_VAE)
    PNDMScheduler(**NOISE, skip_prk_steps=True, steps_offset=1).save_pretrained(folder / "scheduler")
    return _save_index(folder, "StableDiffusionPipeline", "PNDMScheduler", requires_safety_checker=False)


def save_sd2(folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny random SD 2.1 folder: OpenCLIP's activation, padding with `!`, v prediction."""
    torch.manual_seed(seed)
    vocabulary = _save_tokenizer(folder / "tokenizer", pad="!")
    _save_text_encoder(folder / "text_encoder", len(vocabulary), legacy_eos=True, hidden_act="gelu")
    _save_networks(folder, cross_attention_dim=32, use_linear_projection=True)
    DDIMScheduler(
        **NOISE, prediction_type="v_prediction", steps_offset=1, set_alpha_to_one=False, clip_sample=False
    ).save_pretrained(folder / "scheduler")
    return _save_index(folder, "StableDiffusionPipeline", "DDIMScheduler", requires_safety_checker=False)


def save_sdxl(folder: Path, *, zeros: bool = True, seed: int = 0) -> Path:
    """Write a tiny random SDXL folder: text encoders of width 32 and 48, the published eos_token_id 2 in both, size
    conditions, an Euler scheduler. `zeros` is its force_zeros_for_empty_prompt."""
    torch.manual_seed(seed)
    vocabulary = _save_tokenizer(folder / "tokenizer")
    _save_tokenizer(folder / "tokenizer_2", pad="!")
    _save_text_encoder(folder / "text_encoder", len(vocabulary), legacy_eos=True)
    CLIPTextModelWithProjection(
        _text_config(len(vocabulary), True, hidden_act="gelu", hidden_size=48, projection_dim=40)
    ).save_pretrained(folder / "text_encoder_2")
    _save_networks(
        folder, cross_attention_dim=80, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 40,
    )  # fmt: skip
    EulerDiscreteScheduler(**NOISE, steps_offset=1, timestep_spacing="leading").save_pretrained(folder / "scheduler")
    return _save_index(
        folder, "StableDiffusionXLPipeline", "EulerDiscreteScheduler", force_zeros_for_empty_prompt=zeros
    )


NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _save_networks(folder: Path, **unet: Any) -> None:
    UNet2DConditionModel(
        sample_size=SIDE // 2, block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **unet,
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        sample_size=SIDE, block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
    ).save_pretrained(folder / "vae")  # fmt: skip


def _save_index(folder: Path, pipeline: str, scheduler: str, **settings: Any) -> Path:
    index: dict[str, Any] = {
        "_class_name": pipeline,
        "feature_extractor": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if pipeline == "StableDiffusionXLPipeline":
        index["image_encoder"] = [None, None]
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    else:
        index["safety_checker"] = [None, None]
    _write_json(folder / "model_index.json", index | settings)
    return folder


def save_vit(folder: Path, seed: int = 0) -> Path:
    """Write a tiny random vision transformer in transformers' layout, with its picture processor."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> dict[str, int]:
    """CLIP's vocabulary in small, in CLIP's order: letters, letters that end a word, merges, special tokens."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in KNOWN:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merged = pieces[0] + pieces[1]
            if (pieces[0], pieces[1]) not in merges:
                merges.append((pieces[0], pieces[1]))
                vocabulary.append(merged)
            pieces = [merged, *pieces[2:]]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    numbered = {token: number for number, token in enumerate(vocabulary)}
    _write_json(folder / "vocab.json", numbered)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokens = {name: {"content": token, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
              for name, token in special.items()}  # fmt: skip
    _write_json(folder / "special_tokens_map.json", tokens | {"pad_token": pad})
    typed = {name: {"__type": "AddedToken"} | token for name, token in tokens.items()}
    _write_json(
        folder / "tokenizer_config.json",
        typed | {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
                 "pad_token": pad, "tokenizer_class": "CLIPTokenizer"},
    )  # fmt: skip
    return numbered


def _text_config(vocabulary: int, legacy_eos: bool, **settings: Any) -> CLIPTextConfig:
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1} if legacy_eos else {
        "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}  # fmt: skip
    chosen: dict[str, Any] = {"hidden_size": 32, "hidden_act": "quick_gelu"} | settings
    return CLIPTextConfig(
        vocab_size=vocabulary, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, **ids, **chosen,
    )  # fmt: skip


def _save_text_encoder(folder: Path, vocabulary: int, legacy_eos: bool, **settings: Any) -> None:
    CLIPTextModel(_text_config(vocabulary, legacy_eos, **settings)).save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(file).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
    save_file(tensors, file, metadata={"format": "pt"})


def _rename(file: Path, names: dict[str, str]) -> None:
    tensors = load_file(file)
    for new, old in names.items():
        tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    save_file(tensors, file, metadata={"format": "pt"})


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def job(
    model: Backbone,
    name: str = "cat-toy",
    *,
    start_phrase: str = "toy",
    vectors: int = 1,
    templates: tuple[str, ...] = ("a photo of a {}", "a picture of the {}", "a small {}"),
    pictures: int = 4,
    pictures_seed: int = 0,
    broken: bool = False,
    resume: TrainingState | None = None,
    **config: Any,
) -> ConceptJob:
    """A concept for the trainer. Its latents are smooth fields drawn from `pictures_seed`, or NaN if it is `broken`;
    `config` overrides 12 steps of 2 samples with a checkpoint every 6."""
    side = model.unet.config.sample_size
    random = torch.Generator().manual_seed(pictures_seed)
    coarse = torch.randn((pictures, model.unet.config.in_channels, 2, 2), generator=random)
    mean = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    chosen: dict[str, Any] = {"steps": 12, "batch_size": 2, "learning_rate": 5e-3, "checkpoint_every": 6}
    return ConceptJob(
        key=name,
        name=name,
        placeholder=f"<{name}>",
        start_phrase=start_phrase,
        vectors=vectors,
        templates=templates,
        config=TrainingConfig(**(chosen | config)),
        mean=mean * float("nan") if broken else mean,
        std=torch.full_like(mean, 0.05),
        resume=resume,
    )


def checkpoints(events: Iterable[Event], concept: str = "cat-toy") -> list[CheckpointReady]:
    return [event for event in events if isinstance(event, CheckpointReady) and event.key == concept]


def last_vectors(events: Iterable[Event], concept: str = "cat-toy") -> torch.Tensor:
    return checkpoints(events, concept)[-1].state.vectors[ENCODER]
