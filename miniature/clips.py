"""Stage 5, the judge: a small CLIP (arXiv 2103.00020) that looks at what the diffusion model draws.

    python -m miniature.clips

It shares pictures and words with the diffusion model, not weights: a judge related to what it judges would be partial.
Three kinds of batches take turns, each without false negatives:

- *subjects*: every picture another subject, captions that tell most parts and now and then the scene;
- *kinds*: many subjects of few kinds, so that only parts tell them apart;
- *scenes*: captions that name the class word and the background, style, size and place.

In all of them backgrounds differ within the batch: with one background a batch, the network's BatchNorm learned
statistics that single pictures do not have (loss 2.0 in training mode, 3.0 in eval mode).

Every subject comes in two scenes; the first has a caption, and the two are to look alike. Besides, linear classifiers
of the parts read pictures, so that features hold parts; they are dropped in the end.

Shapes: B = 2K pictures of K subjects, K captions, E embedding width.
"""

from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from miniature.captions import caption, with_article
from miniature.common import (
    DEVICE,
    SEED,
    SIDE,
    START,
    TOKENS,
    WIDER,
    WORK,
    Progress,
    arguments,
    budget,
    cosine,
    fast,
    keep,
    load,
    log,
    resume,
    save,
    set_rate,
)
from miniature.compose import NAMES, Placed
from miniature.latents import NONE, part_numbers
from miniature.tokenizer import token_ids, tokenizer

WIDTH, LAYERS, HEADS = 128, 3, 4
"""The text tower."""
PICTURE_SCALE = 12.0
"""Inverse temperature of the picture-picture loss."""
PAIRS, PARTS = 0.5, 1.0
"""Weights of the picture-picture loss and of the parts' loss."""
TOWER, EMBEDDING = 32, 192
SAMPLES = 200_000 if START is None else 90_000
BATCH = 24 * WIDER
"""Subjects in a batch, which has twice as many pictures."""
RATE = 1e-3


def model_config() -> dict[str, object]:
    """open_clip's `model_cfg`: a small ModifiedResNet and a small text transformer."""
    return {
        "embed_dim": EMBEDDING,
        "vision_cfg": {
            "image_size": SIDE, "layers": [1, 1, 1, 1], "width": TOWER, "patch_size": None, "head_width": TOWER * 2,
        },
        "text_cfg": {
            "context_length": TOKENS, "vocab_size": len(tokenizer()), "width": WIDTH, "heads": HEADS, "layers": LAYERS,
        },
    }  # fmt: skip


def new_clip() -> open_clip.CLIP:
    """The untrained model. Channels-last saves a sixth of the picture tower's time (124 against 151 ms for 32)."""
    torch.manual_seed(SEED + 2)
    model = open_clip.CLIP(**model_config()).to(DEVICE)  # type: ignore[arg-type]  # as its JSON says
    model.visual.to(memory_format=torch.channels_last)
    return model


def start_from(model: open_clip.CLIP, folder: Path) -> None:
    """Take over another miniature's judge of the same shape: all weights, and the embeddings of words that both
    vocabularies hold."""
    source = load_file(folder / "open_clip_model.safetensors")
    theirs, ours = CLIPTokenizer.from_pretrained(str(folder)).get_vocab(), tokenizer().get_vocab()
    table = model.token_embedding.weight.detach().clone()
    shared = sorted(ours.keys() & theirs.keys())
    table[[ours[word] for word in shared]] = source["token_embedding.weight"][[theirs[w] for w in shared]].float()
    model.load_state_dict({name: v.float() for name, v in source.items()} | {"token_embedding.weight": table})


class Batches:
    """Pictures [2K, 3, H, W], the captions of the first K, the numbers of all pictures' parts [2K, P], and which
    subject each of the K is."""

    def __init__(self) -> None:
        self.placed = Placed()
        self.rows: dict[str, list[list[int]]] = {}
        by_subject: dict[int, list[int]] = {}
        for row in self.placed.rows:
            by_subject.setdefault(int(self.placed.subject[row]), []).append(int(row))
        for number, rows in by_subject.items():
            self.rows.setdefault(self.placed.subjects[number].kind, []).append(rows)
        self.kinds = sorted(self.rows)

    def draw(self, count: int, random: np.random.Generator) -> tuple[Tensor, list[str], Tensor]:
        """One batch of `count` subjects of any kind."""
        batch = random.choice(["subjects", "kinds", "scenes"], p=[0.4, 0.35, 0.25])
        kinds = random.choice(self.kinds, 2 if batch == "kinds" else len(self.kinds), replace=False)
        chosen = []
        for kind, part in zip(kinds, np.array_split(np.arange(count), len(kinds)), strict=True):
            numbers = random.choice(len(self.rows[kind]), len(part), replace=len(part) > len(self.rows[kind]))
            chosen += [random.choice(self.rows[kind][number], 2, replace=False) for number in numbers]
        pictures, scenes = self.placed.batch(np.array(chosen).T.reshape(-1), random)
        named, background, rest = {"subjects": (0.8, 0.4, 0.6), "kinds": (0.9, 0.2, 0.5), "scenes": (0.0, 1.0, 0.95)}[
            str(batch)
        ]
        captions = [caption(scene, random, named, background, rest) for scene in scenes[:count]]
        parts = torch.tensor([part_numbers(scene.subject) for scene in scenes], device=DEVICE)
        return spoil(pictures, random), captions, parts


