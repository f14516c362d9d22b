"""What the benchmark trains on: a model folder in fp32, or a full-size one with random weights, and concepts' pictures.

A benchmark of speed needs the shapes of Stable Diffusion, not its weights. The configurations are those of the public
models (stable-diffusion-v1-5, stable-diffusion-xl-base-1.0); `tiny` and `tiny-xl` have the same parts at toy width.
"""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ti_core.images.preprocess import square

CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"

FULL_SIZE: dict[str, dict[str, Any]] = {
    "sd15": {
        "resolution": 512, "latents": 0.18215, "vae": (128, 256, 512, 512), "vae_layers": 2, "tokens": 77,
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        "unet": {
            "block_out_channels": (320, 640, 1280, 1280), "cross": (1, 1, 1, 0), "attention_head_dim": 8,
            "cross_attention_dim": 768,
        },
    },
    "sdxl": {
        "resolution": 1024, "latents": 0.13025, "vae": (128, 256, 512, 512), "vae_layers": 2, "tokens": 77,
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        "text_2": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
        "unet": {
            "block_out_channels": (320, 640, 1280), "cross": (0, 1, 1), "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048, "transformer_layers_per_block": (1, 2, 10),
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
        },
    },
    "tiny": {
        "resolution": 64, "latents": 0.18215, "vae": (32, 32, 32, 32), "vae_layers": 1, "tokens": 77,
        "text": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        "unet": {
            "block_out_channels": (32, 64, 64, 64), "cross": (1, 1, 1, 0), "attention_head_dim": 8,
            "cross_attention_dim": 32,
        },
    },
    "tiny-xl": {
        "resolution": 64, "latents": 0.13025, "vae": (32, 32, 32, 32), "vae_layers": 1, "tokens": 77,
        "text": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        "text_2": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2},
        "unet": {
            "block_out_channels": (32, 64, 64), "cross": (0, 1, 1), "attention_head_dim": (2, 4, 4),
            "cross_attention_dim": 80, "transformer_layers_per_block": (1, 1, 2),
            "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 96,
        },
    },
}  # fmt: skip


def fp32_copy(base: Path, folder: Path) -> None:
    """Copy a model folder with all weights in fp32, configurations included: transformers obeys their `dtype`, and on
    fp16 weights the diffusers script trains to NaN without a word."""
    shutil.copytree(base, folder)
    for weights in folder.rglob("*.safetensors"):
        save_file({key: tensor.float() for key, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        if "dtype" in config:
            path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2))


def random_model(size: str, folder: Path, device: str) -> int:
    """Write a randomly initialised model folder of `size` (a key of `FULL_SIZE`); returns its resolution in pixels. On
    the device `meta` it is left without weights."""
    told = FULL_SIZE[size]
    large = "text_2" in told
    torch.manual_seed(0)
    words = _tokenizer(told["tokens"])
    words.save_pretrained(folder / "tokenizer")
    _text(CLIPTextModel, told["text"], words, folder / "text_encoder", device)
    if large:
        words.save_pretrained(folder / "tokenizer_2")
        _text(CLIPTextModelWithProjection, told["text_2"], words, folder / "text_encoder_2", device)
    unet = dict(told["unet"])
    cross = unet.pop("cross")
    if large:
        unet |= {"addition_embed_type": "text_time", "use_linear_projection": True}
    unet |= {
        "sample_size": told["resolution"] // 8,
        "down_block_types": tuple((CROSS if one else PLAIN).format("Down") for one in cross),
        "up_block_types": tuple((CROSS if one else PLAIN).format("Up") for one in reversed(cross)),
    }
    vae = {
        "block_out_channels": told["vae"], "layers_per_block": told["vae_layers"], "latent_channels": 4,
        "sample_size": told["resolution"], "scaling_factor": told["latents"], "force_upcast": large,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    }  # fmt: skip
    for kind, config, name in ((UNet2DConditionModel, unet, "unet"), (AutoencoderKL, vae, "vae")):
        with torch.device("meta"):
            part = kind(**config)
        if device == "meta":
            part.save_config(folder / name)
            continue
        _filled(part, device).to(torch.bfloat16 if device == "cuda" else torch.float32).save_pretrained(folder / name)
        del part
    DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", "DDPMScheduler"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "text_encoder": ["transformers", "CLIPTextModel"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    if large:
        parts |= {
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        }
    name = "StableDiffusionXLPipeline" if large else "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name, **parts}))
    return int(told["resolution"])


def pictures(source: Path, folder: Path, resolution: int) -> str:
    """Write a concept's pictures as squares of `resolution` pixels, so that both sides see the same pixels; returns the
    concept's class word."""
    folder.mkdir(parents=True)
    for path in sorted(source.glob("*.png")):
        square(path.read_bytes(), resolution).save(folder / path.name)
    return str(tomllib.loads((source / "concept.toml").read_text())["class_word"])


def _tokenizer(length: int) -> CLIPTokenizer:
    """CLIP's own byte-pair vocabulary of 49,408 tokens, out of the copy that open_clip brings."""
    known = SimpleTokenizer()
    merges = [pair for pair, _ in sorted(known.bpe_ranks.items(), key=lambda item: item[1])]
    vocabulary = dict(known.encoder)
    for ours, theirs in (("<|startoftext|>", "<start_of_text>"), ("<|endoftext|>", "<end_of_text>")):
        vocabulary[ours] = vocabulary.pop(theirs)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length, pad_token="<|endoftext|>")  # noqa: S106  # no password


def _text(kind: Any, shape: dict[str, int], words: CLIPTokenizer, folder: Path, device: str) -> None:
    config = CLIPTextConfig(
        **shape, vocab_size=len(words), max_position_embeddings=words.model_max_length, hidden_act="quick_gelu",
        projection_dim=shape["hidden_size"], bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    if device == "meta":
        config.save_pretrained(folder)
        return
    _filled(kind(config), device).save_pretrained(folder)


def _filled(part: nn.Module, device: str) -> Any:
    """Random weights small enough for finite activations; norms are the identity."""
    if any(parameter.is_meta for parameter in part.parameters()):
        part.to_empty(device=device)
    with torch.no_grad():
        for name, parameter in part.to(device).named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return part
