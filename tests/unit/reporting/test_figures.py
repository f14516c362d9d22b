"""What a published protocol is quoted by, and what a reader must know before comparing."""

import pytest

from tests.judged_run import JudgedRun, by_protocol
from ti_core.records import BatchRow, Manifest
from ti_core.reporting.figures import averages, caveats, figures


def judged(name: str, **changes: object) -> Manifest:
    return by_protocol(JudgedRun().manifest, name, **changes)


def test_figures_are_of_the_pictures_that_the_protocol_averages() -> None:
    told = judged("dreambench").report.chosen
    bench = figures(judged("dreambench"))
    assert bench == {"DINO": pytest.approx(0.4), "CLIP-I": pytest.approx(0.25), "CLIP-T": told.clip_t.mean}
    assert figures(judged("textual-inversion-paper")) == {"CLIP-I": told.clip_i.mean, "CLIP-T": pytest.approx(0.3)}
    assert figures(judged("standard")) == figures(judged("quick")) == {}


def test_a_reader_is_told_what_does_not_compare() -> None:
    told = " ".join(caveats(judged("dreambench").plan))
    for words in ("miniature, no Stable Diffusion", "not ViT-B-32/openai", "no DINO", "chosen, on other prompts"):
        assert words in told
    assert "Changed" not in told
    changed = " ".join(caveats(judged("textual-inversion-paper", seeds=2, guidance=7.0).plan))
    assert "Changed: seeds 2 instead of 64, guidance 7.0 instead of 5.0." in changed and "DINO" not in changed
    assert caveats(judged("standard").plan) == []
    plan = judged("dreambench").plan
    large = plan.model_copy(update={"base": plan.base.model_copy(update={"kind": "sdxl", "name": "my/xl"})})
    assert any("of Stable Diffusion 1.x; the base model here is my/xl (sdxl)" in text for text in caveats(large))
    first = plan.model_copy(update={"base": plan.base.model_copy(update={"kind": "sd1"})})
    assert not any("base model" in text for text in caveats(first))


def test_averages_over_concepts_stand_beside_the_published_ones() -> None:
    rows = [
        BatchRow(concept=name, status="published", reason="", protocol="dreambench", figures={"CLIP-I": value})
        for name, value in (("a", 0.5), ("b", 0.7))
    ]
    (one,) = averages([*rows, BatchRow(concept="c", status="failed", reason="broken")])
    assert (one.name, one.mean, one.quoted) == ("CLIP-I", pytest.approx(0.6), 0.780)
    assert one.reach == pytest.approx(12.706 * 0.1, rel=1e-3)  # t(0.975, 1) × standard error
    (single,) = averages(rows[:1])
    assert single.reach is None
    assert averages([]) == []
