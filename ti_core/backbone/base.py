"""A frozen Stable Diffusion of any kind: texts with new words in, conditioning out; pictures and latents; denoising.

What is the same for all kinds is here; a kind says which text encoders it has, what it makes of their outputs and what
else its U-Net is told. This module knows nothing of training, concepts or scores.

Shapes: B prompts or pictures, L tokens (the tokenizer's maximum), V vectors a prompt may use, D text width,
C latent channels, H×W pixels, h×w latents.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

from ti_core.backbone.conditioning import Conditioning, Tokens
from ti_core.backbone.hollow import empty_parts
from ti_core.backbone.loading import load_parts
from ti_core.backbone.room import Residence, in_tiles_if_needed, naming_spent_memory
from ti_core.config import Precision, Sampler
from ti_core.records import BaseModelInfo

SAMPLERS: dict[Sampler, Any] = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
DECODED_AT_ONCE = 2**20
"""Pixels that `decode` makes in one call: one picture of 1024² (2 GB of activations), or 256 of the miniature's."""


TYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
FAST_FP16 = (7, 0)
"""Least compute capability whose fp16 is as fast as it is small: Volta. Most cards before it compute in it at a small
part of their speed."""


def number_type(device: torch.device, wish: Precision = "") -> torch.dtype:
    """The U-Net's type on a device: the one wished for; else bf16 on a CUDA card that computes in it (Ampere and on),
    fp16 on one that has fast fp16 alone (V100, T4), and fp32 elsewhere."""
    if wish:
        return TYPES[wish]
    if device.type != "cuda":
        return torch.float32
    with torch.cuda.device(device):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability(device) >= FAST_FP16 else torch.float32


