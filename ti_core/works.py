"""What travels on the line: a concept with what the stations have added so far, and what one step of it earned.

Plain values: no station's work is done here. No torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ti_core.choosing.halving import Rung, ladder, merged
from ti_core.config import EvaluationConfig, PresetName, SelectionRule, TrainingConfig
from ti_core.records import Anchors, Champion, Checkpoint, Decision, Duel, Outcome, Plan, PreparedSet, Report, Scores


@dataclass(frozen=True)
class Asked:
    """How the concepts of a list are to be trained, judged and chosen. `base_model` "" takes the settings' own; `renew`
    does anew what is known by an earlier version's keys alone; `preset` fills what is not set; with `approval` what
    would become what readers get waits for a person."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    rule: SelectionRule = field(default_factory=SelectionRule)
    base_model: str = ""
    renew: bool = False
    preset: PresetName = "standard"
    approval: bool = False


@dataclass(frozen=True)
class Work:
    """One concept on its way: what the stations it has passed have added."""

    place: int
    """In the list: names may be there twice."""
    name: str
    plan: Plan | None = None
    prepared: PreparedSet | None = None
    run_id: str = ""
    """Its tracking run."""
    checkpoints: tuple[Checkpoint, ...] = ()
    ends: Anchors | None = None
    scores: dict[int, Scores] = field(default_factory=dict)
    """On the choosing set, by step."""
    out: frozenset[int] = frozenset()
    """Steps that halving let go out."""
    decision: Decision | None = None
    report: Report | None = None
    duels: dict[str, Duel] = field(default_factory=dict)
    """Champions that were judged beside this run, by their judge_key."""
    rival: Champion | None = None
    """The champion that stands in its way and was not judged beside it yet."""
    outcome: Outcome | None = None
    known: bool = False
    """Whether the result was there before: nothing is done again."""
    error: Exception | None = None
    """Why it left the line; a `PausedError` where the same work goes on later."""
    seconds: float | None = None
    """Its share of the time of the run that did it."""
    cost: float | None = None
    """What that time cost, where a price is set."""
    base_model: str = ""
    """As it was named; "" is the settings' own. A name may be in a list once for each."""

    @property
    def open(self) -> bool:
        """Whether there is still something to do."""
        return self.error is None and self.outcome is None and not self.known

    @property
    def planned(self) -> Plan:
        """The plan, which every station behind the first may rely on."""
        assert self.plan is not None  # noqa: S101  # for the type checker
        return self.plan

    @property
    def ready(self) -> PreparedSet:
        """The prepared pictures, which training and judging may rely on."""
        assert self.prepared is not None  # noqa: S101  # for the type checker
        return self.prepared

    @property
    def chosen(self) -> Checkpoint:
        """The checkpoint of the chosen step, which every station behind `select` may rely on."""
        assert self.decision is not None  # noqa: S101  # for the type checker
        return next(one for one in self.checkpoints if one.step == self.decision.step)


@dataclass(frozen=True)
class Mark:
    """What one concept earned at one step of one rung; `ends` come with the class word, which is step 0."""

    place: int
    step: int
    scores: Scores | None = None
    ends: Anchors | None = None
    error: Exception | None = None


def rounds_of(work: Work) -> tuple[Rung, ...]:
    """The rungs in which a concept's checkpoints are judged: with halving a ladder, without it one."""
    plan, seeds = work.planned, work.planned.protocol.select.seeds
    return ladder(seeds, len(work.checkpoints)) if plan.evaluation.halving else (Rung(seeds, 0),)


def standing(work: Work) -> list[Checkpoint]:
    """The checkpoints that no rung has let go out."""
    return [one for one in work.checkpoints if one.step not in work.out]


def marked(works: Sequence[Work], marks: Sequence[Sequence[Mark]]) -> list[Work]:
    """The works with what a rung's marks say; one of whose steps could not be judged leaves with the reason."""
    by_place = {work.place: work for work in works}
    for mark in (mark for of_step in marks for mark in of_step):
        work = by_place[mark.place]
        if mark.error:
            by_place[mark.place] = replace(work, error=work.error or mark.error)
        elif mark.ends:
            by_place[mark.place] = replace(work, ends=mark.ends)
        elif mark.scores:
            earlier = work.scores.get(mark.step)
            scores = merged(earlier, mark.scores) if earlier else mark.scores
            by_place[mark.place] = replace(work, scores=work.scores | {mark.step: scores})
    return list(by_place.values())
