"""Rounds of judging: which rungs a run climbs, and many concepts' requests judged together without one spoiling all.

With successive halving there is a rung for every doubling of the seeds, without it one. This module decides nothing.
"""

from collections.abc import Sequence

from ti_core.choosing.halving import Rung, ladder
from ti_core.errors import PseudowordError, ServiceError
from ti_core.judging.scoring import OnScores, judge_round
from ti_core.records import JudgeRequest, Plan, Scores
from ti_core.settings import Settings
from ti_core.store import Store


def rungs(plan: Plan, steps: int) -> tuple[Rung, ...]:
    """The rungs in which `steps` checkpoints of a plan are judged on the choosing set."""
    seeds = plan.protocol.select.seeds
    return ladder(seeds, steps) if plan.evaluation.halving else (Rung(seeds, 0),)


def judge_together(
    requests: Sequence[Sequence[JudgeRequest]], settings: Settings, store: Store, on_scores: OnScores = lambda *_: None
) -> list[list[Scores] | PseudowordError]:
    """Judge the requests of many concepts in full batches; for each concept its scores, or why there are none.

    What one concept's request cannot do (a checkpoint that is gone, scores that do not compare) stops only that one:
    they are then judged one after the other, and nothing is judged twice, since scores are kept. Raises ServiceError
    when a server does not answer.
    """
    try:
        made = iter(judge_round([one for of_concept in requests for one in of_concept], settings, store, on_scores))
        return [[next(made) for _ in of_concept] for of_concept in requests]
    except ServiceError:
        raise
    except PseudowordError as error:
        if len(requests) == 1:
            return [error]
    return [judge_together([of_concept], settings, store, on_scores)[0] for of_concept in requests]
