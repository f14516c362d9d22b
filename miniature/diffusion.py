"""Stage 7, the latent diffusion model (arXiv 2112.10752): U-Net and text encoder together, on cached latents.

    python -m miniature.diffusion --processes 2

Two things make prompts count from the start: the text encoder begins as a CLIP's text tower, and the pooled text is
added to the time embedding (`addition_embed_type="text"`). Target: v (arXiv 2202.00512), weighted by min-SNR
(arXiv 2303.09556). The learning rate stays until the last quarter of the budget (arXiv 2405.18392), so that a longer
budget can go on from any checkpoint before; the average of the weights (EMA) is what is kept.

On a CPU each process has one thread and its own share of every batch; gradients are averaged (gloo), which on two cores
is faster than one process with two threads. A checkpoint may be resumed with another number of processes.

Shapes: B samples, C×h×w latents, L tokens, D text width.
"""

import argparse
import os
import sys

import numpy as np
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor, multiprocessing, nn

from miniature.clips import TEXT, WIDTH, read_clip, text_encoder, token_ids
from miniature.common import (
    DEVICE,
    SEED,
    WIDER,
    WORK,
    Progress,
    arguments,
    budget,
    fast,
    keep,
    plateau,
    resume,
    set_rate,
    set_up,
)
from miniature.vae import CHANNELS, LATENT_SIDE

SAMPLES = 420_000
BATCH = 48 * WIDER
RATE, TEXT_RATE = 8e-4, 2e-4
DROPPED = 0.1
"""Share of captions left out, for classifier-free guidance (arXiv 2207.12598)."""
GAMMA = 5.0
EMA = 0.999
CHECKPOINT = WORK / "diffusion.pt"
PROCESSES = (os.cpu_count() or 1) if DEVICE.type == "cpu" else 1


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule; sampling starts at its last step, so that few steps start from pure noise."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="v_prediction", timestep_spacing="trailing",
    )  # fmt: skip


def new_unet() -> UNet2DConditionModel:
    """The untrained U-Net."""
    torch.manual_seed(SEED + 3)
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # the number of heads, in spite of its name
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


class Model(nn.Module):
    """U-Net and text encoder, trained as one."""

    def __init__(self) -> None:
        super().__init__()
        self.unet, self.text = new_unet(), text_encoder(read_clip(TEXT))
        self.noise = DDPMScheduler.from_config(scheduler().config)

    def loss(self, latents: Tensor, ids: Tensor, random: torch.Generator) -> Tensor:
        """Weighted v loss of latents [B, C, h, w] under captions [B, L]."""
        noise = torch.randn(latents.shape, device=DEVICE, generator=random)
        steps = self.noise.config["num_train_timesteps"]
        # Evenly spread steps: the same expectation as independent ones, less variance.
        places = torch.arange(len(latents), device=DEVICE) + torch.rand(1, device=DEVICE, generator=random)
        timesteps = (places / len(latents) * steps).long().clamp(max=steps - 1)
        noisy = self.noise.add_noise(latents, noise, timesteps)
        target = self.noise.get_velocity(latents, noise, timesteps)
        with fast():
            made = self.unet(noisy, timesteps, self.text(ids).last_hidden_state).sample.float()
        snr = compute_snr(self.noise, timesteps)
        weight = snr.clamp(max=GAMMA) / (snr + 1)
        return ((made - target).square().mean(dim=(1, 2, 3)) * weight).mean() / weight.mean()


def train(scale: float, rank: int, processes: int) -> None:
    """Train with `processes` processes, of which this is number `rank`; goes on from the checkpoint."""
    total, share = budget(SAMPLES, scale), BATCH // processes
    model = Model().to(DEVICE)
    parameters = list(model.parameters())
    groups = [
        {"params": list(model.unet.parameters()), "peak": RATE},
        {"params": list(model.text.parameters()), "peak": TEXT_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, foreach=True)
    average = EMAModel(parameters, decay=EMA, use_ema_warmup=True, power=0.75, foreach=True)
    done = resume(CHECKPOINT, model=model, optimizer=optimizer, average=average)
    average.to(DEVICE)
    latents, ids = np.load(WORK / "latents.npy", mmap_mode="r"), np.load(WORK / "ids.npy", mmap_mode="r")
    empty = token_ids([""])[0]
    progress, kept, losses = Progress("diffusion", total, done), done, []
    while done < total:
        draws = np.random.default_rng((SEED, done, rank))
        random = torch.Generator(DEVICE).manual_seed(SEED + done * 8 + rank)
        rows = draws.integers(len(latents), size=share)
        read = torch.from_numpy(ids[rows, draws.integers(ids.shape[1], size=share)].astype(np.int64)).to(DEVICE)
        read[torch.from_numpy(draws.random(share) < DROPPED).to(DEVICE)] = empty
        loss = model.loss(torch.from_numpy(latents[rows].astype(np.float32)).to(DEVICE), read, random)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if processes > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat)
            flat /= processes
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view(gradient.shape))
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        set_rate(optimizer, plateau(done / total))
        optimizer.step()
        average.step(parameters)
        done += share * processes
        losses = [*losses[-199:], loss.item()]
        if rank == 0:
            progress.step(done, lambda: f"loss {np.mean(losses):.4f}")
            if done - kept >= 2_000 or done >= total:
                kept = done
                keep(CHECKPOINT, done, model=model, optimizer=optimizer, average=average)


def read_model() -> tuple[Model, int]:
    """The averaged model of the checkpoint, in eval mode, and the samples it has seen."""
    model = Model()
    average = EMAModel(model.parameters())
    done = resume(CHECKPOINT, average=average)
    average.copy_to(model.parameters())
    return model.eval(), done


def _run(rank: int, scale: float, processes: int) -> None:
    set_up()
    if processes > 1:
        dist.init_process_group("gloo", init_method="tcp://127.0.0.1:29517", rank=rank, world_size=processes)
    train(scale, rank, processes)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    known, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    scale = arguments(__doc__ or "")
    if known.processes == 1:
        _run(0, scale, 1)
    else:
        multiprocessing.spawn(_run, (scale, known.processes), nprocs=known.processes)


if __name__ == "__main__":
    main()
