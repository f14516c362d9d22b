"""The per-picture table: one row for every picture that was judged, as pandas and as Parquet.

What a researcher needs to compute other statistics than ours, and what published protocols average. Rows come from the
scores in the manifest, so the table can be made again at any time. No torch.
"""

import io
from typing import TYPE_CHECKING

from ti_core.records import Anchors, Cells, Manifest, Scores

if TYPE_CHECKING:
    import pandas

COLUMNS = ("concept", "split", "step", "set", "prompt", "seed", "clip_i", "clip_t", "dino")
"""`step` 0 is the class word alone; `set` is plain or edit; `prompt` holds one `{}` where the word stands. A score that
was not measured (in older records, or DINO where there is none) is missing."""


def per_picture(manifest: Manifest) -> "pandas.DataFrame":
    """The table of a judged run: class word and all steps on the choosing set, class word and chosen step on the
    reporting set."""
    return table(
        manifest.plan.concept.name, manifest.scores, manifest.anchors, [manifest.report.chosen], manifest.report.anchors
    )


def table(
    concept: str,
    scores: "list[Scores] | tuple[Scores, ...]",
    ends: Anchors,
    reported: list[Scores],
    report_ends: Anchors,
) -> "pandas.DataFrame":
    """`per_picture` before there is a manifest."""
    import pandas

    rows = [
        (concept, one.split, one.step, *row)
        for one in (ends.class_word, *scores, report_ends.class_word, *reported)
        for row in _rows(one)
    ]
    made = pandas.DataFrame(rows, columns=list(COLUMNS))
    return made.astype({"step": "int64", "seed": "int64", "clip_i": "float64", "clip_t": "float64", "dino": "float64"})


def to_parquet(made: "pandas.DataFrame") -> bytes:
    """The table as Parquet. The same table gives the same bytes with the same pyarrow."""
    buffer = io.BytesIO()
    made.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _rows(scores: Scores) -> list[tuple[str, str, int, float | None, float | None, float | None]]:
    """(set, prompt, seed, clip_i, clip_t, dino) of each picture, plain prompts first."""
    rows = []
    plain = len(scores.clip_i.prompts)
    for name, here, clip_i, clip_t, first in (
        ("plain", scores.clip_i, scores.clip_i, scores.clip_t_plain, 0),
        ("edit", scores.clip_t, scores.clip_i_edit, scores.clip_t, plain),
    ):
        for p, prompt in enumerate(here.prompts):
            for s, seed in enumerate(here.seeds):
                rows.append(
                    (name, prompt, seed, _at(clip_i, p, s), _at(clip_t, p, s), _at(scores.dino, first + p, s))
                )  # fmt: skip
    return rows


def _at(cells: Cells | None, prompt: int, seed: int) -> float | None:
    return None if cells is None else cells.values[prompt][seed]
