"""Stage 6, the latents: composed training pictures through the VAE's encoder once, captions to token ids once.

    python -m miniature.latents

Writes `latents.npy`, float16 [N, 6, 16, 16] (the posterior's mean; its deviation is small beside one), `ids.npy`,
uint16 [N, CAPTIONS, TOKENS]: several captions of the same scene, which tell more or less of it, and `parts.npy`, uint16
[N, PARTS]: the numbers of the subject's parts (`part_numbers`). The first `WORDED` captions say the parts in words; the
others say only the class word, and are for the vector that `diffusion` makes of the parts.
"""

import numpy as np
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from miniature.art import KINDS, Subject
from miniature.captions import caption, sentence
from miniature.common import DEVICE, SEED, TOKENS, WORK, arguments, fast, log
from miniature.compose import NAMES, UNSEEN_BACKGROUND, Placed
from miniature.tokenizer import token_ids
from miniature.vae import CHANNELS, FOLDER, LATENT_SIDE

WORDED, CAPTIONS = 4, 6
BATCH = 64
PAIRED = 0.3
"""Share of the subjects on the left or right that have another one beside them."""
LEARNED = tuple(name for name in NAMES if name != UNSEEN_BACKGROUND)
"""Backgrounds that the diffusion model learns."""
REPEATS = 2
"""Backgrounds and styles that every placed subject gets."""
NUMBERS = {
    key: number
    for number, key in enumerate(
        (kind, part, value)
        for kind, told in KINDS.items()
        for part, values in {"kind": {kind: ""}, **told.parts}.items()
        for value in values
    )
}
"""{(kind, part, value): its number}; every kind is a part of its own."""
NONE = len(NUMBERS)
"""The number that stands for no part."""
PARTS = 1 + max(len(kind.parts) for kind in KINDS.values())


def part_numbers(subject: Subject) -> list[int]:
    """The numbers of a subject's parts, PARTS of them, filled up with NONE."""
    told = [NUMBERS[subject.kind, "kind", subject.kind]]
    told += [NUMBERS[subject.kind, part, value] for part, value in subject.parts.items()]
    return told + [NONE] * (PARTS - len(told))


@torch.no_grad()
def main() -> None:
    """Run the stage; goes on from the last whole batch."""
    scale = arguments(__doc__ or "")
    if (WORK / "latents-done").is_file():
        return
    vae, placed = AutoencoderKL.from_pretrained(FOLDER).to(DEVICE).eval(), Placed()
    rows = np.random.default_rng(SEED).permutation(np.tile(placed.rows, REPEATS))
    rows = rows[: max(BATCH, int(len(rows) * min(1.0, scale * 4)))]
    fresh = not (WORK / "latents-at").is_file()
    latents, ids, parts = (
        np.lib.format.open_memmap(WORK / f"{name}.npy", "w+" if fresh else "r+", dtype, (len(rows), *shape))
        for name, dtype, shape in (
            ("latents", np.float16, (CHANNELS, LATENT_SIDE, LATENT_SIDE)),
            ("ids", np.uint16, (CAPTIONS, TOKENS)),
            ("parts", np.uint16, (PARTS,)),
        )
    )
    first = 0 if fresh else int((WORK / "latents-at").read_text())
    for at in tqdm(range(first, len(rows), BATCH), desc="latents", mininterval=10):
        here = slice(at, at + BATCH)
        random = np.random.default_rng((SEED, at))
        pictures, scenes = placed.batch(rows[here], random, paired=PAIRED, names=LEARNED)
        with fast():
            latents[here] = vae.encode(pictures).latent_dist.mean.float().cpu().numpy()
        texts = [
            caption(scene, random, named=float(random.choice([0.0, 0.5, 0.9], p=[0.15, 0.25, 0.6])))
            if number < WORDED or scene.beside
            else sentence(scene, KINDS[scene.subject.kind].class_word, random)
            for scene in scenes
            for number in range(CAPTIONS)
        ]
        ids[here] = token_ids(texts).view(len(scenes), CAPTIONS, -1).cpu().numpy()
        # One word cannot say two subjects: those scenes have captions in words only.
        parts[here] = [[NONE] * PARTS if scene.beside else part_numbers(scene.subject) for scene in scenes]
        (WORK / "latents-at").write_text(str(at))
    for written in (latents, ids, parts):
        written.flush()
    (WORK / "latents-done").touch()
    log.info(
        "%d latents, mean %.3f, deviation %.3f",
        len(rows),
        latents[:4096].mean(),
        latents[:4096].astype(np.float32).std(),
    )


if __name__ == "__main__":
    main()
