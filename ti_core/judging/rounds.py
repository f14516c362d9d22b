"""All checkpoints of one or many concepts, judged in rounds: one round without halving, one for each rung with it.

The class words and every step that is still in share the batches of a round (`scoring.judge_round`). This module
decides nothing but which steps go on, by the plan's rule.
"""

from collections.abc import Sequence

from pydantic import Field

from ti_core.choosing.halving import Rung, ladder, merged
from ti_core.choosing.selection import survivors
from ti_core.judging.scoring import anchors, judge_round
from ti_core.records import Anchors, Checkpoint, JudgeRequest, Plan, PreparedSet, Record, Scores
from ti_core.settings import Settings
from ti_core.store import Store


class Contest(Record):
    """One concept whose checkpoints are judged, and how far that came."""

    plan: Plan
    prepared: PreparedSet
    checkpoints: tuple[Checkpoint, ...]
    ends: Anchors | None = None
    """None before the first round."""
    scores: dict[int, Scores] = Field(default_factory=dict)
    """By step."""
    out: frozenset[int] = frozenset()
    """Steps that halving let go out."""

    def rungs(self) -> tuple[Rung, ...]:
        """The rounds it takes."""
        seeds = self.plan.protocol.select.seeds
        return ladder(seeds, len(self.checkpoints)) if self.plan.evaluation.halving else (Rung(seeds, 0),)


def judge_contests(contests: Sequence[Contest], settings: Settings, store: Store) -> list[Contest]:
    """Judge all checkpoints of all contests on the choosing set; returns the contests with their ends and scores.

    Raises what `judge_round` raises, and InputError where scores do not compare.
    """
    for number in range(rounds_of(contests)):
        contests = judge_next(contests, number, settings, store)
    return list(contests)


def rounds_of(contests: Sequence[Contest]) -> int:
    """How many rounds judge all contests."""
    return max((len(contest.rungs()) for contest in contests), default=0)


def judge_next(contests: Sequence[Contest], number: int, settings: Settings, store: Store) -> list[Contest]:
    """Judge round `number`, counted from 0, of all contests that have one; returns all contests as they are then."""
    requests = [_requests(contest, number) for contest in contests]
    made = iter(judge_round([one for of_contest in requests for one in of_contest], settings, store))
    after = []
    for contest, of_contest in zip(contests, requests, strict=True):
        ends, scores = contest.ends, dict(contest.scores)
        for one in [next(made) for _ in of_contest]:
            if one.step == 0:
                ends = anchors(contest.plan, contest.prepared, one, settings, store)
            else:
                scores[one.step] = merged(scores[one.step], one) if one.step in scores else one
        out, keep = contest.out, contest.rungs()[number].keep if of_contest else 0
        if keep and ends:
            present = [scores[step] for step in sorted(scores) if step not in out]
            out |= {one.step for one in present} - set(survivors(present, ends, contest.plan.rule, keep))
        after.append(contest.model_copy(update={"ends": ends, "scores": scores, "out": out}))
    return after


def _requests(contest: Contest, number: int) -> list[JudgeRequest]:
    """What round `number` of a contest judges; nothing after its last one."""
    rungs, plan, prepared = contest.rungs(), contest.plan, contest.prepared
    if number >= len(rungs):
        return []
    made = [
        JudgeRequest(
            plan=plan, prepared=prepared, step=one.step, vectors=one.vectors, split="select",
            seeds=rungs[number].seeds,
        )
        for one in contest.checkpoints
        if one.step not in contest.out
    ]  # fmt: skip
    if number == 0:  # the class word ends both scales, so it is judged on all seeds at once
        made.insert(0, JudgeRequest(plan=plan, prepared=prepared, step=0, vectors=None, split="select"))
    return made
