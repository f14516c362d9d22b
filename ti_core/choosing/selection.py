"""Choosing one step from the scores: pure functions over records, no files, no torch.

CLIP-I (on plain prompts) and CLIP-T (on edit prompts) are each put on a scale from 0 to 1 whose ends were measured
under the same protocol. A rule says what a step's score is: `balanced`, the harmonic mean of both; `fidelity`, scaled
CLIP-I of the steps whose scaled CLIP-T is not under a floor; `editability`, the other way round. The earliest sound
step within one standard error of the best is chosen (Breiman et al. 1984, the one-standard-error rule). All differences
are paired: every step and the class word saw the same prompts and seeds, and share their resamples.

Legend: K steps, B resamples; views are [4, B, K], see `ti_core.choosing.statistics`. In arrays of steps the class
word comes first.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ti_core.choosing.explanation import explain, listed, why
from ti_core.choosing.halving import restricted, restricted_anchors
from ti_core.choosing.statistics import Array, crossed_means, interval, luckier, standard_error
from ti_core.config import SelectionRule
from ti_core.errors import InputError
from ti_core.records import Anchors, Candidate, Cells, Decision, Interval, Report, Scale, Scores, Split, Verdict

ACCEPTANCE = 0.975
"""Confidence of the interval that acceptance rests on: at this level words that learned nothing pass in no mix of
variances in more than 3% of runs, from four prompts × four seeds on (docs/decisions/0012)."""
WORTH = 0.1
"""Part of the way from the class word to real pictures that a word must at least be able to gain."""
_SHORTEST = 1e-6
"""A scale shorter than this is none, whatever the rule says: cosines of fp32 features are no finer."""


class _Balance(NamedTuple):
    """Scaled values and their harmonic mean, elementwise over [..., K] without the class word."""

    scaled_i: Array
    scaled_t: Array
    score: Array


def choose(scores: Sequence[Scores], anchors: Anchors, rule: SelectionRule) -> Decision:
    """Choose one of the judged steps.

    `scores` come in any order, one per step, all of split `select` and on the protocol, prompts and seeds of
    `anchors.class_word`; steps that successive halving let go out early are on some of its seeds only, are compared on
    the cells they share, and cannot be chosen. A step with a value that is not finite is left out and named in the
    explanation. Where one scale is too short, `balanced` goes by the other, and where both are, by raw CLIP-I, and the
    explanation warns. `fidelity` and `editability` go by the raw cosine where their own scale is too short, and know no
    floor where the other one is.

    A step is sound when its CLIP-I surely exceeds the class word's and its CLIP-T that of the training pictures. The
    choice is the earliest sound step among the tied ones, or the earliest of them where none is sound; where no step
    keeps the rule's floor, the nearest to it is looked at. A step that the rule names is taken in place of all that.
    Whether the chosen step is worth having is not said here: the best of many steps that learned nothing looks good on
    the set it was chosen by. `report` says it.

    It starts to look bad at the first of two later steps in a row whose balanced score is surely below the chosen
    one's, whatever the rule: a taste for likeness does not make spoiled pictures good.

    Raises InputError when there is no step, a step occurs twice, scores do not compare, the anchors are not finite, no
    step has finite scores, or the one that the rule names has none.
    """
    _check(scores, anchors, "select", halved=True)
    finite = sorted((one for one in scores if _finite(one)), key=lambda one: one.step)
    left_out = sorted(one.step for one in scores if not _finite(one))
    whole = anchors.class_word.clip_i.seeds
    judged = [one for one in finite if one.clip_i.seeds == whole]
    if not judged:
        raise InputError(
            f"None of the {len(scores)} judged steps has finite scores on all {len(whole)} seeds, so none can be "
            "chosen: look at the contact sheet, and at the number types of the base model and of the judge."
        )
    scale = _scale(anchors, rule)
    look = _look(judged, anchors, scale, rule)
    points = look.score[0, 0]
    best = int(np.argmax(np.where(look.keeps, points, -np.inf)))
    behind = standard_error(look.score - look.score[..., best, None])
    tied = look.keeps & (points[best] - points <= behind)
    gains = [_interval(look.image[..., k + 1] - look.image[..., 0], look.grid_i, rule) for k in range(len(judged))]
    text_means = [float(look.text[0, 0, k + 1]) for k in range(len(judged))]
    sound = np.array(
        [
            gain.low > 0 and not (scale.text_usable and mean <= scale.text_zero)
            for gain, mean in zip(gains, text_means, strict=True)
        ]
    )
    chosen = int(np.argmax(tied & sound if (tied & sound).any() else tied))
    if rule.step:
        chosen = _asked_for(judged, rule.step)
    below = {one.step: _below(look, k, chosen, rule) for k, one in enumerate(judged)}
    candidates = [_candidate(look, k, one, behind, bool(tied[k]), rule) for k, one in enumerate(judged)]
    # Steps that halving let go out early: seen beside the chosen and the best one on the cells that all three have.
    for seeds in {one.clip_i.seeds for one in finite} - {whole}:
        out = [one for one in finite if one.clip_i.seeds == seeds]
        beside = [*out, restricted(judged[chosen], seeds), restricted(judged[best], seeds)]
        look_out = _look(beside, restricted_anchors(anchors, seeds), scale, rule)
        behind = standard_error(look_out.score - look_out.score[..., -1, None])
        below |= {one.step: _below(look_out, k, len(out), rule) for k, one in enumerate(out)}
        candidates += [_candidate(look_out, k, one, behind, False, rule) for k, one in enumerate(out)]
    candidates.sort(key=lambda one: one.step)
    later = [one.step for one in candidates if one.step > judged[chosen].step]
    looks_bad = next((one for one, after in pairwise(later) if below[one] and below[after]), None)

    decision = Decision(
        rule=rule,
        accepted=look.floor_kept and bool(look.keeps[chosen] and sound[chosen]),
        step=judged[chosen].step,
        best_step=judged[best].step,
        looks_bad_from=looks_bad,
        gain=gains[chosen],
        scale=scale,
        candidates=tuple(candidates),
        explanation="",
    )
    return decision.model_copy(update={"explanation": explain(decision, left_out)})


def _asked_for(judged: Sequence[Scores], step: int) -> int:
    """Place of the step that a rule names."""
    there = [one.step for one in judged]
    if step not in there:
        raise InputError(f"Step {step} has no scores to be taken with: there are {listed(there)}.")
    return there.index(step)


def survivors(scores: Sequence[Scores], anchors: Anchors, rule: SelectionRule, keep: int) -> list[int]:
    """The steps that go on after a rung of successive halving: the `keep` best by the rule, in the order of training.

    `scores` are all on the same seeds, some of those of `anchors.class_word`. Steps that keep the rule's floor come
    before those that do not, earlier ones before equal later ones, and one whose scores are not finite goes out. One
    that the rule names stays.
    Raises InputError when scores do not compare.
    """
    _check(scores, anchors, "select", halved=True)
    finite = sorted((one for one in scores if _finite(one)), key=lambda one: one.step)
    if not finite:
        return []
    look = _look(finite, restricted_anchors(anchors, finite[0].clip_i.seeds), _scale(anchors, rule), rule)
    order = sorted(
        range(len(finite)), key=lambda k: (finite[k].step != rule.step, not look.keeps[k], -look.score[0, 0, k], k)
    )
    return sorted(finite[k].step for k in order[:keep])


def report(chosen: Scores, anchors: Anchors, rule: SelectionRule) -> Report:
    """The chosen step on the disjoint reporting set (split `report`): its balanced score, whatever the rule, and
    whether it is accepted.

    It is accepted when CLIP-I surely exceeds the class word's (`ACCEPTANCE`), CLIP-T that of the training pictures, and
    the rule's floor is kept; rejected when it fails the second or third, or when its gain is surely smaller than is
    worth having (`WORTH` of the way to real pictures); else there are too few pictures to tell, and it is undecided.

    Raises InputError when the scores do not compare with the anchors or are not finite.
    """
    _check([chosen], anchors, "report")
    _check_finite(chosen)
    image, text = _views([chosen], anchors, rule)
    scaled_i, scaled_t, score = _balance(image, text, anchors, _scale(anchors, rule), rule)
    scale = _scale(anchors, rule)
    gained = image[..., 1] - image[..., 0]
    made = Report(
        anchors=anchors,
        chosen=chosen,
        scaled_i=float(scaled_i[0, 0, 0]),
        scaled_t=float(scaled_t[0, 0, 0]),
        score=float(score[0, 0, 0]),
        gain=_interval(gained, _shape(chosen.clip_i), rule, ACCEPTANCE),
    )
    worth = WORTH * (scale.image_one - scale.image_zero) if scale.image_usable else rule.least_range
    floors = {"fidelity": (scale.text_usable, made.scaled_t), "editability": (scale.image_usable, made.scaled_i)}
    usable, on_floor = floors.get(rule.name, (False, 0.0))
    copies = scale.text_usable and chosen.clip_t.mean <= anchors.real_text
    under = usable and on_floor < rule.floor
    nothing = made.gain.high < worth
    verdict: Verdict = "undecided"
    if copies or under or nothing:
        verdict = "rejected"
    elif made.gain.low > 0:
        verdict = "accepted"
    reason = why(verdict, made, rule, luckier(gained), copies=copies, under=under, nothing=nothing)
    return made.model_copy(update={"verdict": verdict, "reason": reason})


def over_neutral(made: Report, word: str, neutral: Scores, rule: SelectionRule) -> Report:
    """The report with its step's gain over the neutral `word`, whose pictures are of the same plain prompts and of the
    same seeds or the first of them. Raises InputError when they are not, or are not finite.
    """
    _check_finite(neutral)
    chosen = restricted(made.chosen, neutral.clip_i.seeds).clip_i
    if chosen.prompts != neutral.clip_i.prompts:
        raise InputError(f"The pictures of {word!r} are not of the report's plain prompts: judge it on the same ones.")
    (image,) = crossed_means([_stack([neutral.clip_i, chosen])], rule.resamples)
    gain = _interval(image[..., 1] - image[..., 0], _shape(chosen), rule, ACCEPTANCE)
    return made.model_copy(update={"neutral_word": word, "neutral_gain": gain})


def duel(newcomer: Scores, rival: Scores, anchors: Anchors, rule: SelectionRule) -> Interval:
    """The paired difference of two words' balanced scores, newcomer less rival, judged on the reporting set with the
    same prompts, seeds and references. The newcomer is surely better where its lower end is above 0.

    Raises InputError when the scores do not compare with the anchors or are not finite.
    """
    for one in (newcomer, rival):
        _check([one], anchors, "report")
        _check_finite(one)
    image, text = _views([newcomer, rival], anchors, rule)
    score = _balance(image, text, anchors, _scale(anchors, rule), rule).score
    smaller = min(_shape(newcomer.clip_i), _shape(newcomer.clip_t))
    return _interval(score[..., 0] - score[..., 1], smaller, rule, rule.confidence)


def balanced(scores: Scores, anchors: Anchors, rule: SelectionRule) -> float:
    """The balanced score of any step on either split: harmonic mean of the usable scaled values in [0, 1].

    It does not depend on the rule's name, so that words chosen under different rules compare. Where neither
    scale is usable it is the raw mean CLIP-I, a cosine. Scores of two words compare if both come from the same anchors.
    Raises InputError when the scores do not compare with the anchors or are not finite.
    """
    _check([scores], anchors, anchors.class_word.split)
    _check_finite(scores)
    image, text = _stack([anchors.class_word.clip_i, scores.clip_i]), _stack([anchors.class_word.clip_t, scores.clip_t])
    means = image.mean(axis=(1, 2)), text.mean(axis=(1, 2))
    return float(_balance(*means, anchors, _scale(anchors, rule), rule).score[0])


# --- computing ------------------------------------------------------------------------------------------------------


class _Look(NamedTuple):
    """Steps seen on the same cells. Views are [4, B, …]; `image` and `text` have the class word first."""

    image: Array
    text: Array
    balance: _Balance
    score: Array
    keeps: NDArray[np.bool_]
    floor_kept: bool
    grid_i: tuple[int, int]
    grid_t: tuple[int, int]


def _look(judged: Sequence[Scores], anchors: Anchors, scale: Scale, rule: SelectionRule) -> _Look:
    image, text = _views(judged, anchors, rule)
    balance = _balance(image, text, anchors, scale, rule)
    ranked = _ranked(balance, image, text, scale, rule)
    return _Look(image, text, balance, *ranked, _shape(anchors.class_word.clip_i), _shape(anchors.class_word.clip_t))


def _below(look: _Look, step: int, chosen: int, rule: SelectionRule) -> bool:
    """Whether the balanced score of one step is surely below another's."""
    smaller = min(look.grid_i, look.grid_t)  # both share their seeds, so this is the one with fewer prompts
    distance = look.balance.score[..., step] - look.balance.score[..., chosen]
    return interval(distance, *smaller, rule.confidence)[2] < 0


