"""What the benchmark of the judge computes: ranks, truths, what a prompt asks for, and its tables."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import benchmarks.judging_truth as study
from benchmarks.judging_truth import MEASURES, Step, asked_for, foreground, harmonic, spearman, write


def test_ranks_correlate_whatever_the_scale_and_ties_take_mean_ranks() -> None:
    assert spearman([1, 2, 3, 4], [10, 100, 1000, 10_000]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9487, abs=1e-4)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_the_truth_is_nothing_where_either_share_is() -> None:
    assert harmonic(0.0, 1.0) == 0.0
    assert harmonic(0.5, 1.0) == pytest.approx(2 / 3)


def test_a_prompt_asks_for_what_it_names() -> None:
    assert asked_for("a small {} on a white background") == {"background": "white", "size": "small"}
    assert asked_for("a pencil drawing of a {}") == {"style": "pencil"}
    assert asked_for("a photo of a {}") == {}


def test_a_foreground_stands_on_gray_whatever_it_stood_on() -> None:
    pictures = []
    for colour in ("red", "white"):
        picture = Image.new("RGB", (16, 16), colour)
        picture.paste("blue", (4, 4, 12, 12))
        pictures.append(np.asarray(foreground(picture)))
    assert np.array_equal(*pictures)
    assert tuple(pictures[0][0, 0]) == (128, 128, 128) and tuple(pictures[0][8, 8]) == (0, 0, 255)


def test_a_judge_that_knows_the_truth_has_no_regret_and_one_that_does_not_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "DOCS", tmp_path)
    told = {20: (0.1, 0.9, 0.3), 40: (0.5, 0.5, 0.5), 60: (0.9, 0.1, 0.1)}
    shares = {20: (0.2, 0.8), 40: (0.6, 0.6), 60: (0.9, 0.1)}
    steps = [Step(step, told[step] + told[step][:1] * (len(MEASURES) - 3), *shares[step], step < 60) for step in told]
    accuracy = {"cat/eyes": 0.9, "cat/fur": 1.0, "background": 0.97, "size": 0.99, "style": 1.0}
    text = write({"red-cat": steps, "pigtails": steps}, {"red-cat": 40, "pigtails": 60}, accuracy).read_text()
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "|" in line]
    rows = {name: rest[:-1] for _, name, *rest in cells}
    assert rows["balanced score"] == ["+1.00", "-0.50", "+0.50", "+1.00"]
    assert rows["CLIP-I"][1:3] == ["+1.00", "-1.00"]
    assert rows["best by balanced score"][-2] == "0.000"
    assert rows["best by CLIP-I"][-2] == rows["the last step"][-2] == "0.420"
    assert rows["chosen by the rule"][-2:] == ["0.210", ""]
    assert rows["the last of the tied steps"][-2] == "0.000"
    assert "0.950 of the parts" in text
