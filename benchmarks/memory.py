"""How much memory does it need on a card? Counted on the meta device, and the count held against measured peaks on a CPU.

    python benchmarks/memory.py          # a few minutes; writes docs/benchmarks/memory.md
    python benchmarks/memory.py --check  # the check alone

The shapes are those of the public SD 1.5 and SDXL; no weights are read and no card is needed. Measured is what torch's
allocator has handed out at the most during one pass, as its profiler saw it, and the high-water mark of the process's
resident memory (Linux), each over what was there before.
"""

import argparse
import ctypes
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.folders import random_model
from ti_core.backbone import footprint
from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.backbone.room import SHORT
from ti_core.records import BaseModelInfo

ROOT = Path(__file__).resolve().parent.parent
CARDS = (6, 8, 12, 16, 24, 48, 80)
"""GiB."""
SAMPLES = 4
"""Of a training step by default."""
JUDGE = 151.3e6 * 4
"""Bytes of CLIP ViT-B/32 in fp32."""
CHECKED = {"tiny": 96, "miniature": 24}
"""Samples of the training passes that are measured; twice as many pictures are made."""
GIB = 2**30


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="count and measure the small models alone")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/memory.md")
    given = parser.parse_args()
    checked = check()
    if given.check:
        print(checked)
        return
    parts = [table(name, size) for name, size in (("SD 1.5, 512²", "sd15"), ("SDXL, 1024²", "sdxl"))]
    given.out.write_text(page(parts, checked))
    print(given.out.read_text())


PAGE = """# Memory

*Computed*, by `python benchmarks/memory.py` (torch {torch}): nothing here was measured on a card. U-Net in bf16 or fp16, text encoders and VAE in fp32,
a step of {samples} samples. A pass is run on the meta device, which has shapes and no numbers, and the bytes that are alive are summed up; {slack} times
that (for kernels and fragments, a guess), {context:.1f} GB for CUDA itself, and the weights must fit. Nothing in these tables needs an option: what does not fit
is done in smaller parts by itself.

{tables}
*samples in a pass*: a step is done in as many passes as it takes, with the same samples ([decision](../decisions/0017-number-types-and-memory.md)). *recomputed*: gradient
checkpointing, about a forward pass slower. *in tiles*: the VAE works on quarters of a picture, blended. *text encoders wait*: on the CPU while pictures are
made. *concepts at a time*: what fits at most; `--slots 0` takes about two thirds of it.

`--resolution 768` trains SDXL in 0.56 of the memory of a pass, 512 in a quarter; pictures are judged at the model's own size all the same.

## The count, checked

One pass on a CPU (fp32), over what was there before: the most that torch's allocator had handed out at a time (of a card
`torch.cuda.max_memory_allocated` tells it), beside the count without its factor; more than 15% apart and the program fails. The process's resident memory rises
further, by what the CPU's kernels (oneDNN) take for themselves and by pages that malloc keeps.

{checked}
"""


def page(tables: list[str], checked: str) -> str:
    """The document."""
    return PAGE.format(
        tables="\n".join(tables), checked=checked, torch=torch.__version__, samples=SAMPLES, slack=footprint.SLACK,
        context=footprint.CONTEXT / 1e9,
    )  # fmt: skip


