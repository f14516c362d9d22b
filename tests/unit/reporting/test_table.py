"""The per-picture table says what the scores say, picture by picture, and comes back from Parquet."""

import io
from pathlib import Path

import pandas
import pytest

from tests.judged_run import JudgedRun
from ti_core.records import Cells, Manifest
from ti_core.reporting.table import COLUMNS, per_picture, to_parquet


def grid(prompts: tuple[str, ...], seeds: tuple[int, ...], first: float) -> Cells:
    values = tuple(tuple(first + 10 * p + s for s in range(len(seeds))) for p in range(len(prompts)))
    return Cells(prompts=prompts, seeds=seeds, values=values)


def test_every_picture_has_a_row_with_its_scores() -> None:
    run = JudgedRun(steps=(20, 40), chosen=20, looks_bad_from=None, plain=("a {}", "the {}"), edit=("a red {}",))
    plain, edit, seeds = ("a {}", "the {}"), ("a red {}",), (11, 12)
    first = run.manifest.scores[0].model_copy(
        update={
            "clip_i": grid(plain, seeds, 0), "clip_t": grid(edit, seeds, 100), "clip_i_edit": grid(edit, seeds, 200),
            "clip_t_plain": grid(plain, seeds, 300), "dino": grid((*plain, *edit), seeds, 400),
        }
    )  # fmt: skip
    made = per_picture(run.manifest.model_copy(update={"scores": (first, run.manifest.scores[1])}))
    assert tuple(made.columns) == COLUMNS
    mine = made[(made.step == 20) & (made.split == "select")]
    assert [tuple(row)[3:] for row in mine.itertuples(index=False)] == [
        ("plain", "a {}", 11, 0, 300, 400), ("plain", "a {}", 12, 1, 301, 401),
        ("plain", "the {}", 11, 10, 310, 410), ("plain", "the {}", 12, 11, 311, 411),
        ("edit", "a red {}", 11, 200, 100, 420), ("edit", "a red {}", 12, 201, 101, 421),
    ]  # fmt: skip
    assert set(made.concept) == {"cat-toy"}
    assert set(zip(made.split, made.step, strict=True)) == {
        ("select", 0), ("select", 20), ("select", 40), ("report", 0), ("report", 20)
    }  # fmt: skip


def test_parquet_brings_it_back() -> None:
    made = per_picture(JudgedRun().manifest)
    data = to_parquet(made)
    pandas.testing.assert_frame_equal(pandas.read_parquet(io.BytesIO(data)), made)
    assert to_parquet(made) == data


def test_a_manifest_of_schema_1_has_the_scores_it_kept() -> None:
    kept = Path(__file__).parents[1] / "data/manifest-schema-1.json"
    old = Manifest.from_bytes(kept.read_bytes(), "here")
    made = per_picture(old)
    word = old.anchors.class_word
    mine = made[(made.step == 0) & (made.split == "select")]
    assert mine[mine.set == "plain"].clip_i.mean() == pytest.approx(word.clip_i.mean)
    assert mine[mine.set == "edit"].clip_t.mean() == pytest.approx(word.clip_t.mean)
    assert mine[mine.set == "edit"].clip_i.isna().all() and made.dino.isna().all()
