"""Stage 4, the VAE: 64×64 pictures to 16×16 latents of 6 channels and back.

    python -m miniature.vae

No attention: it cost a fifth of the speed. Loss: L1 + MSE + L1 of the
gradients + a small KL (arXiv 1312.6114); no adversary, no perceptual net: on flat art at this size they cost more than
they bring. Then the latents' mean and standard deviation are folded into the two 1×1 quant convolutions, so that
latents have unit variance and `scaling_factor` is 1, and the decoder learns on alone.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from miniature.common import (
    DEVICE,
    SEED,
    SIDE,
    START,
    WIDER,
    WORK,
    Progress,
    arguments,
    budget,
    cosine,
    fast,
    keep,
    log,
    resume,
    set_rate,
)
from miniature.compose import Placed

SAMPLES = 56_000 if START is None else 20_000
DECODER = 40_000
"""Samples for the decoder alone, once the latents are what they will be."""
BATCH = 8 * WIDER
RATE = 1.5e-3 if START is None else 1e-3
KL = 3e-5
CHANNELS = 6
LATENT_SIDE = SIDE // 4
FOLDER = WORK / "vae"


def new_vae() -> AutoencoderKL:
    """The untrained model, or another miniature's."""
    torch.manual_seed(SEED)
    if START:
        return AutoencoderKL.from_pretrained(START / "mini-sd" / "vae").float().to(DEVICE)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    ).to(DEVICE)


def loss_of(made: Tensor, real: Tensor) -> Tensor:
    """Reconstruction loss of pictures [B, 3, H, W]."""
    error = made - real
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return error.abs().mean() + 2 * error.square().mean() + 0.5 * (across.abs().mean() + down.abs().mean())


@torch.no_grad()
def psnr(vae: AutoencoderKL, held_out: bool = True, count: int = 512) -> float:
    """Mean PSNR in dB over `count` composed pictures, decoded from the latents' means."""
    placed, random = Placed(held_out), np.random.default_rng(SEED)
    values = []
    rows = random.choice(placed.rows, min(count, len(placed.rows)), replace=False)
    for part in np.array_split(rows, max(1, len(rows) // 64)):
        real, _ = placed.batch(part, random)
        made = vae.decode(vae.encode(real).latent_dist.mean).sample.clamp(-1, 1)
        values.append(-10 * torch.log10(((made - real) / 2).square().mean(dim=(1, 2, 3))))
    return float(torch.cat(values).mean())


@torch.no_grad()
def fold(vae: AutoencoderKL) -> None:
    """Make the latents of the training pictures zero-mean and unit-variance per channel, and the decoder undo it."""
    placed, random = Placed(), np.random.default_rng(SEED)
    latents = torch.cat(
        [vae.encode(placed.batch(random.choice(placed.rows, 64), random)[0]).latent_dist.mean for _ in range(32)]
    )
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:CHANNELS] /= std[:, None, None, None]
    into.bias[:CHANNELS] = (into.bias[:CHANNELS] - mean) / std
    into.bias[CHANNELS:] -= 2 * std.log()  # the second half is the log of the variance
    out.bias += out.weight[..., 0, 0] @ mean
    out.weight *= std[None, :, None, None]


def train(vae: AutoencoderKL, total: int, checkpoint: Path) -> None:
    """Train in place what is not frozen for `total` samples; goes on from `checkpoint`."""
    learned = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    for group in optimizer.param_groups:
        group["peak"] = RATE
    done = resume(checkpoint, model=vae, optimizer=optimizer)
    placed, progress, kept = Placed(), Progress(checkpoint.stem, total, done), done
    while done < total:
        random = np.random.default_rng((SEED, done))
        torch.manual_seed(SEED + done)
        real, _ = placed.batch(random.choice(placed.rows, BATCH), random)
        with fast():
            posterior = vae.encode(real).latent_dist
            made = vae.decode(posterior.sample()).sample
        loss = loss_of(made.float(), real)
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).sum(dim=(1, 2, 3)).mean()
        set_rate(optimizer, cosine(done / total))
        optimizer.zero_grad(set_to_none=True)
        (loss + KL * divergence / SIDE**2 * 16).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        done += BATCH
        progress.step(done, lambda: f"loss {loss.item():.4f}, KL {divergence.item():.0f}")
        if done - kept >= 2_000 or done >= total:
            kept = done
            keep(checkpoint, done, model=vae, optimizer=optimizer)


def told(vae: AutoencoderKL) -> str:
    """PSNR for the log."""
    return f"PSNR on held-out scenes {psnr(vae):.2f} dB, on seen ones {psnr(vae, held_out=False):.2f} dB"


def main() -> None:
    """Run the stage."""
    scale = arguments(__doc__ or "")
    if (FOLDER / "config.json").is_file():
        return
    vae = new_vae()
    log.info("VAE of %.2f M parameters", sum(p.numel() for p in vae.parameters()) / 1e6)
    train(vae, budget(SAMPLES, scale), WORK / "vae.pt")
    fold(vae.eval())
    log.info("with encoder and decoder: %s", told(vae))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    train(vae.train(), budget(DECODER, scale), WORK / "decoder.pt")
    log.info("with the decoder alone: %s", told(vae.eval()))
    vae.save_pretrained(FOLDER)


if __name__ == "__main__":
    main()
