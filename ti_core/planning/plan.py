"""Planning: from what a user says to one run, completely decided, before anything slow begins.

It checks the words and the base model, takes in the pictures, fills in defaults and computes the keys. No torch.
"""

import logging
from pathlib import Path
from typing import Any

from ti_core import keys
from ti_core.backbone.folder import check_class_word, find_base, find_judge
from ti_core.config import ConceptSpec, EvaluationConfig, PresetName, SelectionRule, TrainingConfig, given
from ti_core.errors import InputError
from ti_core.images.ingest import Wanted, ingest, keep_pictures
from ti_core.planning.opinion import find_opinion
from ti_core.planning.protocols import PUBLISHED, check_sets, judges, placeholder_policy, reseeded, sets_of
from ti_core.records import BaseModelInfo, Given, ImageSet, JudgeInfo, OpinionInfo, Plan, PromptSet, Protocol
from ti_core.settings import Settings
from ti_core.store import Store

log = logging.getLogger(__name__)


def make_plan(
    concept: ConceptSpec,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    rule: SelectionRule,
    base_model: str,
    settings: Settings,
    store: Store | None,
    given: Given | None = None,
    preset: PresetName = "standard",
) -> Plan:
    """Decide one run. `base_model` "" takes the settings' own; `given` is what it starts from in place of a phrase;
    `preset` fills what is not set. What training sees of the pictures becomes blobs of the store; without a store
    nothing is written there.

    Raises InputError for anything the user must mend, ServiceError for an unreachable store or bucket.
    """
    settings.check_place(base_model, settings.base_model)
    base = find_base(base_model or settings.base_model)
    clip, dino = judges(evaluation, base.kind, settings)
    judge = find_judge(clip, base.kind)
    opinion = _opinion(dino, settings)
    check_class_word(concept.class_word, base)
    if given:
        concept = _with_vectors_of(concept, given)
    training = training.resolved(base.kind, base.resolution, preset)
    if training.checkpoint_every > training.steps:
        raise InputError(
            f"Checkpoint every {training.checkpoint_every} steps is more than the {training.steps} steps of the run: "
            "lower it, or train longer."
        )
    if rule.step and not concept.imported and not _is_checkpoint(rule.step, training):
        raise InputError(
            f"There will be no checkpoint of step {rule.step} to take: one comes every {training.checkpoint_every} "
            f"steps and after the last, {training.steps}."
        )
    if training.norm == "free" and training.norm_limit != TrainingConfig.model_fields["norm_limit"].default:
        raise InputError(
            f"A norm limit of {training.norm_limit:g} does nothing to a free norm: choose clamp or direction as the "
            "norm, or leave the limit out."
        )
    if training.schedule == "constant" and training.warmup:
        raise InputError(
            f"A warm-up of {training.warmup} steps does nothing to a constant learning rate: choose "
            "constant_with_warmup, linear or cosine as the schedule, or leave the warm-up out."
        )
    evaluation = evaluation.resolved(base.kind, preset)
    wanted = wanted_of(training)
    images = ingest(concept.pictures, wanted, settings)
    images = images if concept.show_pictures else images.hidden()
    if training.masked and not any(picture.shown for picture in images.pictures):
        raise InputError(
            f"No picture in {concept.pictures} has a mask or transparency, so a masked loss would learn the same as a "
            "plain one: add masks (cat.png gets cat-masklabel.png, white where it shows), or leave --masked out."
        )
    if evaluation.data and "://" not in evaluation.data:
        evaluation = evaluation.model_copy(update={"data": str(settings.allowed(Path(evaluation.data)))})
    sets = sets_of(evaluation, base.kind, concept, settings)
    protocol = _protocol(concept, base, judge, opinion, images, training, evaluation, sets)
    protocol_digest = keys.protocol_digest(protocol)
    train_key = keys.train_key(concept, images, training, base.digest, given)
    if store is not None:
        keep_pictures(concept.pictures, images, wanted, settings, store)
    return Plan(
        concept=concept,
        base=base,
        judge=judge,
        images=images,
        training=training,
        evaluation=evaluation,
        rule=rule,
        protocol=protocol,
        protocol_digest=protocol_digest,
        train_key=train_key,
        judge_key=keys.judge_key(train_key, protocol_digest, rule, evaluation.halving),
        opinion=opinion,
        given=given,
    )


def _is_checkpoint(step: int, training: TrainingConfig) -> bool:
    return step == training.steps or (step < training.steps and step % training.checkpoint_every == 0)


