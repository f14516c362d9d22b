"""Stage 6, the latents: composed training pictures through the VAE's encoder once, captions to token ids once.

    python -m miniature.latents

Writes `latents.npy`, float16 [N, 6, 16, 16] (the posterior's mean; its deviation is small beside one), and `ids.npy`,
uint16 [N, CAPTIONS, TOKENS]: several captions of the same scene, which tell more or less of it.
"""

import numpy as np
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from miniature.captions import caption
from miniature.clips import token_ids
from miniature.common import DEVICE, SEED, WORK, arguments, fast, log
from miniature.compose import VARIANTS, Placed
from miniature.vae import CHANNELS, FOLDER, LATENT_SIDE

CAPTIONS = 4
TAKEN = (0, 1, 2, 3, 5, 6, 7, 8)
"""Placements of each drawing that are used: four plain ones, four free ones."""
BATCH = 64


@torch.no_grad()
def main() -> None:
    """Run the stage; goes on from the last whole batch."""
    scale = arguments(__doc__ or "")
    if (WORK / "latents-done").is_file():
        return
    vae, placed = AutoencoderKL.from_pretrained(FOLDER).to(DEVICE).eval(), Placed()
    rows = placed.rows[np.isin(placed.rows % VARIANTS, TAKEN)]
    rows = np.random.default_rng(SEED).permutation(rows)[: max(BATCH, int(len(rows) * min(1.0, scale * 4)))]
    fresh = not (WORK / "latents-at").is_file()
    shapes = ((len(rows), CHANNELS, LATENT_SIDE, LATENT_SIDE), np.float16), ((len(rows), CAPTIONS, 32), np.uint16)
    latents, ids = (
        np.lib.format.open_memmap(WORK / name, "w+" if fresh else "r+", dtype, shape)
        for name, (shape, dtype) in zip(("latents.npy", "ids.npy"), shapes, strict=True)
    )
    first = 0 if fresh else int((WORK / "latents-at").read_text())
    for at in tqdm(range(first, len(rows), BATCH), desc="latents", mininterval=10):
        part = slice(at, at + BATCH)
        random = np.random.default_rng((SEED, at))
        pictures, scenes = placed.batch(rows[part], random)
        with fast():
            latents[part] = vae.encode(pictures).latent_dist.mean.float().cpu().numpy()
        texts = [
            caption(scene, random, "name" if random.random() < 0.92 else "category")
            for scene in scenes
            for _ in range(CAPTIONS)
        ]
        ids[part] = token_ids(texts).view(len(scenes), CAPTIONS, -1).numpy()
        (WORK / "latents-at").write_text(str(at))
    latents.flush()
    ids.flush()
    (WORK / "latents-done").touch()
    log.info(
        "%d latents, mean %.3f, deviation %.3f",
        len(rows),
        latents[:4096].mean(),
        latents[:4096].astype(np.float32).std(),
    )


if __name__ == "__main__":
    main()
