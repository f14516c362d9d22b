"""The suite for a card: full-size shapes with random weights on CUDA; the same tests with tiny shapes on a CPU, so that
they are alive where there is no card. `benchmarks/gpu.sh test` runs it on one, in steps."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.folders import random_model
from tests.tiny import save_sd1, save_sdxl
from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.config import Precision

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
TINY = {"sd15": save_sd1, "sdxl": save_sdxl}
"""What a CPU takes in place of the full-size shapes. (Tiny shapes of four levels end in one pixel, where group norm
divides by nothing and rounding decides.)"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder's tests are the card's."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of `sd15` or `sdxl`, written once."""
    made = dict[str, Path]()

    def of(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("models") / name
            if CUDA:
                random_model(name, made[name], DEVICE)
            else:
                TINY[name](made[name])
        return made[name]

    return of


@pytest.fixture
def model_of(folder_of: Callable[[str], Path]) -> Callable[..., Backbone]:
    """A model on the device, in a number type."""

    def of(name: str, precision: Precision = "") -> Backbone:
        return load(find_base(str(folder_of(name))), torch.device(DEVICE), precision=precision)

    return of


@pytest.fixture(autouse=True)
def _give_back() -> None:
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
