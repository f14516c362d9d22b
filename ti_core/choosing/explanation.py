"""A decision in words: one paragraph for the person who reads it in the morning.

It says what a `Decision` holds and computes nothing new. This module knows no torch and no bootstrap.
"""

from collections.abc import Sequence
from typing import Literal

from ti_core.config import SelectionRule
from ti_core.records import Candidate, Decision, Report, Verdict


def explain(decision: Decision, left_out: Sequence[int]) -> str:
    """The paragraph: what was chosen and why, how sure that is, and when it starts to look bad.

    `left_out` are the steps whose scores were not finite. The decision's own explanation is ignored."""
    chosen = next(one for one in decision.candidates if one.step == decision.step)
    sentences = [
        _choice(decision, chosen),
        *_floor(decision),
        *_halved(decision),
        *_ranges(decision),
        _likeness(decision, chosen),
        _fidelity(decision, chosen),
    ]
    sentences += [_later(decision)] if decision.accepted else _doubts(decision, chosen)
    if left_out:
        sentences.append(f"Left out, because their scores are not finite numbers: {listed(left_out)}.")
    return " ".join(sentences)


def listed(steps: Sequence[int]) -> str:
    """Steps as a person writes them: "step 20", "steps 20 and 40", "steps 20, 40 and 60"."""
    if len(steps) == 1:
        return f"step {steps[0]}"
    return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"


def _choice(decision: Decision, chosen: Candidate) -> str:
    steps = [one.step for one in decision.candidates]
    name = _score_name(decision)
    if len(steps) == 1:
        return f"Step {chosen.step} is the only one judged; its {name} is {chosen.score:.3f}."
    judged = f"{len(steps)} judged ({steps[0]} to {steps[-1]})"
    best = next(one for one in decision.candidates if one.step == decision.best_step)
    if decision.rule.step:
        return (
            f"Step {chosen.step}, of {judged}, was asked for, whatever the scores say: its {name} is "
            f"{chosen.score:.3f}; the best is {best.score:.3f} at step {best.step}."
        )
    if best.score == 0:
        return f"Step {chosen.step} is the earliest of {judged}, none of which has a {name} above 0."
    if chosen.step == best.step:
        return f"Step {chosen.step}, of {judged}, has the best {name}, {best.score:.3f}, and no earlier one will do."
    passed = [one.step for one in decision.candidates if one.tied and one.step < chosen.step]
    unsound = f" that is surely better than the class word ({listed(passed)} as good otherwise)" if passed else ""
    return (
        f"Step {chosen.step}, of {judged}, was chosen: its {name} of {chosen.score:.3f} is within one standard error "
        f"({chosen.behind:.3f}) of the best, {best.score:.3f} at step {best.step}, and it is the earliest such step"
        f"{unsound}."
    )


def _floor(decision: Decision) -> list[str]:
    """Which steps a floor keeps out; nothing under `balanced`, or where the floor has no scale."""
    other = _floored(decision)
    if other is None:
        return []
    under = [one.step for one in decision.candidates if _on_floor(one, other) < decision.rule.floor]
    if not under or len(under) == len(decision.candidates):
        return []
    return [f"Not ranked, for a {other} under the floor of {decision.rule.floor:.2f}: {listed(under)}."]


def _halved(decision: Decision) -> list[str]:
    """What successive halving saved; nothing where every step was judged on all seeds."""
    whole = max(one.seeds for one in decision.candidates)
    out = [one.step for one in decision.candidates if one.seeds < whole]
    if not out:
        return []
    share = sum(one.seeds for one in decision.candidates) / (whole * len(decision.candidates))
    return [
        f"Successive halving made {share:.0%} of the steps' pictures: {listed(out)} went out on fewer than "
        f"{whole} seeds and {'is' if len(out) == 1 else 'are'} compared on those."
    ]


def _floored(decision: Decision) -> str | None:
    """Name of the scaled score that the rule has a floor for, if that has a scale."""
    name, scale = decision.rule.name, decision.scale
    if name == "fidelity" and scale.text_usable:
        return "scaled CLIP-T"
    return "scaled CLIP-I" if name == "editability" and scale.image_usable else None


def _on_floor(candidate: Candidate, other: str) -> float:
    return candidate.scaled_t if other == "scaled CLIP-T" else candidate.scaled_i


def _score_name(decision: Decision) -> str:
    """What `Candidate.score` is."""
    scale = decision.scale
    if decision.rule.name == "fidelity":
        return "scaled CLIP-I" if scale.image_usable else "raw CLIP-I"
    if decision.rule.name == "editability":
        return "scaled CLIP-T" if scale.text_usable else "raw CLIP-T"
    if scale.image_usable and scale.text_usable:
        return "balanced score"
    if scale.image_usable:
        return "scaled CLIP-I"
    return "scaled CLIP-T" if scale.text_usable else "raw CLIP-I"


