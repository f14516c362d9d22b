"""Write a stock pipeline as one file in the layout Stable Diffusion was first published in: the other way round from
diffusers' conversion, so that a round trip can be tested on tiny weights."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
UNET = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "conv_out": "out.2",
        "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip


def save_ldm(pipeline: Any, file: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write `pipeline` (a stock one of SD 1.x, 2.x or XL) to `file`, its weights stored in `dtype`."""
    out = {f"model.diffusion_model.{_unet(key, pipeline.unet.config.layers_per_block)}": value
           for key, value in pipeline.unet.state_dict().items()}  # fmt: skip
    blocks = len(pipeline.vae.config.block_out_channels)
    for key, value in pipeline.vae.state_dict().items():
        name = _vae(key, blocks)
        turned = "mid.attn_1" in name and "norm" not in name and value.ndim == 2
        out[f"first_stage_model.{name}"] = value[:, :, None, None] if turned else value
    first = pipeline.text_encoder.state_dict()
    if hasattr(pipeline, "text_encoder_2"):
        out |= _clip(first, "conditioner.embedders.0.transformer.text_model.")
        out |= _open_clip(pipeline.text_encoder_2.state_dict(), "conditioner.embedders.1.model.")
    elif pipeline.unet.config.use_linear_projection:
        out |= _open_clip(first, "cond_stage_model.model.")
    else:
        out |= _clip(first, "cond_stage_model.transformer.text_model.")
    save_file({key: value.detach().to(dtype).contiguous().clone() for key, value in out.items()}, file)
    return file


def _renamed(key: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        if key.startswith(f"{new}."):
            return old + key[len(new) :]
    return key


def _unet(key: str, layers: int) -> str:
    if found := re.fullmatch(
        r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", key
    ):
        way, block, part, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if part == "downsamplers":
            return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
        if part == "upsamplers":  # without attention, as in the first up block of the tiny networks
            return f"output_blocks.{block * (layers + 1) + layers}.1.{rest}"
        at = f"input_blocks.{1 + block * (layers + 1) + layer}" if way == "down" else (
            f"output_blocks.{block * (layers + 1) + layer}")  # fmt: skip
        return f"{at}.0.{_renamed(rest, RESNET)}" if part == "resnets" else f"{at}.1.{rest}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", key):
        if found[1] == "attentions":
            return f"middle_block.1.{found[3]}"
        return f"middle_block.{2 * int(found[2])}.{_renamed(found[3], RESNET)}"
    return _renamed(key, UNET)


def _vae(key: str, blocks: int) -> str:
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if found := re.fullmatch(r"(encoder|decoder)\.(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", key):
        side, way, block, part, layer, rest = found.groups()
        at = f"{side}.{way}.{block if way == 'down' else blocks - 1 - int(block)}"
        return f"{at}.block.{layer}.{rest}" if part == "resnets" else f"{at}.{way}sample.{rest}"
    if found := re.fullmatch(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.*)", key):
        side, part, layer, rest = found.groups()
        if part == "resnets":
            return f"{side}.mid.block_{int(layer) + 1}.{rest}"
        return f"{side}.mid.attn_1.{_renamed(rest, ATTENTION)}"
    return key


def _clip(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key.removeprefix("text_model."): value for key, value in state.items()}


def _open_clip(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    state = {key.removeprefix("text_model."): value for key, value in state.items()}
    out = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    if "text_projection.weight" in state:
        out["text_projection"] = state["text_projection.weight"].T
    for key, value in state.items():
        if found := re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)", key):
            at = f"transformer.resblocks.{found[1]}"
            if "q_proj" in found[2]:
                kind = found[2].rpartition(".")[2]
                parts = [state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                out[f"{at}.attn.in_proj_{kind}"] = torch.cat(parts)
            elif "k_proj" not in found[2] and "v_proj" not in found[2]:
                out[f"{at}.{_renamed(found[2], OPEN_CLIP)}"] = value
    return {prefix + key: value for key, value in out.items()}
