"""A frozen Stable Diffusion 1.x: texts with new words in, conditioning out; pictures and latents; one denoising step.

No vocabulary is resized. A new word's vectors take the place of the token-embedding *output* at its positions, and the
stock text encoder's own `forward` does the rest, so that training, judging and a stock pipeline with the published
file loaded all see the same hidden states. This module knows nothing of training, concepts or scores.

Shapes: B prompts or pictures, L tokens (the tokenizer's maximum), V vectors a prompt may use, D text width,
C latent channels, H×W pixels, h×w latents.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ti_core.errors import InputError
from ti_core.records import BaseModelInfo

ENCODER = "clip_l"
"""Name of the one text encoder of SD 1.x, as exported files call it."""


@dataclass(frozen=True)
class Tokens:
    """Tokenised prompts. `ids_BL` int64; `slots_BL` is −1, or the row of the prompt's vectors that stands there."""

    ids_BL: Tensor
    slots_BL: Tensor

    def __getitem__(self, rows: Tensor) -> "Tokens":
        return Tokens(self.ids_BL[rows], self.slots_BL[rows])


@dataclass(frozen=True)
class Conditioning:
    """What the U-Net is told: `hidden_BLD`, the pooled state [B, D], and further keyword conditions by name."""

    hidden_BLD: Tensor
    pooled_BD: Tensor | None
    added: Mapping[str, Tensor]


