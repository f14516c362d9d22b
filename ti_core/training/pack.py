"""One pass of the pack: every slot's samples in one batch through the frozen network, a loss for each slot.

Nothing in the network couples samples, so each slot's gradient is that of its own solo run. This module knows no
optimizer and no steps.

Shapes: B samples in the pack (b of each concept, in slot order, filler last), V vectors, D text width, C×h×w latents.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Tokens
from ti_core.backbone.room import naming_spent_memory
from ti_core.training.draws import Draws
from ti_core.training.slot import Slot


def run_pass(pack: Sequence[Slot], model: Backbone, filler: int) -> None:
    """One forward and one backward pass; each slot receives its loss and takes its step when that is due. `filler`
    inert samples keep the batch shape. Raises torch.OutOfMemoryError where the device does not hold it."""
    with naming_spent_memory():
        _run_pass(pack, model, filler)


def _run_pass(pack: Sequence[Slot], model: Backbone, filler: int) -> None:
    losses = losses_of(pack, [slot.draws() for slot in pack], model, filler)
    # Summed over the pack: a slot's gradient must not depend on how many others there are.
    shares = [slot.share(loss) for slot, loss in zip(pack, losses, strict=True)]
    torch.autograd.backward(torch.stack(shares).sum())
    for slot, loss in zip(pack, losses, strict=True):
        slot.take(loss)


def watch(slot: Slot, model: Backbone) -> None:
    """Look at the slot's fixed batch if that is due. It is evaluated alone, so that its batch shape and with it every
    digit are the same in any company."""
    if slot.is_to_watch:
        with torch.no_grad(), naming_spent_memory():
            slot.watched(losses_of([slot], [slot.fixed_batch()], model)[0].item())


def losses_of(pack: Sequence[Slot], drawn: Sequence[Draws], model: Backbone, filler: int = 0) -> list[Tensor]:
    """The latent-diffusion objective E‖ε − ε_θ(z_t, t, c(S*))‖² (arXiv 2208.01618, equation 2), or its v-prediction
    form, averaged per slot over its drawn samples; differentiable in the slots' rows. With masks, the average is over
    what they show."""
    counts = [len(one.picture_b) for one in drawn]
    sizes = [*counts, filler]
    device, dtype = model.device, pack[0].mean.dtype
    # One transfer for all indices and one for all noise, since each may wait for the device. Filler stays zero.
    indices_3B = torch.zeros((3, sum(sizes)), dtype=torch.long)
    noises_2BChw = torch.zeros((2, sum(sizes), *pack[0].mean.shape[1:]))
    first = 0
    for one, count in zip(drawn, counts, strict=True):
        here = slice(first, first + count)
        indices_3B[:, here] = torch.stack([one.picture_b, one.template_b, one.timestep_b])
        noises_2BChw[:, here] = torch.stack([one.posterior_bChw, one.noise_bChw])
        first += count
    pictures_B, templates_B, timesteps_B = _to(device, indices_3B)
    posterior_BChw, noise_BChw = _to(device, noises_2BChw).to(dtype)

    fields = zip(pack, pictures_B.split(sizes), posterior_BChw.split(sizes), strict=False)
    latents = [slot.mean[which] + slot.std[which] * normal for slot, which, normal in fields]
    latents_BChw = torch.cat([*latents, noise_BChw[first:]])
    conditioning = model.encode_prompts(*_words(pack, templates_B.split(sizes), sizes))
    originals = [slot.original_N2[which] for slot, which in zip(pack, pictures_B.split(sizes), strict=False)]
    filler_n2 = pack[0].original_N2[:1].expand(filler, -1)
    conditioning = replace(conditioning, original_B2=torch.cat([*originals, filler_n2]))
    noisy_BChw = model.noise.add_noise(latents_BChw, noise_BChw, timesteps_B)
    predicted_BChw = model.denoise(noisy_BChw, timesteps_B, conditioning)
    squared_BChw = (predicted_BChw - model.target(latents_BChw, noise_BChw, timesteps_B)).square()
    return [
        _mean(squared, slot, which)
        for slot, squared, which in zip(pack, squared_BChw.split(sizes), pictures_B.split(sizes), strict=False)
    ]


def _words(pack: Sequence[Slot], templates: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tokens, dict[str, Tensor]]:
    """Tokens of the B prompts, and each encoder's rows [B, V, D], V being the most that any slot of the pack has."""
    filler_ids = templates[-1]  # zeros: filler repeats the first slot's first prompt, with vectors of zeros
    tokens = [slot.tokens.take(which) for slot, which in zip(pack, templates, strict=False)]
    tokens.append(pack[0].tokens.take(filler_ids))
    most = max(slot.job.vectors for slot in pack)
    vectors = {}
    for name in pack[0].rows:
        rows = [torch.nn.functional.pad(slot.rows[name], (0, 0, 0, most - slot.job.vectors)) for slot in pack]
        rows.append(torch.zeros_like(rows[0]))
        vectors[name] = torch.cat([one.expand(size, -1, -1) for one, size in zip(rows, sizes, strict=True)])
    return Tokens.cat(tokens), vectors


def _mean(squared_bChw: Tensor, slot: Slot, pictures_b: Tensor) -> Tensor:
    if slot.mask is None:
        return squared_bChw.mean(dim=(1, 2, 3)).mean()
    mask_b1hw = slot.mask[pictures_b]
    channels = squared_bChw.shape[1]
    return ((squared_bChw * mask_b1hw).sum(dim=(1, 2, 3)) / (mask_b1hw.sum(dim=(1, 2, 3)) * channels)).mean()


def _to(device: torch.device, tensor: Tensor) -> Tensor:
    """Send without waiting, which a GPU can from pinned memory alone."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
