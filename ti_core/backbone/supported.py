"""What cannot be trained here, told from a model's configuration in words for a person: inpainting models, refiners,
models of few steps, other architectures, other ways to add noise. It reads settings that it is given, and no files."""

import re
from collections.abc import Mapping
from typing import Any

from ti_core.config import BackboneKind
from ti_core.errors import InputError

PIPELINES: dict[str, tuple[BackboneKind, ...]] = {
    "StableDiffusionPipeline": ("sd1", "sd2", "miniature"),
    "StableDiffusionXLPipeline": ("sdxl",),
}
"""diffusers' class that model_index.json names → kinds it may be."""

INPAINTING = "an inpainting model, whose U-Net also reads a mask and a picture; name the plain text-to-image model"
REFINER = (
    "the refiner of SDXL, which only ends what the base model has begun; name the base model "
    "(stabilityai/stable-diffusion-xl-base-1.0)"
)
FEW_STEPS = (
    "a model distilled to draw in a few steps (LCM, Turbo, Lightning, Hyper), on which words are neither trained nor "
    "judged as on others; name the model that it was made from: a word learned there can be tried in it"
)
SD3 = "Stable Diffusion 3, another architecture (a transformer with three text encoders, one of them T5)"
FLUX = "a FLUX model, another architecture (a transformer with flow matching and a T5 text encoder)"
_OTHERS = (
    (r".*Inpaint.*", INPAINTING),
    (r"StableDiffusionXLImg2ImgPipeline", REFINER),
    (r"LatentConsistencyModel.*", FEW_STEPS),
    (r"StableDiffusion3.*", SD3),
    (r"Flux.*", FLUX),
)

SCHEDULERS = frozenset(
    f"{name}Scheduler"
    for name in (
        "DDIM", "DDPM", "PNDM", "LMSDiscrete", "EulerDiscrete", "HeunDiscrete", "EulerAncestralDiscrete",
        "DPMSolverMultistep", "DPMSolverSinglestep", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DEISMultistep",
        "UniPCMultistep", "DPMSolverSDE",
    )
)  # fmt: skip
"""diffusers' samplers of one and the same noise schedule: any of them may lie in a model's folder."""
_OF_FEW_STEPS = frozenset({"LCMScheduler", "TCDScheduler"})
_NAMED_SO = frozenset({"lcm", "turbo", "lightning", "hyper"})


def kinds_of(pipeline: str, model: object) -> tuple[BackboneKind, ...]:
    """The kinds that diffusers' class of this name may be; `model` is what a person calls the model.

    Raises InputError, which says what it is instead, when it is none that can be trained.
    """
    if pipeline in PIPELINES:
        return PIPELINES[pipeline]
    words = next((f": {words}" for pattern, words in _OTHERS if re.fullmatch(pattern, pipeline)), "")
    raise InputError(
        f"{model} holds a {pipeline or 'model that names no pipeline'}{words}. That is not supported here; Stable "
        "Diffusion 1.x, 2.x (StableDiffusionPipeline) and XL (StableDiffusionXLPipeline) are."
    )


def refused(name: str, scheduler: Mapping[str, Any], unet: Mapping[str, Any], vae: Mapping[str, Any]) -> str:
    """Why a Stable Diffusion with these configurations cannot be trained; "" if it can.

    `name` is what the model is called: of a Turbo model in one file nothing else tells what it is.
    """
    return _few_steps(name, scheduler, unet) or _noise(scheduler) or _latents(unet, vae)


def _few_steps(name: str, scheduler: Mapping[str, Any], unet: Mapping[str, Any]) -> str:
    sampler, euler = scheduler.get("_class_name"), str(scheduler.get("_class_name")).startswith("Euler")
    # The two Turbo models that were published say so by nothing else: noise prediction, Euler, trailing steps.
    turbo = euler and scheduler.get("timestep_spacing") == "trailing" and not scheduler.get("rescale_betas_zero_snr")
    predicts_noise = scheduler.get("prediction_type", "epsilon") == "epsilon"
    if sampler in _OF_FEW_STEPS or unet.get("time_cond_proj_dim") or (turbo and predicts_noise):
        return f"it is {FEW_STEPS}"
    if any(word.lower() in _NAMED_SO for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)):
        return f"its name says that it is {FEW_STEPS}. If the name is wrong, give it another"
    return ""


def _noise(scheduler: Mapping[str, Any]) -> str:
    sampler, predicted = scheduler.get("_class_name", "DDPMScheduler"), scheduler.get("prediction_type", "epsilon")
    if sampler not in SCHEDULERS:
        return f"its scheduler is {sampler}, which adds noise in another way; put that of the model it was made from"
    if predicted not in ("epsilon", "v_prediction"):
        return f"it predicts {predicted}; name a model of noise or v prediction"
    return ""


def _latents(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> str:
    kind, channels = vae.get("_class_name", "AutoencoderKL"), unet.get("in_channels")
    if kind != "AutoencoderKL":
        return f"its VAE is an {kind}; put an AutoencoderKL there"
    if vae.get("latents_mean") or vae.get("latents_std"):
        return "its VAE shifts and scales each latent channel; put one with a single scaling_factor there"
    latent = vae.get("latent_channels", 4)
    if channels != latent:
        more = f"it is {INPAINTING}" if channels == 2 * latent + 1 else "name the plain text-to-image model"
        return f"its U-Net reads {channels} channels and its VAE makes {latent}: {more}"
    return ""
