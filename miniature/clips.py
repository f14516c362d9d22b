"""Stage 5, two CLIPs (arXiv 2103.00020): `text`, whose text tower the diffusion model starts from, and the `judge`.

    python -m miniature.clips            # both, one after the other
    python -m miniature.clips --which judge

They share data and code, not weights, seeds or width: a judge related to what it judges would be partial. Only the
judge ships. Three kinds of batches take turns, each without false negatives:

- *things*: every picture another concept, captions that do not tell the background, so that it cannot help; at first
  most of them are on grey, since a network that must learn to look past backgrounds hardly starts to see things;
- *mixed*: every picture another concept, captions that tell more or less;
- *scenes*: few concepts on many backgrounds, or no concept named at all, captions that always tell the background.

In all of them backgrounds differ within the batch: with one background a batch, the network's BatchNorm learned
statistics that single pictures do not have (loss 2.0 in training mode, 3.0 in eval mode).

Every concept comes in two drawings, of different styles where there are; the first has a caption, and the two are to
look alike. Besides, one linear classifier of all concepts (proxies, arXiv 1703.07464) reads pictures and captions;
it is dropped in the end. A batch holds few of a thousand concepts: its contrast alone is slow. The classifier's rows
are not normalised: unit rows left no room in the embedding for anything but the concept (background zero-shot .29).

Shapes: B = 2K pictures of K concepts, K captions, E embedding width.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from miniature.captions import caption
from miniature.common import (
    DEVICE,
    SEED,
    SIDE,
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
from miniature.tokenizer import tokenizer

WIDTH, LAYERS, HEADS = 128, 3, 4
"""The text tower of both."""
PICTURE_SCALE = 12.0
"""Inverse temperature of the picture-picture loss."""
BARE_UNTIL = 0.25
"""Share of the budget over which things on grey give way to things on backgrounds."""
PROXY_SCALE = 20.0
"""Inverse temperature among the proxies, whose lengths are learned."""


@dataclass(frozen=True)
class Kind:
    """What differs between the two. A batch holds `concepts` concepts and twice as many pictures; `rate` is the peak
    learning rate; `pairs` weighs the picture-picture loss."""

    name: str
    width: int
    embedding: int
    samples: int
    concepts: int
    pairs: float
    seed: int
    rate: float


TEXT = Kind("text", width=24, embedding=160, samples=160_000, concepts=16, pairs=0.3, seed=SEED + 1, rate=1e-3)
JUDGE = Kind("judge", width=32, embedding=192, samples=600_000, concepts=16, pairs=0.5, seed=SEED + 2, rate=1e-3)


def model_config(kind: Kind) -> dict[str, object]:
    """open_clip's `model_cfg`: a small ModifiedResNet and a small text transformer."""
    return {
        "embed_dim": kind.embedding,
        "vision_cfg": {
            "image_size": SIDE, "layers": [1, 1, 1, 1], "width": kind.width, "patch_size": None,
            "head_width": kind.width * 2,
        },
        "text_cfg": {
            "context_length": TOKENS, "vocab_size": len(tokenizer()), "width": WIDTH, "heads": HEADS, "layers": LAYERS,
        },
    }  # fmt: skip


def new_clip(kind: Kind) -> open_clip.CLIP:
    """The untrained model. Channels-last saves a sixth of the picture tower's time (124 against 151 ms for 32)."""
    torch.manual_seed(kind.seed)
    model = open_clip.CLIP(**model_config(kind)).to(DEVICE)  # type: ignore[arg-type]
    model.visual.to(memory_format=torch.channels_last)
    return model


