"""Stage 8, the reader of parts: a small network that says of any picture which kind, parts, colours, background, style.

    python -m miniature.reader

It is the ground truth of this world: what a word has learned and whether a prompt was obeyed, as shares of parts and
attributes, and so how good the judge is. It shares pictures with the judge and with the diffusion model, and no
weights, no words and no part of the loss. It chooses no steps. `Reader.read` gives one value per attribute; its
accuracy on scenes of held-out subjects, attribute by attribute, is written beside its weights (`reader.json`), and
only what it can tell may be scored.

Shapes: B pictures [B, 3, 64, 64] in [−1, 1]; one row of logits for all attributes' values, A of them.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from miniature.art import KINDS, is_colour
from miniature.clips import spoil
from miniature.common import (
    DEVICE,
    SEED,
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
from miniature.compose import COLOURLESS, NAMES, PLACES, STYLES, Placed, Scene

SAMPLES = 200_000
BATCH = 32 * WIDER
RATE = 2e-3
FOLDER = WORK / "reader"
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "kind": tuple(KINDS),
    "background": NAMES,
    "style": STYLES,
    "size": ("large", "small"),
    "place": PLACES,
    **{f"{kind}/{part}": tuple(values) for kind, told in KINDS.items() for part, values in told.parts.items()},
}
"""{attribute: its values}; a part's attribute is "kind/part"."""
_FIRST = dict(
    zip(ATTRIBUTES, np.cumsum([0, *(len(values) for values in ATTRIBUTES.values())])[:-1].tolist(), strict=True)
)
IGNORED = -100


def truth(scene: Scene) -> dict[str, str]:
    """What there is to read in a scene: no background and no colours where the style does not show them."""
    told = {
        "kind": scene.subject.kind,
        "style": scene.style,
        "size": "small" if scene.small else "large",
        "place": scene.place,
    }
    if scene.background:
        told["background"] = scene.background
    for part, value in scene.subject.parts.items():
        if not (is_colour(part) and scene.style in COLOURLESS):
            told[f"{scene.subject.kind}/{part}"] = value
    return told


class Block(nn.Module):
    """Two 3×3 convolutions beside a 1×1 one, then half the size."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(into, out, 3, padding=1, bias=False)
        self.two = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.past = nn.Conv2d(into, out, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, into, H, W] to [B, out, H/2, W/2]."""
        y = F.relu(self.norms[0](self.one(x)))
        return F.max_pool2d(F.relu(self.norms[1](self.two(y)) + self.norms[2](self.past(x))), 2)


class Reader(nn.Module):
    """Three blocks to 4×4, the whole of which one hidden layer reads: parts have their places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(24, 48), Block(48, 96), Block(96, 160))
        self.hidden = nn.Linear(160 * 16, 320)
        self.out = nn.Linear(320, sum(map(len, ATTRIBUTES.values())))

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 3, 64, 64] to logits [B, A]."""
        return self.out(F.relu(self.hidden(self.blocks(F.relu(self.stem(pictures))).flatten(1))))

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[dict[str, str]]:
        """What is to be seen in each picture: every attribute, of the parts those of the kind that is seen."""
        logits = torch.cat([self(part) for part in pictures.split(64)])
        best = {name: of(logits, name).argmax(1).tolist() for name in ATTRIBUTES}
        read = []
        for number in range(len(pictures)):
            every = {name: ATTRIBUTES[name][best[name][number]] for name in ATTRIBUTES}
            read.append({k: v for k, v in every.items() if "/" not in k or k.startswith(f"{every['kind']}/")})
        return read


def of(logits: Tensor, attribute: str) -> Tensor:
    """The columns of one attribute."""
    first = _FIRST[attribute]
    return logits[:, first : first + len(ATTRIBUTES[attribute])]


def loss_of(logits: Tensor, scenes: list[Scene]) -> Tensor:
    """Cross-entropy of every attribute that the scenes show, summed over attributes, mean over pictures."""
    told = [truth(scene) for scene in scenes]
    total = logits.new_zeros(())
    for name, values in ATTRIBUTES.items():
        target = torch.tensor([values.index(t[name]) if name in t else IGNORED for t in told], device=logits.device)
        if (target != IGNORED).any():
            total = total + F.cross_entropy(of(logits, name), target, ignore_index=IGNORED, reduction="sum")
    return total / len(scenes)


def train(total: int) -> Reader:
    """Train on pictures of seen subjects; goes on from its checkpoint."""
    torch.manual_seed(SEED + 5)
    model, checkpoint = Reader().to(DEVICE).to(memory_format=torch.channels_last), WORK / "reader.pt"
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.05)
    for group in optimizer.param_groups:
        group["peak"] = RATE
    done = resume(checkpoint, model=model, optimizer=optimizer)
    placed, progress, kept = Placed(), Progress("reader", total, done), done
    while done < total:
        random = np.random.default_rng((SEED + 5, done))
        pictures, scenes = placed.batch(random.choice(placed.rows, BATCH), random)
        with fast():
            logits = model(spoil(pictures, random).contiguous(memory_format=torch.channels_last)).float()
        loss = loss_of(logits, scenes)
        set_rate(optimizer, cosine(done / total, warm=0.03))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        done += BATCH
        progress.step(done, lambda: f"loss {loss.item():.3f}")
        if done - kept >= 5_000 or done >= total:
            kept = done
            keep(checkpoint, done, model=model, optimizer=optimizer)
    return model.eval()


def accuracy(model: Reader, count: int = 4_000) -> dict[str, float]:
    """{attribute: share read rightly} over scenes of held-out subjects, as they come (styles and sizes included)."""
    placed, random = Placed(held_out=True), np.random.default_rng(SEED + 6)
    hits: dict[str, list[bool]] = {}
    for _ in range(max(1, count // 200)):
        pictures, scenes = placed.batch(random.choice(placed.rows, 200), random)
        for seen, scene in zip(model.read(pictures), scenes, strict=True):
            for name, value in truth(scene).items():
                hits.setdefault(name, []).append(seen.get(name) == value)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def read_reader(folder: Path = FOLDER) -> tuple[Reader, dict[str, float]]:
    """The trained reader in eval mode and its own accuracy by attribute."""
    model = Reader()
    model.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in
                           load_file(folder / "reader.safetensors").items()})  # fmt: skip
    return model.to(DEVICE).eval(), json.loads((folder / "reader.json").read_text())


def main() -> None:
    """Run the stage."""
    scale = arguments(__doc__ or "")
    if (FOLDER / "reader.json").is_file():
        return
    model = train(budget(SAMPLES, scale))
    told = accuracy(model)
    FOLDER.mkdir(parents=True, exist_ok=True)
    halves = {name: v.half() if v.is_floating_point() else v for name, v in model.state_dict().items()}
    save_file({name: v.contiguous() for name, v in halves.items()}, FOLDER / "reader.safetensors")
    (FOLDER / "reader.json").write_text(json.dumps({k: round(v, 4) for k, v in told.items()}, indent=1) + "\n")
    parts = [v for name, v in told.items() if "/" in name]
    log.info("reader: background %.3f, mean over parts %.3f", told["background"], float(np.mean(parts)))


if __name__ == "__main__":
    main()
