"""The benchmark's table says what its raw figures say."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.training_table import write


def arm(label: str, side: str, rates: list[float], slots: int = 1, **more: Any) -> dict[str, Any]:
    results = [{"samples_per_second": rate, "start_up": 5.0, "peak_bytes": 2e9, **more} for rate in rates]
    return {"label": label, "side": side, "slots": slots, "batch": 8, "results": results}


def run(label: str, walls: list[float], written: int, concepts: int = 1) -> dict[str, Any]:
    results = [{"wall": wall, "bytes_written": written, "bytes_prepared": 10, "peak_bytes": 1e9} for wall in walls]
    return {"label": label, "concepts": concepts, "results": results}


@pytest.fixture
def found() -> dict[str, Any]:
    return {
        "options": {"full_size": "", "base_model": "miniature", "batch": 8, "learning_rate": 5e-3, "precision": "fp32",
                    "repeats": 3, "steps": 500, "quick": False, "script": "somewhere/textual_inversion.py"},
        "ground": {"device": "a card", "torch": "2", "resolution": 64, "floor": 2e9, "vae_encode": 1e9},
        "ceiling": 200e9,
        "minutes": 9.0,
        "rates": [
            arm("peer 1 × 4", "peer", [10, 11, 90]), arm("peer 8", "peer", [20]),
            arm("peer 8, latents cached", "peer", [25]), arm("ours 8", "ours", [40]),
            arm("ours 4 × 8", "ours", [55], slots=4),
        ],
        "runs": [run("peer 1 × 4", [100, 120, 110], 7000), run("ours 8 × 4", [220], 80, concepts=8)],
        "scores": {"fox": {who: {"clip_i": 0.5, "clip_t": 0.25} for who in ("class word", "peer", "ours")}},
    }  # fmt: skip


def row(text: str, label: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {label}")]
    return line


def test_ratios_are_of_medians(found: dict[str, Any], tmp_path: Path) -> None:
    text = write(found, tmp_path).read_text()
    assert "| **55.0** (55.0) | 5.00 | 2.75 | 55% |" in row(text, "ours 4 × 8 |")
    assert "| **11.0** (10.0, 11.0, 90.0) | 1.00 |" in text


def test_factors_multiply_to_the_lead(found: dict[str, Any], tmp_path: Path) -> None:
    lines = write(found, tmp_path).read_text().split("## Where the lead comes from")[1].split("##")[0].splitlines()
    *factors, together = [float(line.split("|")[2].strip(" *")) for line in lines[4:] if line.startswith("| ")]
    product = 1.0
    for factor in factors:
        product *= factor
    assert product == pytest.approx(together, rel=0.01)


def test_runs_are_counted_per_concept(found: dict[str, Any], tmp_path: Path) -> None:
    assert "| **27.5** (27.5) | 4.00 | 1,000 | 10 | 700 |" in row(write(found, tmp_path).read_text(), "ours 8 × 4")


def test_a_pack_that_memory_made_smaller_says_so(found: dict[str, Any], tmp_path: Path) -> None:
    found["rates"][-1] = arm("ours 4 × 8", "ours", [55], slots=4) | {
        "results": [{"samples_per_second": 55, "start_up": 5, "peak_bytes": 2e9, "slots": 2}]
    }
    assert "(memory holds 2)" in row(write(found, tmp_path).read_text(), "ours 4 × 8")


def test_raw_figures_and_plot_lie_beside_the_table(found: dict[str, Any], tmp_path: Path) -> None:
    path = write(found, tmp_path / "new")
    assert json.loads(path.with_suffix(".json").read_text()) == found
    assert path.with_suffix(".png").stat().st_size > 5000
