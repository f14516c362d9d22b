"""What judging says: scores on a prompt × seed grid, and where the scales end.

Grid legend: P prompts, S seeds; `values[p][s]` belongs to one generated picture.
"""

from ti_core.records.base import Document, Record
from ti_core.records.planning import Finding, Plan, PreparedSet, Split


class Cells(Record):
    """Cosines on a prompt × seed grid."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def mean(self) -> float:
        """Mean over all cells."""
        return sum(sum(row) for row in self.values) / (len(self.prompts) * len(self.seeds))


class Scores(Record):
    """What one checkpoint earned under one protocol. Step 0 is the class word alone, without any new vector."""

    step: int
    split: Split
    protocol: str
    clip_i: Cells
    """Plain prompts: mean cosine of each generated picture to all reference pictures."""
    clip_t: Cells
    """Edit prompts: cosine of each generated picture to its prompt with the class word in place of the new word."""
    strip: str
    """Blob of a PNG: one tile per prompt (plain first, then edit), first seed, left to right."""
    clip_i_edit: Cells | None = None
    """CLIP-I on the edit prompts; None in older records. No rule reads this or what follows."""
    clip_t_plain: Cells | None = None
    """CLIP-T on the plain prompts; None in older records."""
    clip_t_of_mean: tuple[float, ...] | None = None
    """Edit prompts: cosine of the mean feature of a prompt's pictures to the prompt (the textual-inversion paper's
    figure); None in older records and where rungs of halving were put together."""
    dino: Cells | None = None
    """All prompts, plain first: mean DINO cosine of each generated picture to all reference pictures. None: no DINO."""


class JudgeRequest(Record):
    """One set of pictures to be made and scored: a checkpoint, or the class word alone, on one split."""

    plan: Plan
    prepared: PreparedSet
    step: int
    vectors: str | None
    """Blob of the checkpoint; None judges the class word alone (step 0)."""
    split: Split
    seeds: tuple[int, ...] = ()
    """Some of the split's seeds; empty means all."""


class KeptScores(Document):
    """Scores in the store, so that the same set of pictures is not judged twice under one protocol."""

    scores: Scores


class Naming(Record):
    """How well the class word names what the training pictures show, in the judge's eyes: cosines of the pictures to
    "a photo of a …", beside a list of everyday nouns (`ti_core.nouns`)."""

    likeness: float
    """Of the class word, mean over the pictures."""
    closer: float
    """Share of the nouns that are nearer than the class word to every single picture, in [0, 1]."""
    nearest: dict[str, float]
    """Up to three of those, the nearest first, with their mean cosines."""


class Anchors(Record):
    """Where the scales end, measured under the same protocol."""

    class_word: Scores
    """Scale zero of CLIP-I and scale one of CLIP-T."""
    real: float
    """Scale one of CLIP-I: real pictures against real, all pairs without self-pairs (1.0 for a single picture)."""
    real_text: float
    """Scale zero of CLIP-T: the training pictures against the edit prompts."""
    real_dino: float | None = None
    """Real pictures against real in DINO's eyes, as `real`; None where there is no DINO."""
    naming: Naming | None = None
    """With the choosing set's: how well the class word names the pictures. None for styles, whose class word is a
    medium, and in older records."""
    unlike: tuple[Finding, ...] = ()
    """With the choosing set's: the training picture that is unlike the others. None of styles, whose pictures show
    different things."""
