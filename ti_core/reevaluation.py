"""Judging stored checkpoints again: another protocol, prompts, CLIP, sampler or rule, and no
training.

The result is a manifest of its own under its own judge_key, beside the old one; what readers get does not change.
Scores that are there already under the same protocol are not made again.
"""

from ti_core.choosing.selection import choose, report
from ti_core.errors import InputError
from ti_core.judging.rounds import Contest, judge_contests
from ti_core.judging.scoring import anchors, judge_round
from ti_core.publishing.assembly import assemble
from ti_core.publishing.catalogue import manifest_of
from ti_core.publishing.transaction import keep
from ti_core.records import Anchors, JudgeRequest, Manifest, Plan, Report, Scores
from ti_core.settings import Settings
from ti_core.store import Store


def reevaluate(old: Manifest, plan: Plan, settings: Settings, store: Store) -> Manifest:
    """Judge the checkpoints of `old` as `plan` (of `planning.replan`) says, keep the new manifest and return it.

    Work that is in the store under the plan's judge_key already is not done again. Raises InputError for a plan of
    another training, NotFoundError where a checkpoint or a picture is no more in the store.
    """
    if plan.train_key != old.plan.train_key:
        raise InputError(f"The plan is of another training of {plan.concept.name}: plan the judging of this one anew.")
    known = manifest_of(store, plan)
    if known is not None:
        return known
    ends, scores = _scores(old, plan, settings, store)
    decision = choose(scores, ends, plan.rule)
    told = _report(old, plan, decision.step, settings, store)
    return keep(store, assemble(plan, old.prepared, old.checkpoints, ends, scores, decision, told, store))


def _scores(old: Manifest, plan: Plan, settings: Settings, store: Store) -> tuple[Anchors, tuple[Scores, ...]]:
    whole = all(one.clip_i.seeds == plan.protocol.select.seeds for one in old.scores)
    if plan.protocol_digest == old.plan.protocol_digest and whole:
        return old.anchors, old.scores
    begun = Contest(plan=plan, prepared=old.prepared, checkpoints=old.checkpoints)
    (contest,) = judge_contests([begun], settings, store)
    if contest.ends is None:
        raise InputError(f"There is no checkpoint of {plan.concept.name} to judge.")
    return contest.ends, tuple(contest.scores.values())


def _report(old: Manifest, plan: Plan, step: int, settings: Settings, store: Store) -> Report:
    """The chosen step on the reporting set; what was judged there before is taken as it is."""
    vectors = next(one.vectors for one in old.checkpoints if one.step == step)
    wanted = [
        JudgeRequest(plan=plan, prepared=old.prepared, step=0, vectors=None, split="report"),
        JudgeRequest(plan=plan, prepared=old.prepared, step=step, vectors=vectors, split="report"),
    ]
    same = plan.protocol_digest == old.plan.protocol_digest
    if same and old.report.chosen.step == step:
        return report(old.report.chosen, old.report.anchors, plan.rule)
    if same:
        (chosen,) = judge_round(wanted[1:], settings, store)
        return report(chosen, old.report.anchors, plan.rule)
    class_word, chosen = judge_round(wanted, settings, store)
    return report(chosen, anchors(plan, old.prepared, class_word, settings, store), plan.rule)
