"""All checkpoints of one or many concepts, judged in rounds: one round without halving, one for each rung with it.

The class words and every step that is still in share the batches of a round (`station.judge_round`). This module
decides nothing but which steps go on, by the plan's rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ti_core.evaluation.station import anchors, judge_round
from ti_core.halving import Rung, ladder, merged
from ti_core.records import Anchors, Checkpoint, JudgeRequest, Plan, PreparedSet, Scores
from ti_core.selection import survivors
from ti_core.settings import Settings
from ti_core.store import Store


@dataclass
class Contest:
    """One concept whose checkpoints are judged; `ends` and `scores` are filled in round by round."""

    plan: Plan
    prepared: PreparedSet
    checkpoints: Sequence[Checkpoint]
    ends: Anchors | None = None
    scores: dict[int, Scores] = field(default_factory=dict)

    def rungs(self) -> tuple[Rung, ...]:
        """The rounds it takes."""
        seeds = self.plan.protocol.select.seeds
        return ladder(seeds, len(self.checkpoints)) if self.plan.evaluation.halving else (Rung(seeds, 0),)


def judge_contests(contests: Sequence[Contest], settings: Settings, store: Store) -> None:
    """Judge all checkpoints of all contests on the choosing set, and fill in their ends and scores.

    Raises what `judge_round` raises, and InputError where scores do not compare.
    """
    still = {number: [one.step for one in contest.checkpoints] for number, contest in enumerate(contests)}
    for round_number in range(max((len(contest.rungs()) for contest in contests), default=0)):
        requests, owners = [], []
        for number, contest in enumerate(contests):
            if round_number >= len(contest.rungs()):
                continue
            made = _requests(contest, round_number, still[number])
            requests += made
            owners += [number] * len(made)
        for number, scores in zip(owners, judge_round(requests, settings, store), strict=True):
            contest = contests[number]
            if scores.step == 0:
                contest.ends = anchors(contest.plan, contest.prepared, scores, settings, store)
            elif scores.step in contest.scores:
                contest.scores[scores.step] = merged(contest.scores[scores.step], scores)
            else:
                contest.scores[scores.step] = scores
        for number, contest in enumerate(contests):
            keep = contest.rungs()[round_number].keep if round_number < len(contest.rungs()) else 0
            if keep and contest.ends:
                present = [contest.scores[step] for step in still[number]]
                still[number] = survivors(present, contest.ends, contest.plan.rule, keep)


def _requests(contest: Contest, round_number: int, still: Sequence[int]) -> list[JudgeRequest]:
    plan, prepared = contest.plan, contest.prepared
    seeds = contest.rungs()[round_number].seeds
    made = [
        JudgeRequest(plan=plan, prepared=prepared, step=one.step, vectors=one.vectors, split="select", seeds=seeds)
        for one in contest.checkpoints
        if one.step in still
    ]
    if round_number == 0:  # the class word ends both scales, so it is judged on all seeds at once
        made.insert(0, JudgeRequest(plan=plan, prepared=prepared, step=0, vectors=None, split="select"))
    return made