class StableDiffusion:
    """The frozen network of one process. Every parameter has `requires_grad` False and every part is in eval mode."""

    def __init__(self, info: BaseModelInfo, device: torch.device) -> None:
        folder = Path(info.folder)
        self.info, self.device = info, device
        # Types are chosen per part: the text encoder carries the gradients and is small, the VAE overflows in fp16.
        self.unet_dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        try:
            self.tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
            self.text_encoder = _load(CLIPTextModel, folder / "text_encoder", dtype=torch.float32)
            self.vae = _load(AutoencoderKL, folder / "vae", torch_dtype=torch.float32)
            self.unet = _load(UNet2DConditionModel, folder / "unet", torch_dtype=self.unet_dtype)
            self.noise = DDPMScheduler.from_pretrained(str(folder / "scheduler"))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(f"The base model in {folder} does not load: {str(error).splitlines()[0]}") from None
        for part in self.parts.values():
            part.requires_grad_(False)
            part.eval()
            part.to(device)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules that hold weights."""
        return {"text_encoder": self.text_encoder, "vae": self.vae, "unet": self.unet}

    # --- words --------------------------------------------------------------------------------------------------------

    def tokenize(self, prompts: Sequence[str], words: Mapping[str, int]) -> list[tuple[list[int], list[int]]]:
        """Return (ids, slots) of each prompt, each a list of L integers, padded as the stock pipeline pads.

        `words` maps each placeholder, in lower case, to its number of vectors; slots number the rows of all words in
        the mapping's order. Raises InputError when a prompt is longer than the text encoder reads.
        """
        first: dict[str, int] = {}
        rows = 0
        for word, count in words.items():
            first[word] = rows
            rows += count
        return [self._tokenize(prompt, words, first) for prompt in prompts]

    def _tokenize(self, prompt: str, words: Mapping[str, int], first: Mapping[str, int]) -> tuple[list[int], list[int]]:
        tokenizer, length = self.tokenizer, self.tokenizer.model_max_length
        ids, slots = [tokenizer.bos_token_id], [-1]
        for piece, word in _split(prompt, words):
            plain = tokenizer(piece, add_special_tokens=False).input_ids if piece.strip() else []
            ids += plain
            slots += [-1] * len(plain)
            if word:
                # Any ordinary id will do here, its embedding is replaced. It must not be the largest: older
                # configurations (eos_token_id 2) take the place of the largest id as the pooled place.
                ids += [0] * words[word]
                slots += range(first[word], first[word] + words[word])
        if len(ids) + 1 > length:
            raise InputError(f"The prompt {prompt!r} has {len(ids) - 1} tokens; this base model reads {length - 2}.")
        padding = length - len(ids) - 1
        ids += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * padding
        return ids, slots + [-1] * (1 + padding)

    def tokens(self, prompts: Sequence[str], words: Mapping[str, int]) -> Tokens:
        """`tokenize` as tensors on the device."""
        pairs = self.tokenize(prompts, words)
        return Tokens(
            torch.tensor([ids for ids, _ in pairs], device=self.device),
            torch.tensor([slots for _, slots in pairs], device=self.device),
        )

    def encode_prompts(self, tokens: Tokens, vectors: Mapping[str, Tensor]) -> Conditioning:
        """Encode B prompts; `vectors` maps the encoder's name to [B, V, D], each prompt's own rows.

        Differentiable in `vectors`. An empty mapping encodes plain prompts.
        """
        hooks = []
        if vectors:
            rows_BVD = vectors[ENCODER]
            at_BL1 = tokens.slots_BL.clamp(min=0).unsqueeze(-1)
            placed_BLD = rows_BVD.gather(1, at_BL1.expand(-1, -1, rows_BVD.shape[-1]))
            here_BL1 = (tokens.slots_BL >= 0).unsqueeze(-1)

            def replace(_module: nn.Module, _inputs: object, embedded_BLD: Tensor) -> Tensor:
                return torch.where(here_BL1, placed_BLD.to(embedded_BLD.dtype), embedded_BLD)

            hooks.append(self.text_encoder.get_input_embeddings().register_forward_hook(replace))
        try:
            out = self.text_encoder(tokens.ids_BL)
        finally:
            for hook in hooks:
                hook.remove()
        return Conditioning(out.last_hidden_state, out.pooler_output, {})

    def initial_vectors(self, phrase: str, count: int) -> dict[str, Tensor]:
        """Return {encoder: [count, D]}: vectors to start from, made of the phrase's token embeddings.

        As many vectors as tokens take one each; fewer take the means of neighbouring tokens; more repeat in turn.
        """
        ids = self.tokenizer(phrase, add_special_tokens=False).input_ids
        table_ND = self.text_encoder.get_input_embeddings().weight
        rows_TD = table_ND[torch.tensor(ids, device=self.device)].float()
        if len(ids) >= count:
            start_VD = torch.stack([part.mean(0) for part in torch.tensor_split(rows_TD, count)])
        else:
            start_VD = rows_TD[torch.arange(count, device=self.device) % len(ids)]
        return {ENCODER: start_VD.clone()}

    # --- pictures -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_pictures(self, pictures_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures in [−1, 1] to the mean and standard deviation of their latents, each [B, C, h, w], scaled."""
        posterior = self.vae.encode(pictures_B3HW.to(self.device, torch.float32)).latent_dist
        scale, shift = self.vae.config.scaling_factor, self.vae.config.shift_factor or 0.0
        return (posterior.mean - shift) * scale, posterior.std * scale

    @torch.no_grad()
    def decode(self, latents_BChw: Tensor) -> Tensor:
        """Scaled latents to pictures: uint8 [B, H, W, 3] on the CPU, rounded as diffusers' image processor rounds."""
        scale, shift = self.vae.config.scaling_factor, self.vae.config.shift_factor or 0.0
        pictures = self.vae.decode(latents_BChw.float() / scale + shift).sample
        return ((pictures / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()

    # --- denoising ----------------------------------------------------------------------------------------------------

    def denoise(self, noisy_BChw: Tensor, timesteps_B: Tensor, told: Conditioning) -> Tensor:
        """The U-Net's raw prediction (noise, or v where the scheduler says so), fp32 [B, C, h, w]."""
        dtype = self.unet_dtype
        out = self.unet(
            noisy_BChw.to(dtype),
            timesteps_B,
            encoder_hidden_states=told.hidden_BLD.to(dtype),
            added_cond_kwargs=dict(told.added) or None,
            return_dict=False,
        )[0]
        return out.float()

    def target(self, latents_BChw: Tensor, noise_BChw: Tensor, timesteps_B: Tensor) -> Tensor:
        """What `denoise` is trained to say, by the scheduler's prediction type."""
        if self.noise.config.prediction_type == "v_prediction":
            return self.noise.get_velocity(latents_BChw, noise_BChw, timesteps_B)
        return noise_BChw

    def ddim(self) -> DDIMScheduler:
        """A fresh DDIM sampler on this model's noise schedule (arXiv 2010.02502)."""
        return DDIMScheduler.from_config(self.noise.config)


def _load(kind: Any, folder: Path, **types: torch.dtype) -> Any:
    """Load one part. Raises InputError when tensors are missing: the libraries would make them up, with a warning."""
    part, told = kind.from_pretrained(str(folder), output_loading_info=True, **types)
    if missing := sorted(told["missing_keys"]):
        raise InputError(f"{folder} holds no weights for {missing[0]} ({len(missing)} missing): copy it again.")
    return part


def _split(prompt: str, words: Mapping[str, int]) -> list[tuple[str, str]]:
    """Cut a prompt at its placeholders: [(text before, placeholder or "")].

    Longest placeholder first, capitals or not: the stock tokenizer, too, looks for added words in lower-cased text.
    """
    if not words:
        return [(prompt, "")]
    ordered = sorted(words, key=len, reverse=True)
    *parts, rest = re.split(f"({'|'.join(map(re.escape, ordered))})", prompt, flags=re.IGNORECASE)
    return [*zip(parts[::2], (word.lower() for word in parts[1::2]), strict=True), (rest, "")]
