"""Stage 7, the latent diffusion model (arXiv 2112.10752): U-Net and text encoder together, on cached latents.

    python -m miniature.diffusion --processes 2

Two things make prompts count from the start: the pooled text is added to the time embedding
(`addition_embed_type="text"`), and cross-attention at 8×8 as well as 4×4 can put small parts in their place. Target: v
(arXiv 2202.00512) at zero terminal SNR (arXiv 2305.08891), all timesteps alike: what a caption says is decided while
there is more noise than picture, and min-SNR weights (arXiv 2303.09556) leave little of that. The learning rate stays
until the last part of the budget (arXiv 2405.18392), so that a longer budget can go on from any checkpoint before; the
average of the weights (EMA) is what is kept.

A third of the captions says the class word alone, and the word's embedding gets the sum of one learned row for each
part of the subject. So the model learns to draw a subject that *one vector* describes, which is what textual inversion
looks for, and every held-out subject has a vector that is known: the sum of its parts' rows. The rows do not ship.

On a CPU each process has one thread, its own share of the samples and its own steps; every few steps all take the mean
of their weights (local SGD, arXiv 1805.09767). On a busy machine gradients that are averaged in every
step let all wait for the slowest. A checkpoint may be resumed with another number of processes.

Shapes: B samples, C×h×w latents, L tokens, D text width, P parts.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, multiprocessing, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from miniature.art import KINDS
from miniature.common import (
    DEVICE,
    SEED,
    START,
    TOKENS,
    WIDER,
    WORK,
    Progress,
    arguments,
    budget,
    fast,
    keep,
    log,
    plateau,
    resume,
    set_rate,
    set_up,
)
from miniature.latents import NONE, WORDED
from miniature.tokenizer import token_ids, tokenizer
from miniature.vae import CHANNELS, LATENT_SIDE

SAMPLES = 300_000 if START is None else 160_000
BATCH = 48 * WIDER
RATE = 8e-4 if START is None else 6e-4
WIDTH, LAYERS, HEADS = 128, 3, 4
"""The text encoder."""
DROPPED = 0.1
"""Share of captions left out, for classifier-free guidance (arXiv 2207.12598)."""
UNTOLD = 0.1
"""Share of parts left out of the sum."""
TOGETHER = 8
"""Steps between two meetings of the processes; the average of the weights takes one step at each."""
EMA = 0.95
CHECKPOINT = WORK / "diffusion.pt"
PROCESSES = (os.cpu_count() or 1) if DEVICE.type == "cpu" else 1


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule at zero terminal SNR; sampling starts at its last step, which is pure noise."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True,
    )  # fmt: skip


def new_unet() -> UNet2DConditionModel:
    """The untrained U-Net."""
    torch.manual_seed(SEED + 3)
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # the number of heads, in spite of its name
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def new_text() -> CLIPTextModel:
    """The untrained text encoder."""
    torch.manual_seed(SEED + 4)
    names = tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(names), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, max_position_embeddings=TOKENS, hidden_act="gelu", projection_dim=WIDTH,
            bos_token_id=names.bos_token_id, eos_token_id=names.eos_token_id, pad_token_id=names.pad_token_id,
        )
    )  # fmt: skip


def start_from(unet: UNet2DConditionModel, text: CLIPTextModel, folder: Path) -> None:
    """Take over what another miniature has learned: all weights with a counterpart of the same shape, and the
    embeddings of words that both vocabularies hold. New attention blocks begin as if they were not there."""
    old = UNet2DConditionModel.from_pretrained(folder / "unet").float().state_dict()
    mine = unet.state_dict()
    taken = {name: value for name, value in old.items() if name in mine and mine[name].shape == value.shape}
    with torch.no_grad():
        for name, value in mine.items():
            if name not in taken and name.endswith("proj_out.weight"):
                value.zero_()
    unet.load_state_dict(taken, strict=False)
    source = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    theirs, ours = CLIPTokenizer.from_pretrained(str(folder / "tokenizer")).get_vocab(), tokenizer().get_vocab()
    table = text.get_input_embeddings().weight.detach().clone()
    rest = {name: value for name, value in source.state_dict().items() if "token_embedding" not in name}
    text.load_state_dict(rest, strict=False)
    shared = sorted(ours.keys() & theirs.keys())
    table[[ours[word] for word in shared]] = source.get_input_embeddings().weight[[theirs[w] for w in shared]].detach()
    with torch.no_grad():
        text.get_input_embeddings().weight.copy_(table)
    log.info("%d of %d tensors of the U-Net, %d of %d words taken over", len(taken), len(mine), len(shared), len(ours))


class Model(nn.Module):
    """U-Net and text encoder, trained as one, and the rows of the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.unet, self.text = new_unet(), new_text()
        self.parts = nn.EmbeddingBag(NONE + 1, WIDTH, mode="sum", padding_idx=NONE)
        nn.init.normal_(self.parts.weight, std=0.02)
        with torch.no_grad():
            self.parts.weight[NONE] = 0
        self.noise = DDPMScheduler.from_config(scheduler().config)
        words = sorted({kind.class_word for kind in KINDS.values()})
        self.class_words = {int(ids[1]) for ids in token_ids(words)}

    def read(self, ids: Tensor, parts: Tensor) -> Tensor:
        """Last hidden states [B, L, D] of captions [B, L], whose class words get the sum of their `parts` [B, P]."""
        here = torch.isin(ids, torch.tensor(sorted(self.class_words), device=ids.device))
        added = here[..., None] * self.parts(parts)[:, None]

        def add(_module: nn.Module, _inputs: object, embedded: Tensor) -> Tensor:
            return embedded + added.to(embedded.dtype)

        hook = self.text.get_input_embeddings().register_forward_hook(add)
        try:
            out: Tensor = self.text(ids).last_hidden_state
        finally:
            hook.remove()
        return out

    def loss(self, latents: Tensor, ids: Tensor, parts: Tensor, random: torch.Generator) -> Tensor:
        """v loss of latents [B, C, h, w] under captions [B, L] and parts [B, P]."""
        noise = torch.randn(latents.shape, device=DEVICE, generator=random)
        steps = self.noise.config["num_train_timesteps"]
        # Evenly spread steps: the same expectation as independent ones, less variance.
        places = torch.arange(len(latents), device=DEVICE) + torch.rand(1, device=DEVICE, generator=random)
        timesteps = (places / len(latents) * steps).long().clamp(max=steps - 1)
        noisy = self.noise.add_noise(latents, noise, timesteps)
        target = self.noise.get_velocity(latents, noise, timesteps)
        with fast():
            made = self.unet(noisy, timesteps, self.read(ids, parts)).sample.float()
        return (made - target).square().mean()