def token_ids(texts: list[str]) -> Tensor:
    """[N, TOKENS] int64, padded as the stock pipeline pads."""
    told = tokenizer()(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    return told.input_ids.to(DEVICE)


class Batches:
    """Pictures [2K, 3, H, W], the captions of the first K, the concepts' numbers [K], which the second K show again."""

    def __init__(self) -> None:
        self.placed = Placed()
        self.by_concept: dict[str, dict[str, list[int]]] = {}
        for row in self.placed.rows:
            drawing = self.placed.drawings[self.placed.drawing[row]]
            self.by_concept.setdefault(drawing.concept, {}).setdefault(drawing.style, []).append(int(row))
        self.concepts = sorted(self.by_concept)

    def draw(self, count: int, bare: float, random: np.random.Generator) -> tuple[Tensor, list[str], Tensor, bool]:
        """One batch of `count` concepts of any kind, and whether its captions name the concepts. The share `bare` of a
        *things* batch is on grey."""
        kind = random.choice(["things", "mixed", "scenes"], p=[0.55, 0.2, 0.25])
        few = kind == "scenes"
        chosen = random.choice(len(self.concepts), count // 4 if few else count, replace=False)
        if few:
            chosen = np.repeat(chosen, 4)
        rows = np.array([self._two(int(number), random) for number in chosen]).T.reshape(-1)
        pictures, scenes = self.placed.batch(rows, random, bare if kind == "things" else 0.0)
        scenes = scenes[: len(chosen)]
        subject = "thing" if few and random.random() < 0.3 else "name"
        told = {"things": 0.0, "mixed": 0.7, "scenes": 1.0}[str(kind)]
        rest = {"things": 0.2, "mixed": 0.6, "scenes": 0.9}[str(kind)]
        captions = [caption(scene, random, subject, told, rest) for scene in scenes]  # type: ignore[arg-type]
        if subject == "thing":  # the background and nothing else, so that equal captions are equal scenes
            captions = [
                f"a picture on a {s.background}{f' and {s.second}' if s.second else ''} background" for s in scenes
            ]
        return spoil(pictures, random), captions, torch.from_numpy(chosen).to(DEVICE), subject == "name"

    def _two(self, concept: int, random: np.random.Generator) -> list[int]:
        by_style = self.by_concept[self.concepts[concept]]
        styles = random.permutation(sorted(by_style))
        return [int(random.choice(by_style[style])) for style in (styles[0], styles[-1])]


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


def loss_of(
    model: open_clip.CLIP, proxies: nn.Linear, batch: tuple[Tensor, list[str], Tensor, bool], pairs: float
) -> Tensor:
    """Pictures against captions, pictures against pictures, and both against the proxies, one row a concept."""
    pictures, captions, concepts, named = batch
    with fast():
        seen = model.encode_image(pictures.contiguous(memory_format=torch.channels_last), normalize=True).float()
        read = model.encode_text(token_ids(captions), normalize=True).float()
    one, two = seen.chunk(2)
    numbers = torch.tensor([captions.index(text) for text in captions], device=DEVICE)
    loss = contrast(one, read, model.logit_scale.exp(), (numbers[:, None] == numbers).float())
    loss = loss + pairs * contrast(one, two, PICTURE_SCALE, (concepts[:, None] == concepts).float())
    loss = loss + F.cross_entropy(PROXY_SCALE * proxies(seen), concepts.tile(2))
    return loss + 0.3 * F.cross_entropy(PROXY_SCALE * proxies(read), concepts) if named else loss


def train(kind: Kind, scale: float) -> open_clip.CLIP:
    """Train one CLIP; goes on from its checkpoint."""
    model, checkpoint, total = new_clip(kind), WORK / f"clip-{kind.name}.pt", budget(kind.samples, scale)
    batches = Batches()
    proxies = nn.Linear(kind.embedding, len(batches.concepts), bias=False, device=DEVICE)
    nn.init.normal_(proxies.weight, std=kind.embedding**-0.5)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [*(p for p in model.parameters() if p.ndim <= 1), proxies.weight]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=kind.rate,
        betas=(0.9, 0.98),
    )
    for group in optimizer.param_groups:
        group["peak"] = kind.rate
    done = resume(checkpoint, model=model, optimizer=optimizer, proxies=proxies)
    progress, kept = Progress(f"clip-{kind.name}", total, done), done
    while done < total:
        bare = max(0.0, 1 - done / total / BARE_UNTIL)
        batch = batches.draw(kind.concepts * WIDER, bare, np.random.default_rng((kind.seed, done)))
        loss = loss_of(model, proxies, batch, kind.pairs)
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
            keep(checkpoint, done, model=model, optimizer=optimizer, proxies=proxies)
    return model.eval()


def text_encoder(clip: open_clip.CLIP) -> CLIPTextModel:
    """The text tower of an open_clip model as transformers' CLIPTextModel; both compute the same hidden states."""
    names = tokenizer()
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(names), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, max_position_embeddings=TOKENS, hidden_act="gelu", projection_dim=WIDTH,
            bos_token_id=names.bos_token_id, eos_token_id=names.eos_token_id, pad_token_id=names.pad_token_id,
        )
    )  # fmt: skip
    source, target = clip.state_dict(), {}
    target["embeddings.token_embedding.weight"] = source["token_embedding.weight"]
    target["embeddings.position_embedding.weight"] = source["positional_embedding"]
    for layer in range(LAYERS):
        old, new = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for end in ("weight", "bias"):
            parts = source[f"{old}attn.in_proj_{end}"].chunk(3)
            for letter, part in zip("qkv", parts, strict=True):
                target[f"{new}self_attn.{letter}_proj.{end}"] = part
            target[f"{new}self_attn.out_proj.{end}"] = source[f"{old}attn.out_proj.{end}"]
            target[f"{new}layer_norm1.{end}"] = source[f"{old}ln_1.{end}"]
            target[f"{new}layer_norm2.{end}"] = source[f"{old}ln_2.{end}"]
            target[f"{new}mlp.fc1.{end}"] = source[f"{old}mlp.c_fc.{end}"]
            target[f"{new}mlp.fc2.{end}"] = source[f"{old}mlp.c_proj.{end}"]
    for end in ("weight", "bias"):
        target[f"final_layer_norm.{end}"] = source[f"ln_final.{end}"]
    model.load_state_dict({name: value.clone() for name, value in target.items()})
    return model.eval()


