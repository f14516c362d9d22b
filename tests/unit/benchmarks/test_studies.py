"""What the studies of choosing and of early stopping compute from scores and losses."""

import math

import pytest

from benchmarks.choosing import Run, agrees, on_fewer_seeds, over_concepts
from benchmarks.early_stop import EVERY, stop_of, table
from tests.judged_run import JudgedRun
from ti_core.config import SelectionRule


def test_a_mean_over_concepts_averages_each_concept_s_seeds_first() -> None:
    mean, reach = over_concepts({"a": [0.0, 0.2, 0.4], "b": [0.4]})
    assert mean == pytest.approx(0.3)
    assert reach == pytest.approx(12.706 * 0.1, rel=1e-3)  # t(0.975, 1) × standard error of 0.2 and 0.4


def test_a_choice_agrees_when_it_is_tied_with_the_best_or_better_than_the_chosen() -> None:
    full = JudgedRun(chosen=80).manifest.decision
    tied = [one.model_copy(update={"tied": one.step == 60, "score": one.step / 1000}) for one in full.candidates]
    full = full.model_copy(update={"candidates": tuple(tied)})

    def at(step: int) -> bool:
        return agrees(full, full.model_copy(update={"step": step}))

    assert at(60) and at(80) and at(100) and not at(40)


def test_a_choice_on_fewer_seeds_does_not_see_the_others() -> None:
    manifest, last = JudgedRun().manifest, 160
    scores = list(manifest.scores)
    values = tuple((0.75, 0.75, 0.0, 0.0) for _ in scores[-1].clip_i.prompts)
    scores[-1] = scores[-1].model_copy(
        update={"clip_i": scores[-1].clip_i.model_copy(update={"values": values}), "clip_t": scores[0].clip_t}
    )
    run = Run("cat-toy", 0, manifest.anchors, scores, {})
    by_step = {
        many: {one.step: one for one in on_fewer_seeds(run, SelectionRule(), many).candidates} for many in (2, 4)
    }
    assert by_step[2][last].clip_i.value == 0.75
    assert by_step[4][last].clip_i.value == 0.375
    assert on_fewer_seeds(run, SelectionRule(), 4).step != on_fewer_seeds(run, SelectionRule(), 2).step == last


def test_training_stops_where_the_last_losses_vary_little() -> None:
    falling = {EVERY * n: math.exp(-n) for n in range(1, 22)}
    stop = stop_of(falling, 5 * EVERY, 500)
    assert 0 < stop < 500 and stop % EVERY == 0
    assert stop_of(falling, 10 * EVERY, 500) > stop
    swinging = {step: (-1.0) ** (step // EVERY) for step in falling}
    assert stop_of(swinging, 5 * EVERY, 500) == 500


def test_the_table_counts_what_evaluating_costs() -> None:
    rows = {310: [("fox", 500, 0.7, 0.7), ("owl", 500, 0.6, 0.6)], 69: [("fox", 250, 0.6, 0.7), ("owl", 250, 0.7, 0.6)]}
    told = table(rows, 500)
    assert "| 310 (the paper) | 0 of 2 | -4" in told and "+0.0000" in told
    assert "| 69 | 2 of 2 | +47" in told or "| 69 | 2 of 2 | +48" in told
    assert "| fox | 500: 0.700 | 250: 0.600 | 0.700 |" in told