def _with_vectors_of(concept: ConceptSpec, given: Given) -> ConceptSpec:
    """The concept with as many vectors as it starts from. Raises InputError where another number was asked for."""
    if "vectors" in concept.model_fields_set and concept.vectors != given.count:
        raise InputError(
            f"{given.source} has {given.count} vectors, and {concept.vectors} are asked for: leave the number of "
            "vectors out."
        )
    return concept.model_copy(update={"vectors": given.count})


def wanted_of(training: TrainingConfig) -> Wanted:
    """What a resolved training wants of pictures."""
    return Wanted(training.resolution, training.crop, training.mirror)


def replan(plan: Plan, evaluation: EvaluationConfig, rule: SelectionRule, clip: str, settings: Settings) -> Plan:
    """The plan of the same training, judged or chosen in another way.

    Fields of `evaluation` and `rule` that were not set keep what the plan has, and so do set ones that stand for a
    default (0, ""). Where `evaluation` names a protocol, the numbers are the protocol's instead. `clip` "" keeps the
    plan's judge, or takes that of a published protocol. Raises InputError when the base model is another one now, or
    for a judge that is none.
    """
    settings.check_place(clip, settings.clip)
    base = find_base(plan.base.name)
    if base.digest != plan.base.digest:
        raise InputError(
            f"{plan.concept.name} was trained on other weights than those of {plan.base.name} here (digest "
            f"{plan.base.digest[:12]}, not {base.digest[:12]}): bring those back, or train it anew."
        )
    was = plan.evaluation.protocol
    if evaluation.protocol:  # another protocol brings its own numbers
        kept: dict[str, Any] = {"data": plan.evaluation.data} if evaluation.protocol == was else {}
        kept["halving"] = plan.evaluation.halving
    else:
        kept = plan.evaluation.model_dump() | {"sampler": plan.protocol.sampler}
    same_texts = not evaluation.protocol and not evaluation.prompts.given
    published = evaluation.protocol in PUBLISHED
    evaluation = EvaluationConfig.model_validate(kept | given(evaluation)).resolved(base.kind)
    rule = SelectionRule.model_validate(plan.rule.model_dump() | given(rule))
    names = "" if plan.judge.name == "miniature" else plan.judge.name, plan.opinion.name if plan.opinion else ""
    if published:
        names = judges(evaluation, base.kind, settings)
    judge = find_judge(clip or names[0], base.kind)
    opinion = _opinion(settings.dino or names[1], settings)
    if same_texts:
        sets = reseeded((plan.protocol.select, plan.protocol.report), evaluation, base.kind)
    else:
        sets = sets_of(evaluation, base.kind, plan.concept, settings)
    protocol = _protocol(plan.concept, base, judge, opinion, plan.images, plan.training, evaluation, sets)
    digest = keys.protocol_digest(protocol)
    return plan.model_copy(
        update={
            "base": base,
            "judge": judge,
            "opinion": opinion,
            "evaluation": evaluation,
            "rule": rule,
            "protocol": protocol,
            "protocol_digest": digest,
            "judge_key": keys.judge_key(plan.train_key, digest, rule, evaluation.halving),
        }
    )


def _opinion(name: str, settings: Settings) -> OpinionInfo | None:
    """The second opinion of this name. Where only the protocol asks for it and it is not to be had, there is none, and
    the report says so."""
    if not name:
        return None
    try:
        return find_opinion(name)
    except InputError as error:
        if name == settings.dino:
            raise
        log.warning("%s The figures come without it; PSEUDOWORD_DINO may name a folder.", error)
        return None


def _protocol(
    concept: ConceptSpec,
    base: BaseModelInfo,
    judge: JudgeInfo,
    opinion: OpinionInfo | None,
    images: ImageSet,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    sets: tuple[PromptSet, PromptSet],
) -> Protocol:
    """How the plan's checkpoints are judged; `evaluation` and `training` are resolved.

    Raises InputError for sets in which no verdict could be sure.
    """
    check_sets(*sets)
    select, report = sets
    return Protocol(
        base_digest=base.digest,
        clip=judge.name,
        clip_digest=judge.digest,
        references=tuple(sorted(picture.sha256 for picture in images.pictures)),
        preprocessing=keys.preprocess_key(training.resolution, training.crop, images),
        class_word=concept.class_word,
        placeholder_policy=placeholder_policy(evaluation),
        sampler=evaluation.sampler or "ddim",
        sampler_steps=evaluation.sampler_steps,
        guidance=evaluation.guidance,
        resolution=base.resolution,
        select=select,
        report=report,
        version=keys.JUDGING_VERSION,
        dino=opinion.name if opinion else "",
        dino_digest=opinion.digest if opinion else "",
    )