class Backbone(ABC):
    """The frozen network of one process. Every parameter has `requires_grad` False and every part is in eval mode."""

    ENCODERS: ClassVar[Mapping[str, tuple[str, str, Any]]]
    """Name of each text encoder, as exported files call it → folders of tokenizer and weights, class of transformers.
    Vectors are given and returned by these names."""
    HIDDEN_STATES: ClassVar[bool] = False
    """Whether `condition` reads the hidden states of every layer."""

    def __init__(
        self, info: BaseModelInfo, device: torch.device, dtype: torch.dtype | None = None, precision: Precision = ""
    ) -> None:
        """Load the model at `info`. `precision` is the U-Net's type (`number_type`); `dtype` overrides that of every
        part.

        By default the text encoders are fp32, as they carry the gradients and are small, and the VAE is fp32, as SDXL's
        overflows in fp16. Raises InputError when a part does not load.
        """
        self.info, self.device = info, device
        self.unet_dtype = dtype or number_type(device, precision)
        made = empty_parts if device.type == "meta" else load_parts
        parts = made(info, self.ENCODERS, dtype or torch.float32, self.unet_dtype)
        self.encoders, self.vae, self.unet, self.noise = parts.encoders, parts.vae, parts.unet, parts.noise
        self.index = parts.index
        self.residence = Residence(self.parts, device)
        for part in self.parts.values():
            part.requires_grad_(False)
            part.eval()

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules that hold weights."""
        return {name: encoder.module for name, encoder in self.encoders.items()} | {"vae": self.vae, "unet": self.unet}

    # --- what a kind says ---------------------------------------------------------------------------------------------

    @abstractmethod
    def condition(self, outputs: Mapping[str, Any]) -> Conditioning:
        """What the U-Net is told, of each text encoder's own output."""

    def unconditional(self) -> Conditioning:
        """The side of classifier-free guidance without a prompt, one row."""
        self.residence.rest(["unet"])
        return self.encode_prompts(self.tokens([""], {}), {})

    def added(self, conditioning: Conditioning, height: int, width: int) -> dict[str, Tensor] | None:
        """What else the U-Net is told besides hidden states, for pictures of `height` × `width` pixels."""
        return None

    # --- words --------------------------------------------------------------------------------------------------------

    def tokens(self, prompts: Sequence[str], words: Mapping[str, int]) -> Tokens:
        """Tokenise B prompts for every text encoder, on the device.

        `words` maps each placeholder, in lower case, to its number of vectors; slots number the rows of all words in
        the mapping's order. Raises InputError when a prompt is longer than the text encoders read.
        """
        pairs = {name: encoder.tokenize(prompts, words) for name, encoder in self.encoders.items()}
        return Tokens(
            *({name: torch.tensor([pair[which] for pair in of], device=self.device) for name, of in pairs.items()}
              for which in (0, 1))
        )  # fmt: skip

    def encode_prompts(self, tokens: Tokens, vectors: Mapping[str, Tensor]) -> Conditioning:
        """Encode B prompts; `vectors` maps every encoder's name to [B, V, D], each prompt's own rows.

        Differentiable in `vectors`. An empty mapping encodes plain prompts.
        """
        self.residence.need(self.encoders)
        return self.condition(
            {
                name: encoder.read(tokens.ids_BL[name], tokens.slots_BL[name], vectors.get(name), self.HIDDEN_STATES)
                for name, encoder in self.encoders.items()
            }
        )

    def initial_vectors(self, phrase: str, count: int) -> dict[str, Tensor]:
        """Return {encoder: [count, D]}: vectors to start from, made of the phrase's token embeddings.

        As many vectors as tokens take one each; fewer take the means of neighbouring tokens; more repeat in turn.
        """
        self.residence.need(self.encoders)
        return {name: encoder.initial_vectors(phrase, count) for name, encoder in self.encoders.items()}

    # --- pictures -----------------------------------------------------------------------------------------------------

    @property
    def scale(self) -> int:
        """Pixels per latent, on a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a square picture with `resolution` pixels a side."""
        return self.vae.config.latent_channels, resolution // self.scale, resolution // self.scale

    @torch.no_grad()
    def encode_pictures(self, pictures_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures in [−1, 1] to the mean and standard deviation of their latents, each [B, C, h, w], scaled; in tiles
        where the device's memory does not hold a whole picture's work."""
        self.residence.need(["vae"])
        pixels_B3HW = pictures_B3HW.to(self.device, self.vae.dtype)
        posterior = in_tiles_if_needed(self.vae, self.vae.encode, pixels_B3HW, pixels_B3HW.shape[-1]).latent_dist
        scale, shift = self.vae.config.scaling_factor, self.vae.config.shift_factor or 0.0
        return (posterior.mean - shift) * scale, posterior.std * scale

    @torch.no_grad()
    def decode(self, latents_BChw: Tensor) -> Tensor:
        """Scaled latents to pictures: uint8 [B, H, W, 3] on the CPU, rounded as diffusers' image processor rounds; in
        tiles where the device's memory does not hold a whole picture's work."""
        self.residence.need(["vae"])
        scale, shift = self.vae.config.scaling_factor, self.vae.config.shift_factor or 0.0
        height, width = latents_BChw.shape[-2:]
        at_once = max(1, DECODED_AT_ONCE // (height * width * self.scale**2))
        pictures = []
        for part in latents_BChw.split(at_once):
            picture = self._decoded(part.to(self.vae.dtype) / scale + shift)
            pictures.append(((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        return torch.cat(pictures)

    def _decoded(self, unscaled_BChw: Tensor) -> Tensor:
        """What the VAE makes of latents, one by one before in tiles where memory is short: those change pictures."""
        if len(unscaled_BChw) > 1:
            with suppress(torch.OutOfMemoryError), naming_spent_memory():
                made: Tensor = self.vae.decode(unscaled_BChw).sample
                return made
            torch.cuda.empty_cache()
            return torch.cat([self._decoded(one) for one in unscaled_BChw.split(1)])
        side = unscaled_BChw.shape[-1] * self.scale
        single: Tensor = in_tiles_if_needed(self.vae, self.vae.decode, unscaled_BChw, side).sample
        return single

    # --- denoising ----------------------------------------------------------------------------------------------------

    def denoise(self, noisy_BChw: Tensor, timesteps_B: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's raw prediction (noise, or v where the scheduler says so), [B, C, h, w] in `noisy_BChw`'s type."""
        self.residence.need(["unet"])
        height, width = noisy_BChw.shape[-2:]
        out = self.unet(
            noisy_BChw.to(self.unet_dtype),
            timesteps_B,
            encoder_hidden_states=conditioning.hidden_BLD.to(self.unet_dtype),
            added_cond_kwargs=self.added(conditioning, height * self.scale, width * self.scale),
            return_dict=False,
        )[0]
        return out.to(noisy_BChw.dtype)

    def recompute(self, on: bool) -> None:
        """Keep less of the U-Net's forward pass for its backward pass, and compute the rest anew there (gradient
        checkpointing, arXiv 1604.06174): much less memory, about a forward pass more of time."""
        (self.unet.enable_gradient_checkpointing if on else self.unet.disable_gradient_checkpointing)()

    @property
    def recomputes(self) -> bool:
        """Whether it does."""
        return bool(self.unet.is_gradient_checkpointing)

    def target(self, latents_BChw: Tensor, noise_BChw: Tensor, timesteps_B: Tensor) -> Tensor:
        """What `denoise` is trained to say, by the scheduler's prediction type: noise, or v (arXiv 2202.00512)."""
        if self.noise.config.prediction_type == "v_prediction":
            return self.noise.get_velocity(latents_BChw, noise_BChw, timesteps_B)
        return noise_BChw

    @contextmanager
    def prompts_kept(self) -> Iterator[None]:
        """Within it every `denoise` must be told the same prompts: what cross-attention makes of them (its keys and
        values) is computed in the first call alone."""
        layers = [layer for name, layer in self.unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
        try:
            for layer in layers:
                layer.forward = _only_once(layer.forward)
            yield
        finally:
            for layer in layers:
                del layer.forward  # the class's own comes to light again

    def sampler(self, name: Sampler) -> Any:
        """A fresh scheduler of diffusers on this model's noise schedule: DDIM (arXiv 2010.02502) or DPM-Solver++
        (arXiv 2211.01095)."""
        return SAMPLERS[name].from_config(self.noise.config)


def _only_once(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    kept: list[Tensor] = []

    def first_time(hidden: Tensor) -> Tensor:
        if not kept:
            kept.append(forward(hidden))
        return kept[0]

    return first_time
