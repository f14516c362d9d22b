"""What all stages share: the work folder, the budget, atomic files, schedules, seeds, progress, threads.

A stage is done when its result file exists; a training stage keeps a checkpoint and goes on from it. Schedules count
samples, not seconds, so that a stopped or slowed process learns the same thing.
"""

import argparse
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

WORK = Path(os.environ.get("MINIATURE_WORK", "work/miniature"))
"""Cache and checkpoints of all stages."""
START = Path(os.environ["MINIATURE_START"]) if os.environ.get("MINIATURE_START") else None
"""Folder of another miniature (`mini-sd`, `mini-clip`) whose weights the training stages start from; None: nothing."""
SIDE = 64
"""Pixels of a picture's side."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WIDER = 8 if DEVICE.type == "cuda" else 1
"""How many times larger batches are on a GPU, which small ones leave idle. Budgets count samples: fewer steps."""
SEED = 20
TOKENS = 32
"""Length of a tokenised caption."""

log = logging.getLogger("miniature")


def arguments(description: str) -> float:
    """Set up one stage's process (one thread, logging, work folder) and return `--scale`, the share of the budget."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of every sample budget; 0.001 is a smoke test")
    scale: float = parser.parse_args().scale
    set_up()
    return scale


def set_up() -> None:
    """What every process of the recipe starts with; `arguments` does it for the first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    for noisy in ("httpx", "PIL", "diffusers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    torch.set_num_threads(1)
    WORK.mkdir(parents=True, exist_ok=True)


HALF = DEVICE.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Whether bf16 is fast here. Where a CPU only emulates it, a convolution takes forty times as long as in fp32."""


@contextmanager
def fast() -> Iterator[None]:
    """bf16 autocast where it is fast and, on a CPU, plain attention: 2.8 times the U-Net's speed on one core with
    AVX-512 bf16 (54 against 19 samples/s). The fused attention's backward pass is slow there for so short sequences."""
    attention = [SDPBackend.MATH] if DEVICE.type == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=HALF), sdpa_kernel(attention):
        yield


def budget(samples: int, scale: float) -> int:
    """`samples` at this scale, never less than a few batches."""
    return max(int(samples * scale), 256)


def save(state: Any, path: Path) -> None:
    """`torch.save` that a kill cannot cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> Any:
    """Read what `save` wrote."""
    return torch.load(path, map_location="cpu", weights_only=True)


def resume(path: Path, **parts: Any) -> int:
    """Load what `keep` wrote into `parts` and return the samples done; without a checkpoint 0, and nothing changes."""
    if not path.is_file():
        return 0
    state = load(path)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["done"])


def keep(path: Path, done: int, **parts: Any) -> None:
    """Write a checkpoint: `done` samples and the states of `parts` (model, optimizer, …)."""
    save({name: part.state_dict() for name, part in parts.items()} | {"done": done}, path)


def cosine(done: float, warm: float = 0.02) -> float:
    """Factor of the learning rate when the share `done` of the budget is spent: linear up, then a cosine to 0."""
    if done < warm:
        return max(done / warm, 0.02)
    return 0.5 * (1 + math.cos(math.pi * min((done - warm) / (1 - warm), 1.0)))


def plateau(done: float, warm: float = 0.01, falling: float = 0.25) -> float:
    """Factor of the learning rate: linear up, 1 until the last `falling` of the budget, then linear to 0."""
    return max(min(done / warm, 1.0, (1 - done) / falling), 0.0)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's `peak` learning rate by `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


class Progress:
    """A log line now and then: samples done, speed, what the stage wants to tell, time left."""

    def __init__(self, stage: str, total: int, done: int, every: float = 20.0) -> None:
        self.stage, self.total, self.every = stage, total, every
        self.first, self.began, self.told = done, time.monotonic(), time.monotonic()

    def step(self, done: int, words: Callable[[], str]) -> None:
        """Tell, if it is time."""
        now = time.monotonic()
        if now - self.told < self.every and done < self.total:
            return
        self.told = now
        rate = (done - self.first) / max(now - self.began, 1e-9)
        left = (self.total - done) / max(rate, 1e-9) / 60
        log.info("%s %d/%d (%.0f %%), %.1f samples/s, %.0f min left; %s",
                 self.stage, done, self.total, 100 * done / self.total, rate, left, words())  # fmt: skip