def spoil(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """Move, and now and then soften: the judge will look at pictures of a generator whose edges are soft."""
    dx, dy = (int(random.integers(-3, 4)) for _ in range(2))
    pictures = torch.roll(F.pad(pictures, (3, 3, 3, 3), mode="replicate"), (dx, dy), dims=(-1, -2))[..., 3:-3, 3:-3]
    soft = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
    blurred = torch.from_numpy(random.random(len(pictures)) < 0.3).to(DEVICE)[:, None, None, None]
    seeded = torch.Generator(DEVICE).manual_seed(int(random.integers(2**31)))
    noise = torch.randn(pictures.shape, device=DEVICE, generator=seeded)
    return (torch.where(blurred, soft, pictures) + 0.04 * noise).clamp(-1, 1)


def contrast(a: Tensor, b: Tensor, scale: Tensor | float, same: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit rows [B, E] where `same` [B, B] marks all positives (arXiv 2204.03610)."""
    logits = scale * a @ b.T
    target = same / same.sum(dim=1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True)))


def loss_of(model: open_clip.CLIP, readers: nn.Linear, batch: tuple[Tensor, list[str], Tensor]) -> Tensor:
    """Pictures against captions, pictures against pictures, and the parts that can be read off the pictures."""
    pictures, captions, parts = batch
    with fast():
        seen = model.encode_image(pictures.contiguous(memory_format=torch.channels_last)).float()
        read = model.encode_text(token_ids(captions), normalize=True).float()
    one, two = F.normalize(seen, dim=-1).chunk(2)
    numbers = torch.tensor([captions.index(text) for text in captions], device=DEVICE)
    loss = contrast(one, read, model.logit_scale.exp(), (numbers[:, None] == numbers).float())
    mine = parts.chunk(2)[0]
    same = (mine[:, None] == mine).all(-1).float()
    loss = loss + PAIRS * contrast(one, two, PICTURE_SCALE, same)
    there = torch.zeros(len(parts), NONE + 1, device=DEVICE).scatter_(1, parts, 1.0)[:, :NONE]
    told = F.binary_cross_entropy_with_logits(readers(F.normalize(seen, dim=-1) * 10), there, reduction="none")
    return loss + PARTS * told.sum(1).mean() / parts.shape[1]


def train(scale: float) -> open_clip.CLIP:
    """Train the judge; goes on from its checkpoint."""
    model, checkpoint, total = new_clip(), WORK / "clip.pt", budget(SAMPLES, scale)
    if START and not checkpoint.is_file():
        start_from(model, START / "mini-clip")
    batches = Batches()
    readers = nn.Linear(EMBEDDING, NONE, device=DEVICE)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [*(p for p in model.parameters() if p.ndim <= 1), *readers.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=RATE,
        betas=(0.9, 0.98),
    )
    for group in optimizer.param_groups:
        group["peak"] = RATE
    done = resume(checkpoint, model=model, optimizer=optimizer, readers=readers)
    progress, kept = Progress("clip", total, done), done
    while done < total:
        batch = batches.draw(BATCH, np.random.default_rng((SEED + 2, done)))
        loss = loss_of(model, readers, batch)
        set_rate(optimizer, cosine(done / total, warm=0.03))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        done += len(batch[0])
        progress.step(done, lambda: f"loss {loss.item():.3f}, scale {model.logit_scale.exp().item():.1f}")
        if done - kept >= 5_000 or done >= total:
            kept = done
            keep(checkpoint, done, model=model, optimizer=optimizer, readers=readers)
    return model.eval()


@torch.no_grad()
def figures(model: open_clip.CLIP) -> str:
    """A first look at held-out subjects: picture→picture R@1 of 32, caption→picture R@1 of 64, background of 12."""
    random, held = np.random.default_rng(SEED), Placed(held_out=True)
    by: dict[int, list[int]] = {}
    for row in held.rows:
        by.setdefault(int(held.subject[row]), []).append(int(row))
    pairs, texts, grounds = [], [], []
    for _ in range(8):
        chosen = random.choice(sorted(by), min(64, len(by)), replace=False)
        rows = np.array([random.choice(by[number], 2, replace=False) for number in chosen])
        (first, scenes), (second, _) = (held.batch(rows[:, side], random, styled=0.0) for side in (0, 1))
        one, two = (model.encode_image(part, normalize=True) for part in (first, second))
        read = model.encode_text(token_ids([caption(s, random, 1.0, 0.0, 0.0) for s in scenes]), normalize=True)
        pairs.append(_hits(one[:32] @ two[:32].T))
        texts.append(_hits(read @ one.T))
        words = [f"a {s.subject.kind} on {with_article(name, 'a')} background" for s in scenes for name in NAMES]
        told = model.encode_text(token_ids(words), normalize=True).view(len(scenes), len(NAMES), -1)
        guess = torch.einsum("ke,kne->kn", one, told).argmax(1)
        grounds.append(np.mean([NAMES[g] == s.background for g, s in zip(guess.tolist(), scenes, strict=True)]))
    return f"held-out pictures {np.mean(pairs):.3f}, captions {np.mean(texts):.3f}, background {np.mean(grounds):.3f}"


def _hits(scores: Tensor) -> float:
    return float((scores.argmax(1) == torch.arange(len(scores), device=scores.device)).float().mean())


def read_clip() -> open_clip.CLIP:
    """What this stage wrote, in eval mode."""
    model = new_clip()
    model.load_state_dict(load(WORK / "clip-done.pt"))
    return model.eval()


def main() -> None:
    """Run the stage."""
    scale = arguments(__doc__ or "")
    if (WORK / "clip-done.pt").is_file():
        return
    model = train(scale)
    log.info("judge: %s", figures(model))
    save(model.state_dict(), WORK / "clip-done.pt")


if __name__ == "__main__":
    main()