@torch.no_grad()
def meet(parameters: list[nn.Parameter], processes: int) -> None:
    """Give all processes the mean of their weights."""
    flat = torch.cat([p.reshape(-1) for p in parameters])
    dist.all_reduce(flat)
    flat /= processes
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(part.view(parameter.shape))


def train(scale: float, rank: int, processes: int) -> None:
    """Train with `processes` processes, of which this is number `rank`; goes on from the checkpoint."""
    total, share = budget(SAMPLES, scale), BATCH // processes
    model = Model()
    if START and not CHECKPOINT.is_file():
        start_from(model.unet, model.text, START / "mini-sd")
    model.to(DEVICE)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, foreach=True)
    for group in optimizer.param_groups:
        group["peak"] = RATE
    average = EMAModel(parameters, decay=EMA, use_ema_warmup=True, power=0.75, foreach=True)
    done = resume(CHECKPOINT, model=model, optimizer=optimizer, average=average)
    average.to(DEVICE)
    latents, ids, parts = (np.load(WORK / f"{name}.npy", mmap_mode="r") for name in ("latents", "ids", "parts"))
    empty = token_ids([""])[0]
    progress, kept, losses, steps = Progress("diffusion", total, done), done, [], 0
    while done < total or steps % TOGETHER:
        draws = np.random.default_rng((SEED, done, rank))
        random = torch.Generator(DEVICE).manual_seed(SEED + done * 8 + rank)
        rows, told = draws.integers(len(latents), size=share), draws.integers(ids.shape[1], size=share)
        read = torch.from_numpy(ids[rows, told].astype(np.int64)).to(DEVICE)
        read[torch.from_numpy(draws.random(share) < DROPPED).to(DEVICE)] = empty
        shown = parts[rows].astype(np.int64)
        shown[(told < WORDED)[:, None] | (draws.random(shown.shape) < UNTOLD)] = NONE
        loss = model.loss(
            torch.from_numpy(latents[rows].astype(np.float32)).to(DEVICE),
            read, torch.from_numpy(shown).to(DEVICE), random,
        )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        losses = [*losses[-199:], loss.item()]
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        set_rate(optimizer, plateau(done / total, warm=0.03))
        optimizer.step()
        done += share * processes
        steps += 1
        if steps % TOGETHER:
            continue
        if processes > 1:
            meet(parameters, processes)
        average.step(parameters)
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