def _candidate(look: _Look, k: int, one: Scores, behind: Array, tied: bool, rule: SelectionRule) -> Candidate:
    return Candidate(
        step=one.step,
        clip_i=_interval(look.image[..., k + 1], look.grid_i, rule),
        clip_t=_interval(look.text[..., k + 1], look.grid_t, rule),
        scaled_i=float(look.balance.scaled_i[0, 0, k]),
        scaled_t=float(look.balance.scaled_t[0, 0, k]),
        score=float(look.score[0, 0, k]),
        behind=float(behind[k]),
        tied=tied,
        seeds=len(one.clip_i.seeds),
    )


def _scale(anchors: Anchors, rule: SelectionRule) -> Scale:
    """The ends of both scales, and whether each is at least `rule.least_range` long."""
    image_zero, text_one = (float(_stack([c]).mean()) for c in (anchors.class_word.clip_i, anchors.class_word.clip_t))
    least = max(rule.least_range, _SHORTEST)
    return Scale(
        image_zero=image_zero,
        image_one=anchors.real,
        text_zero=anchors.real_text,
        text_one=text_one,
        image_usable=anchors.real - image_zero >= least,
        text_usable=text_one - anchors.real_text >= least,
    )


def _balance(image: Array, text: Array, anchors: Anchors, scale: Scale, rule: SelectionRule) -> _Balance:
    """Scale and combine mean CLIP-I and CLIP-T, each [..., 1 + K] with the class word first, elementwise.

    The class word's end of a scale moves with its resamples, so that what prompts and seeds do to both cancels. A value
    on an unusable scale is 0.
    """
    least = max(rule.least_range, _SHORTEST)
    class_i, class_t, steps_i, steps_t = image[..., :1], text[..., :1], image[..., 1:], text[..., 1:]
    zeros = np.zeros_like(steps_i)
    scaled_i = _scaled(steps_i, class_i, anchors.real - class_i, least) if scale.image_usable else zeros
    scaled_t = _scaled(steps_t, anchors.real_text, class_t - anchors.real_text, least) if scale.text_usable else zeros
    if scale.image_usable and scale.text_usable:
        total = scaled_i + scaled_t
        score = np.divide(2 * scaled_i * scaled_t, total, out=zeros, where=total > 0)
    elif scale.image_usable:
        score = scaled_i
    else:
        score = scaled_t if scale.text_usable else steps_i
    return _Balance(scaled_i, scaled_t, score)