@torch.no_grad()
def figures(model: open_clip.CLIP) -> str:
    """A first look: text→picture R@1 over all seen concepts, held-out picture→picture R@1, background zero-shot."""
    random, batches, held = np.random.default_rng(SEED), Batches(), Placed(held_out=True)
    rows = np.array([batches._two(number, random)[0] for number in range(len(batches.concepts))])
    seen = _encode(model, batches.placed, rows, random)
    texts = token_ids([f"a picture of {'an' if c[0] in 'aeiou' else 'a'} {c}" for c in batches.concepts])
    read = torch.cat([model.encode_text(part, normalize=True) for part in texts.split(256)])
    right = (read @ seen.T).argmax(1) == torch.arange(len(rows), device=DEVICE)
    by: dict[str, list[int]] = {}
    for row in held.rows:
        by.setdefault(held.drawings[held.drawing[row]].concept, []).append(int(row))
    values = []
    for _ in range(8):
        pairs = np.array([_apart(held, by[name], random) for name in sorted(by)])
        one, two = _encode(model, held, pairs[:, 0], random), _encode(model, held, pairs[:, 1], random)
        values.append(((one @ two.T).argmax(1) == torch.arange(len(pairs), device=DEVICE)).float().mean())
    rows = random.choice(held.rows, 256)
    pictures, scenes = held.batch(rows, random)
    plain = [i for i, s in enumerate(scenes) if not s.second]
    colours = model.encode_text(token_ids([f"a picture on a {name} background" for name in NAMES]), normalize=True)
    guess = (model.encode_image(pictures[plain], normalize=True) @ colours.T).argmax(1)
    hit = np.mean([NAMES[g] == scenes[i].background for g, i in zip(guess.tolist(), plain, strict=True)])
    return f"text→picture {right.float().mean():.3f}, held-out {torch.stack(values).mean():.3f}, background {hit:.3f}"


def _encode(model: open_clip.CLIP, placed: Placed, rows: np.ndarray, random: np.random.Generator) -> Tensor:
    parts = [placed.batch(part, random)[0] for part in np.array_split(rows, max(1, len(rows) // 128))]
    return torch.cat([model.encode_image(part, normalize=True) for part in parts])


def _apart(placed: Placed, rows: list[int], random: np.random.Generator) -> list[int]:
    """Two of `rows` in different styles."""
    first = int(random.choice(rows))
    style = placed.drawings[placed.drawing[first]].style
    return [first, int(random.choice([r for r in rows if placed.drawings[placed.drawing[r]].style != style]))]


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--which", choices=["text", "judge", "both"], default="both")
    known, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    scale = arguments(__doc__ or "")
    for kind in (TEXT, JUDGE):
        path = WORK / f"clip-{kind.name}-done.pt"
        if known.which in (kind.name, "both") and not path.is_file():
            model = train(kind, scale)
            log.info("clip-%s: %s", kind.name, figures(model))
            save(model.state_dict(), path)


def read_clip(kind: Kind) -> open_clip.CLIP:
    """What this stage wrote."""
    model = new_clip(kind)
    model.load_state_dict(load(WORK / f"clip-{kind.name}-done.pt"))
    return model.eval()


if __name__ == "__main__":
    main()
