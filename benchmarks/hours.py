"""How long does a word take on a card? Counted: FLOPs of training and judging at the defaults, over a card's data sheet.

    python benchmarks/hours.py          # a minute; writes docs/benchmarks/hours.md

Matrix products, convolutions and attention of one pass are counted on the meta device, from the public models'
configurations: no weights are read and no card is needed. A card is taken to do a third of what its data sheet says of
dense 16-bit matrix products, which is a guess; `ti train --plan` measures a machine of one's own. Loading, preparing
and the judge's CLIP are not counted.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floor import count
from benchmarks.folders import random_model
from ti_core.config import BackboneKind
from ti_core.planning.effort import Effort, efforts

ROOT = Path(__file__).resolve().parent.parent
CARDS = {"T4": 65, "RTX 3060": 25.5, "RTX 4090": 165, "A10": 125, "A100": 312, "H100 (SXM)": 989}
"""Tera-FLOP/s of dense fp16 or bf16 products that accumulate in fp32, by NVIDIA's data sheets (half of the fp16 figure on
consumer cards)."""
SHARE = 1 / 3
MODELS: dict[BackboneKind, tuple[str, str]] = {"sd1": ("sd15", "SD 1.5, 512²"), "sdxl": ("sdxl", "SDXL, 1024²")}


def forward_flops(folder: Path, resolution: int) -> int:
    """FLOPs of one forward pass of the U-Net."""
    config = UNet2DConditionModel.load_config(str(folder / "unet"))
    side = resolution // 8
    with torch.device("meta"), torch.no_grad():
        unet = UNet2DConditionModel.from_config(config)
        hidden = torch.zeros(1, 77, unet.config.cross_attention_dim)
        added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)}
        with FlopCounterMode(display=False) as counter:
            unet(torch.zeros(1, 4, side, side), torch.zeros(1), hidden, added_cond_kwargs=added)
    return counter.get_total_flops()


def row(name: str, effort: Effort, sample: int, forward: int) -> list[str]:
    """One model's cells: FLOPs of both halves, and minutes on every card."""
    training, judging = effort.samples * sample, effort.judging_passes * forward
    minutes = [(training + judging) / (SHARE * speed * 1e12) / 60 for speed in CARDS.values()]
    return [name, f"{training / 1e15:.0f}", f"{judging / 1e15:.0f}", *(f"{max(1, round(one))} min" for one in minutes)]


def main() -> None:
    """Run it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = [["one word at the defaults", "training, 10¹⁵ FLOP", "judging, 10¹⁵ FLOP", *CARDS]]
    rows.append(["---"] * len(rows[0]))
    for kind, (size, name) in MODELS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            side = random_model(size, folder, "meta")
            rows.append(row(name, efforts(kind)["standard"], count(folder, side)["floor"], forward_flops(folder, side)))
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    path = ROOT / "docs" / "benchmarks" / "hours.md"
    path.write_text(
        "# How long a word takes on a card\n\n*Computed*, by `python benchmarks/hours.py`: nothing here was measured. FLOPs of the passes "
        "of the U-Net and the text encoders, at a third of the card's dense 16-bit speed by its data sheet; the third is a guess. `ti train --plan` measures "
        f"a machine of your own. Loading, preparing and CLIP come on top.\n\n{table}\n"
    )
    print(path.read_text())


if __name__ == "__main__":
    main()
