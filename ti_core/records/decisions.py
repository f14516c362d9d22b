"""What choosing says: intervals, candidates, the decision, the report."""

from typing import Literal

from ti_core.config import SelectionRule
from ti_core.records.base import Record
from ti_core.records.scores import Anchors, Scores


class Interval(Record):
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float


class Candidate(Record):
    """One judged step in the decision's table. Scaled values lie in [0, 1]."""

    step: int
    clip_i: Interval
    clip_t: Interval
    scaled_i: float
    scaled_t: float
    score: float
    """What the rule ranks by: the balanced score, scaled CLIP-I (`fidelity`) or scaled CLIP-T (`editability`)."""
    behind: float
    """Standard error of this step's distance to the best score, both on the same cells; 0 for the best itself."""
    tied: bool
    """Within one standard error of the best, and on the floor of its rule or above."""
    seeds: int = 0
    """Seeds per prompt that it was judged on: all of the protocol's, or fewer where halving let it go out; 0 in older
    records, which know no halving."""


class Scale(Record):
    """The ends of both scales in cosine units, and whether each is long enough to mean something."""

    image_zero: float
    image_one: float
    text_zero: float
    text_one: float
    image_usable: bool
    text_usable: bool


class Decision(Record):
    """Which step was chosen and why."""

    rule: SelectionRule
    accepted: bool
    """Whether the choosing set has nothing against it. Since schema 3 of manifests the verdict is the report's."""
    step: int
    best_step: int
    """The step with the highest score of those that keep the rule's floor; `step` is the earliest sound one tied with
    it (`selection.choose`)."""
    looks_bad_from: int | None
    gain: Interval
    """CLIP-I of the chosen step over the class word, same prompts and seeds."""
    scale: Scale
    candidates: tuple[Candidate, ...]
    explanation: str
    """One paragraph for a person."""


Verdict = Literal["accepted", "rejected", "undecided"]


class Report(Record):
    """The chosen step on the disjoint reporting set: what may be told and compared, since it was not chosen on it."""

    anchors: Anchors
    chosen: Scores
    scaled_i: float
    scaled_t: float
    score: float
    """The balanced score, whatever the rule: champions compare by it."""
    gain: Interval
    neutral_word: str = ""
    """A noun that says nothing about the thing (`nouns.NEUTRAL`); empty in older records."""
    neutral_gain: Interval | None = None
    """CLIP-I over pictures of the neutral word, same prompts and seeds: unlike `gain` it does not grow with a class
    word that names something else. No verdict rests on it."""
    verdict: Literal["", "accepted", "rejected", "undecided"] = ""
    """Empty only in manifests before schema 3."""
    reason: str = ""
    """Why, in a sentence or two for a person."""