def _ranges(decision: Decision) -> list[str]:
    """What to know where a scale is too short to rank by; nothing where both are fine."""
    scale = decision.scale
    short = f"under {decision.rule.least_range:.3f}, so it is no scale"
    image = f"From the class word to real pictures CLIP-I spans {scale.image_one - scale.image_zero:.3f}, {short}"
    text = f"From the training pictures to the class word CLIP-T spans {scale.text_one - scale.text_zero:.3f}, {short}"
    if scale.image_usable and scale.text_usable:
        return []
    if decision.rule.name != "balanced":
        short_ones = ([] if scale.image_usable else [image]) + ([] if scale.text_usable else [text])
        return [
            f"{one}: where the rule reads it, raw cosines count, and there is no floor on it." for one in short_ones
        ]
    if scale.image_usable:
        return [f"{text}, and CLIP-I alone decided."]
    if scale.text_usable:
        return [f"{image}, and CLIP-T alone decided."]
    return [
        f"{image}. {text}. Warning: neither score could be scaled, so raw CLIP-I decided, which favours copying the "
        "training pictures; look at the contact sheet, and choose another class word if it names something else."
    ]


def _likeness(decision: Decision, chosen: Candidate) -> str:
    scale, gain = decision.scale, decision.gain
    placed = f" ({chosen.scaled_i:.2f} on the scale between)" if scale.image_usable else ""
    return (
        f"Likeness: CLIP-I {chosen.clip_i.value:.3f}, where the class word alone has {scale.image_zero:.3f} and real "
        f"pictures among themselves {scale.image_one:.3f}{placed}; it gains {gain.value:+.3f} over the class word, "
        f"{decision.rule.confidence:.0%} interval {gain.low:+.3f} to {gain.high:+.3f}."
    )


def _fidelity(decision: Decision, chosen: Candidate) -> str:
    scale = decision.scale
    placed = f" ({chosen.scaled_t:.2f} on the scale between)" if scale.text_usable else ""
    return (
        f"Following prompts: CLIP-T {chosen.clip_t.value:.3f}, where the class word alone has {scale.text_one:.3f} and "
        f"the training pictures {scale.text_zero:.3f}{placed}."
    )


def _later(decision: Decision) -> str:
    score = "" if decision.rule.name == "balanced" else " in balanced score"
    if decision.looks_bad_from is not None:
        return (
            f"It starts to look bad at step {decision.looks_bad_from}: that step and the next are below step "
            f"{decision.step}{score} with {decision.rule.confidence:.0%} confidence."
        )
    if decision.step == decision.candidates[-1].step:
        return "No later step was judged, so more steps may do better still."
    return "It does not start to look bad: no two later steps in a row are surely below it."


def _doubts(decision: Decision, chosen: Candidate) -> list[str]:
    """What speaks against the chosen step on the choosing set already."""
    scale, doubts = decision.scale, []
    other = _floored(decision)
    if other and _on_floor(chosen, other) < decision.rule.floor:
        missed = f"No step keeps the floor of the rule {decision.rule.name}; step {chosen.step} is the nearest"
        if decision.rule.step:
            missed = f"Step {chosen.step} misses the floor of the rule {decision.rule.name}"
        doubts.append(
            f"{missed}, with a {other} of {_on_floor(chosen, other):.2f} where {decision.rule.floor:.2f} is asked."
        )
    if decision.gain.low <= 0:
        doubts.append(
            "On these prompts its pictures are not surely closer to the training pictures than the class word's are."
        )
    if scale.text_usable and chosen.clip_t.value <= scale.text_zero:
        doubts.append("On these prompts its pictures follow the prompts no better than the training pictures do.")
    return doubts


def why(
    verdict: Verdict,
    report: Report,
    rule: SelectionRule,
    luck: Literal["prompts", "seeds"],
    *,
    copies: bool,
    under: bool,
    nothing: bool,
) -> str:
    """A report's verdict in a sentence or two: the cause, and what to try where it is not accepted.

    `luck`: what the gain varies with most; `copies`: the pictures follow prompts no better than the training pictures;
    `under`: they miss the rule's floor; `nothing`: whatever they gain over the class word is surely too little.
    """
    gain = report.gain
    gained = f"CLIP-I {gain.value:+.3f} over the class word, {gain.low:+.3f} to {gain.high:+.3f}"
    if verdict == "accepted":
        return f"Accepted: on new prompts and seeds its pictures are surely nearer to the real ones ({gained})."
    if copies:
        return (
            "Rejected: its pictures follow the prompts no better than the training pictures do, so it repeats them "
            "whatever is asked. Try fewer steps, a lower learning rate, or pictures with varied backgrounds."
        )
    if under:
        other, value = ("CLIP-T", report.scaled_t) if rule.name == "fidelity" else ("CLIP-I", report.scaled_i)
        return (
            f"Rejected: under the rule {rule.name} its scaled {other} of {value:.2f} misses the floor of "
            f"{rule.floor:.2f}. Take the rule balanced or a lower floor, or train longer or shorter."
        )
    if nothing:
        return (
            f"Rejected: its pictures are hardly nearer to the real ones than the class word's ({gained}). Try more "
            "steps, a higher learning rate, or better pictures: sharp, and of one thing from several sides."
        )
    grid = report.chosen.clip_i
    more = f"more seeds (`ti judge --seeds {2 * len(grid.seeds)}`)"
    if luck == "prompts":
        more = "more prompts (`ti judge --prompts`)"
    return (
        f"Undecided: {len(grid.prompts)} prompts × {len(grid.seeds)} seeds are too few to tell whether its pictures "
        f"are nearer to the real ones ({gained}). They differ most by {luck.removesuffix('s')}: judge with {more}."
    )
