"""Duels: newcomers judged beside the champions they would replace (docs/decisions/0015). It moves no champion."""

from collections.abc import Sequence

from ti_core.choosing.selection import balanced, duel
from ti_core.errors import PseudowordError
from ti_core.keys import protocol_digest
from ti_core.publishing.catalogue import manifest_at
from ti_core.records import Champion, Duel, JudgeRequest, Manifest
from ti_core.settings import Settings
from ti_core.store import Store
from ti_core.works import Work


def settle(
    pairs: Sequence[tuple[Work, Champion]], settings: Settings, store: Store
) -> dict[int, Duel | PseudowordError]:
    """Judge each work and its rival on the reporting set: same prompts, seeds and references, in full batches.

    The references are the pictures that both were trained on. Where fewer than two are shared, they are the
    newcomer's: its owner has replaced the pictures, so these say what the word is to mean.
    """
    from ti_core.judging.rounds import judge_together
    from ti_core.judging.scoring import anchors

    meetings = [_meeting(work, rival, manifest_at(store, rival.manifest)) for work, rival in pairs]
    made = dict[int, Duel | PseudowordError]()
    for (work, rival), meeting, result in zip(pairs, meetings, judge_together(meetings, settings, store), strict=True):
        if isinstance(result, PseudowordError):
            made[work.place] = result
            continue
        class_word, newcomer, present = result
        plan, rule = meeting[0].plan, work.planned.rule
        ends = anchors(plan, meeting[0].prepared, class_word, settings, store)
        difference = duel(newcomer, present, ends, rule)
        made[work.place] = Duel(
            newcomer=work.planned.judge_key,
            rival=rival.judge_key,
            protocol=plan.protocol_digest,
            references=plan.protocol.references,
            newcomer_score=balanced(newcomer, ends, rule),
            rival_score=balanced(present, ends, rule),
            difference=difference,
            won=difference.low > 0,
        )
    return made


def _meeting(work: Work, rival: Champion, theirs: Manifest) -> list[JudgeRequest]:
    """What a duel judges: class word, newcomer, rival, on the same cells and references."""
    plan, prepared = work.planned, work.ready
    ours = [one.sha256 for one in plan.images.pictures]
    both = {one.sha256 for one in theirs.plan.images.pictures} & set(ours)
    kept = [place for place, sha256 in enumerate(ours) if len(both) < 2 or sha256 in both]
    protocol = plan.protocol.model_copy(update={"references": tuple(sorted(ours[place] for place in kept))})
    there = plan.model_copy(update={"protocol": protocol, "protocol_digest": protocol_digest(protocol)})
    seen = prepared.model_copy(update={"squares": tuple(prepared.squares[place] for place in kept)})
    return [
        JudgeRequest(plan=there, prepared=seen, step=step, vectors=blob, split="report")
        for step, blob in ((0, None), (work.chosen.step, work.chosen.vectors), (rival.step, rival.vectors))
    ]
