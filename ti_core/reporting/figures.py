"""The figures by which a published protocol is quoted, over a run and over a batch, and what keeps them from comparing.

It reads manifests and rows; it makes no picture and knows no store.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ti_core.choosing.statistics import t_quantile
from ti_core.config import PROTOCOLS
from ti_core.planning.protocols import CLIP, DINO, PAPER_PLAIN, published
from ti_core.records import BatchRow, Manifest, Plan


def figures(manifest: Manifest) -> dict[str, float]:
    """What the protocol is quoted by, for the chosen step on the reporting set; empty where it is not a published one.

    The paper's: CLIP-I of plain prompts; CLIP-T of edit prompts, the cosine of a prompt's mean feature. DreamBench:
    DINO, CLIP-I and CLIP-T of its prompts; DINO only where there was one.
    """
    named, chosen = published(manifest.plan.evaluation.protocol), manifest.report.chosen
    if named is None:
        return {}
    if not named.dino:
        of_mean = chosen.clip_t_of_mean
        cells = chosen.clip_i
        quoted = [cells.values[cells.prompts.index(prompt)] for prompt in _quoted(cells.prompts)]
        mean = statistics.fmean(value for row in quoted for value in row)
        return {"CLIP-I": mean} | ({"CLIP-T": statistics.fmean(of_mean)} if of_mean else {})
    likeness = {"CLIP-I": chosen.clip_i_edit.mean} if chosen.clip_i_edit else {}
    if chosen.dino:
        rows = chosen.dino.values[len(chosen.clip_i.prompts) :]
        likeness = {"DINO": sum(map(sum, rows)) / (len(rows) * len(chosen.dino.seeds))} | likeness
    return likeness | {"CLIP-T": chosen.clip_t.mean}


def _quoted(prompts: Sequence[str]) -> list[str]:
    """Of the plain prompts those that the paper's figure is of; prompts of one's own are all that there is."""
    return [prompt for prompt in prompts if prompt in PAPER_PLAIN] or list(prompts)


@dataclass(frozen=True)
class Average:
    """One figure over the concepts of a batch: mean, half of its 95% Student-t interval (None for one concept), and
    what is published for textual inversion (None where nothing is)."""

    name: str
    mean: float
    reach: float | None
    quoted: float | None


def averages(rows: Sequence[BatchRow]) -> list[Average]:
    """The published protocol's figures over the concepts that have them; empty where there is none."""
    averaged = [row for row in rows if row.figures]
    made = []
    for name in ("DINO", "CLIP-I", "CLIP-T"):
        values = [row.figures[name] for row in averaged if name in row.figures]
        if not values:
            continue
        reach = None
        if len(values) > 1:
            reach = t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
        named = published(averaged[0].protocol)
        made.append(Average(name, statistics.fmean(values), reach, named.quoted.get(name) if named else None))
    return made


def caveats(plan: Plan) -> list[str]:
    """What a reader must know before comparing the figures with published ones; empty for other protocols."""
    named, evaluation = published(plan.evaluation.protocol), plan.evaluation
    if named is None:
        return []
    reasons = []
    if plan.base.kind == "miniature":
        reasons.append(
            "The base model is the miniature, no Stable Diffusion: the figures show that the protocol runs, not how "
            "good textual inversion is."
        )
    elif plan.base.kind not in named.kinds:
        here = f"{plan.base.name} ({plan.base.kind})"
        reasons.append(f"Published figures are of {named.base}; the base model here is {here}.")
    if plan.judge.name != CLIP:
        reasons.append(f"CLIP is {plan.judge.name}, not {CLIP}: figures of two judges do not compare.")
    if named.dino and plan.opinion is None:
        reasons.append("There was no DINO (PSEUDOWORD_DINO), so its figure is missing.")
    elif named.dino and plan.opinion and plan.opinion.name != DINO:
        reasons.append(f"The second opinion is {plan.opinion.name}; the protocol's is {DINO}.")
    changed = [
        f"{name.replace('_', ' ')} {getattr(evaluation, name)} instead of {value}"
        for name, value in PROTOCOLS[evaluation.protocol or "standard"].items()
        if getattr(evaluation, name) != value
    ]
    if evaluation.prompts.given:
        changed.append("own prompts instead of the protocol's")
    if changed:
        reasons.append(f"Changed: {', '.join(changed)}.")
    if evaluation.protocol == "textual-inversion-paper" and not evaluation.prompts.given:
        reasons.append("Edit prompts are the three that the paper names; its whole list is not printed there.")
    reasons.append(
        "The step was chosen, on other prompts and seeds; published figures are of a fixed number of training steps."
    )
    return reasons