def _ranked(
    balance: _Balance, image: Array, text: Array, scale: Scale, rule: SelectionRule
) -> tuple[Array, NDArray[np.bool_], bool]:
    """What the rule ranks by [..., K]; which of the K steps it may choose; and whether those keep its floor."""
    everyone = np.ones(balance.score.shape[-1], dtype=bool)
    if rule.name == "balanced":
        return balance.score, everyone, True
    if rule.name == "fidelity":
        score, other = (balance.scaled_i if scale.image_usable else image[..., 1:]), balance.scaled_t[0, 0]
        floored = scale.text_usable
    else:
        score, other = (balance.scaled_t if scale.text_usable else text[..., 1:]), balance.scaled_i[0, 0]
        floored = scale.image_usable
    keeps = other >= rule.floor if floored else everyone
    return (score, keeps, True) if keeps.any() else (score, other == other.max(), False)


def _scaled(value: Array, zero: Array | float, length: Array, least: float) -> Array:
    # A usable scale can still fall short in single resamples.
    return np.clip((value - zero) / np.maximum(length, least), 0.0, 1.0)


def _views(judged: Sequence[Scores], anchors: Anchors, rule: SelectionRule) -> list[Array]:
    """Views [4, B, 1 + K] of mean CLIP-I and mean CLIP-T, the class word first."""
    all_scores = [anchors.class_word, *judged]
    grids = [_stack([one.clip_i for one in all_scores]), _stack([one.clip_t for one in all_scores])]
    return crossed_means(grids, rule.resamples)