def table(name: str, size: str) -> str:
    """What fits each card, as Markdown."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / size
        side = random_model(size, folder, "meta")
        kind = "sdxl" if size == "sdxl" else "sd1"
        info = BaseModelInfo(name=name, slug=size, folder=str(folder), kind=kind, digest="", resolution=side)
        model = load(info, torch.device("meta"), precision="fp16")
    held = footprint.weights(model)
    plain, recomputed = (footprint.training_bytes(model, side, 1, again) for again in (False, True))
    encode, decode = ((of(model, side), of(model, side // 2)) for of in
                      (footprint.encoding_bytes, footprint.decoding_bytes))  # fmt: skip
    picture = footprint.sampling_bytes(model, side)
    lines = [
        f"## {name}",
        "",
        f"Weights {held.all / 1e9:.1f} GB (U-Net {held.unet / 1e9:.2f}, text encoders {held.texts / 1e9:.2f}, VAE "
        f"{held.vae / 1e9:.2f}). A sample's training pass {plain / 1e9:.2f} GB, recomputed {recomputed / 1e9:.2f}; a "
        f"picture's U-Net call {picture / 1e9:.2f}; the VAE encodes in {encode[0] / 1e9:.2f} and decodes in "
        f"{decode[0] / 1e9:.2f}.",
        "",
        "| card | training | preparing pictures | judging |",
        "|---|---|---|---|",
    ]
    for card in CARDS:
        free = card * GIB - footprint.CONTEXT
        short = held.all > SHORT * card * GIB
        training = _training(free - held.unet - held.texts - (0 if short else held.vae), plain, recomputed)
        preparing = _vae(free - (held.vae if short else held.all), encode)
        rest = free - held.unet - held.vae - JUDGE - (0 if short else held.texts)
        judging = "does not fit" if rest < footprint.SLACK * picture else _vae(rest, decode)
        waiting = ", text encoders wait" if short and judging != "does not fit" else ""
        lines.append(f"| {card} GB | {training} | {preparing} | {judging}{waiting} |")
    return "\n".join([*lines, ""])


def _training(free: float, plain: int, recomputed: int) -> str:
    fits = int(free / (footprint.SLACK * plain))
    if fits >= SAMPLES:
        concepts = fits // SAMPLES
        return f"{concepts} concept{'s' if concepts > 1 else ''} at a time"
    part = next((n for n in range(SAMPLES, 0, -1) if n <= fits and SAMPLES % n == 0), 0)
    if part:
        return f"{part} sample{'s' if part > 1 else ''} in a pass"
    return "1 sample in a pass, recomputed" if free >= footprint.SLACK * recomputed else "does not fit"


def _vae(free: float, needed: tuple[int, int]) -> str:
    whole, tiled = (free >= footprint.SLACK * one for one in needed)
    return "yes" if whole else "in tiles" if tiled else "does not fit"


def check() -> str:
    """Counted against measured, as Markdown. Ends the program where they are more than 15% apart."""
    rows, wrong = ["| model | pass, samples | counted | allocated | | resident |", "|---|---|---|---|---|---|"], []
    with tempfile.TemporaryDirectory() as temporary:
        for name, samples in CHECKED.items():
            folder = name
            if name == "tiny":
                folder = str(Path(temporary) / name)
                random_model(name, Path(folder), "cpu")
            hollow, model = (load(find_base(folder), torch.device(place)) for place in ("meta", "cpu"))
            side = model.info.resolution
            for what, count in (("training", samples), ("recomputed", samples), ("sampling", 2 * samples)):
                counted = (
                    footprint.sampling_bytes(hollow, side, count)
                    if what == "sampling"
                    else footprint.training_bytes(hollow, side, count, what == "recomputed")
                )
                allocated, resident = measured(model, what, count)
                apart = allocated / counted - 1
                rows.append(
                    f"| {name} | {what}, {count} | {counted / 1e6:.0f} MB | {allocated / 1e6:.0f} MB | {apart:+.1%} | "
                    f"{resident / 1e6:.0f} MB |"
                )
                print(rows[-1], file=sys.stderr, flush=True)
                wrong += [rows[-1]] if abs(apart) > 0.15 else []
    if wrong:
        raise SystemExit("The count is more than 15% off:\n" + "\n".join(wrong))
    return "\n".join(rows)


def measured(model: Backbone, what: str, count: int) -> tuple[int, int]:
    """Bytes by which one pass raises what torch's allocator has handed out, and this process's resident memory."""
    one_pass(model, what, 2)  # libraries, threads and what kernels keep
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew; see proc(5)
    one_pass(model, what, count)
    resident = _resident("VmHWM") - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        one_pass(model, what, count)
    events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
    most = now = 0
    for one in sorted(events, key=lambda one: one.start_ns()):
        now += one.nbytes()
        most = max(most, now)
    return most, resident


def one_pass(model: Backbone, what: str, count: int) -> None:
    """A real pass, as `footprint` counts it."""
    side = model.info.resolution
    if what == "sampling":
        with torch.no_grad():
            told = model.encode_prompts(model.tokens(["a photo of a dog"] * (2 * count), {}), {})
            model.denoise(torch.zeros((2 * count, *model.latent_shape(side))), torch.zeros(2 * count).long(), told)
        return
    model.recompute(what == "recomputed")
    rows = {name: one.requires_grad_() for name, one in model.initial_vectors("dog", 1).items()}
    tokens = model.tokens(["a photo of a <word>"] * count, {"<word>": 1})
    told = model.encode_prompts(tokens, {name: row.expand(count, 1, -1) for name, row in rows.items()})
    noise = torch.zeros((count, *model.latent_shape(side)))
    (model.denoise(noise + 1, torch.zeros(count).long(), told) - noise).square().mean().backward()


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