def _stack(cells: Sequence[Cells]) -> Array:
    return np.array([one.values for one in cells], dtype=np.float64)


def _shape(cells: Cells) -> tuple[int, int]:
    return len(cells.prompts), len(cells.seeds)


def _interval(views: Array, shape: tuple[int, int], rule: SelectionRule, confidence: float | None = None) -> Interval:
    value, low, high = interval(views, *shape, confidence or rule.confidence)
    return Interval(value=value, low=low, high=high)


# --- checking -------------------------------------------------------------------------------------------------------


def _check(scores: Sequence[Scores], anchors: Anchors, split: Split, halved: bool = False) -> None:
    """Raise InputError unless all scores and anchors are of `split`, compare, and name each step once. `halved` scores
    may be on some of the anchors' seeds."""
    word = anchors.class_word
    if not scores:
        raise InputError("There are no scores to choose from: judge at least one checkpoint first.")
    if not (_finite(word) and math.isfinite(anchors.real) and math.isfinite(anchors.real_text)):
        raise InputError(
            "The scores of the class word or of the real pictures are not finite numbers, so there is no scale: look "
            "at the number types of the base model and of the judge."
        )
    for one in (word, *scores):
        who = "the class word" if one is word else f"step {one.step}"
        if one.split != split:
            raise InputError(
                f"The scores of {who} are of the {one.split!r} prompts; judge it on the {split!r} prompts."
            )
        if one.protocol != word.protocol:
            raise InputError(
                f"The scores of {who} come from protocol {one.protocol}, those of the class word from {word.protocol}: "
                "scores compare only under one protocol (same judge, prompts, seeds, sampler and pictures), so judge "
                "the stored vectors again under this one."
            )
        there = restricted(word, one.clip_i.seeds) if halved and _shared(one, word) else word
        if _grid(one) != _grid(there):
            raise InputError(
                f"The scores of {who} are not on the prompts and seeds of the class word's: scores compare only under "
                "one protocol, picture by picture, so judge it again on the same ones."
            )
    steps = [one.step for one in scores]
    twice = sorted({step for step in steps if steps.count(step) > 1})
    if twice:
        raise InputError(f"Judged more than once: {listed(twice)}; give one set of scores for each step.")


def _check_finite(scores: Scores) -> None:
    if not _finite(scores):
        raise InputError(
            f"The scores of step {scores.step} are not finite numbers: look at the number types of the base model and "
            "of the judge, and judge it again."
        )


def _finite(scores: Scores) -> bool:
    return all(
        math.isfinite(value) for cells in (scores.clip_i, scores.clip_t) for row in cells.values for value in row
    )


def _shared(one: Scores, word: Scores) -> bool:
    return bool(one.clip_i.seeds) and set(one.clip_i.seeds) <= set(word.clip_i.seeds)


def _grid(scores: Scores) -> tuple[object, ...]:
    return scores.clip_i.prompts, scores.clip_i.seeds, scores.clip_t.prompts, scores.clip_t.seeds
