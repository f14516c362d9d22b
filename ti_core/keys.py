"""The digests that decide what is the same work: train_key, protocol digest, judge_key.

Reuse is decided by these keys alone. A key is the sha256 of canonical JSON, shortened to 32 hex digits (128 bits) so
that paths stay readable; file digests are never shortened. What the chosen options do not read, names and paths
are in no key, and neither are device and number type (docs/decisions/0013). This module knows no files and no torch.
"""

import hashlib
import json
from typing import Any

from ti_core.config import ConceptSpec, SelectionRule, TrainingConfig
from ti_core.records import Given, ImageSet, JudgeRequest, Plan, PromptSet, Protocol

PREPROCESS_VERSION = 2
"""Bump when the same picture file yields another square or another latent."""
NUMERICS_VERSION = 1
"""Bump when the same configuration yields other vectors on purpose."""
JUDGING_VERSION = 1
"""Bump when the same pictures and prompts yield other scores on purpose."""


def digest(value: Any) -> str:
    """Digest of a JSON-like value: keys sorted, no spaces, shortest floats (Python's repr)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def preprocess_key(resolution: int, crop: str, images: ImageSet | None = None) -> str:
    """Digest of how picture files become squares. Masks count where they decide which square it is."""
    deciding = masks(images) if images and crop == "auto" and any(one.mask for one in images.pictures) else []
    return digest({"version": PREPROCESS_VERSION, "resolution": resolution, "crop": crop, "masks": deciding})


def train_key(
    concept: ConceptSpec, images: ImageSet, training: TrainingConfig, base_digest: str, given: Given | None = None
) -> str:
    """Digest of everything that decides the trained vectors.

    `training` must be resolved. The concept's name and the pictures' place are not part of it: they do not change a
    number. What is `given` counts by its vectors, whatever file they came in.
    """
    if concept.imported and given:
        return imported_key(given, base_digest)
    return digest(
        {
            "numerics": NUMERICS_VERSION,
            "pictures": sorted(picture.sha256 for picture in images.pictures),
            "masks": masks(images) if training.masked else [],
            "preprocessing": preprocess_key(training.resolution, training.crop, images),
            "concept": {
                "start": {"vectors": given.vectors} if given else concept.start_phrase,
                "kind": concept.kind,
                "vectors": concept.vectors,
            },
            "training": training.model_dump(mode="json") | unread(training),
            "base": base_digest,
        }
    )


def imported_key(given: Given, base_digest: str) -> str:
    """The train_key of a word that is not trained here: its vectors stand in the place of all that decides them."""
    return digest({"imported": given.vectors, "base": base_digest})


def unjudged_key(train_key: str) -> str:
    """The judge_key of a word that nobody judged."""
    return digest({"train": train_key, "judged": False})


def masks(images: ImageSet) -> list[tuple[str, str]]:
    """Every picture with its mask: the same masks on other pictures are other work."""
    return sorted((picture.sha256, picture.mask) for picture in images.pictures)


def unread(training: TrainingConfig) -> dict[str, Any]:
    """The fields that the chosen options do not read, each with the value that stands for it in keys."""
    fields: dict[str, Any] = {}
    if training.schedule == "constant":
        fields["warmup"] = 0
    if training.norm == "free":
        fields["norm_limit"] = 1.0
    return fields


def protocol_digest(protocol: Protocol) -> str:
    """Digest under which scores compare. Judges count by their weights, whatever they are called and wherever they lie.

    A part that the protocol came to know later counts only where it is used, so that what was judged before compares.
    """
    counted = protocol.model_dump(mode="json", exclude={"clip", "dino"})
    unused = {"dino_digest"} if not protocol.dino_digest else set()
    return digest({name: value for name, value in counted.items() if name not in unused})


def request_digest(request: JudgeRequest) -> str:
    """Digest of one set of pictures that are made and scored: equal ones have equal scores."""
    whole: PromptSet = getattr(request.plan.protocol, request.split)
    return digest(
        {
            "protocol": request.plan.protocol_digest,
            "split": request.split,
            "step": request.step,
            "vectors": request.vectors,
            "seeds": () if request.seeds == whole.seeds else request.seeds,
        }
    )


def judge_key(train_key: str, protocol_digest: str, rule: SelectionRule, halving: bool = False) -> str:
    """Digest of one judged and decided run. A field that the named rule does not read is no part of it.

    Halving is: it leaves steps out before they are judged on all seeds, so the decision may be another one.
    """
    unread = ({"floor"} if rule.name == "balanced" else set()) | (set() if rule.step else {"step"})
    of_rule = rule.model_dump(mode="json", exclude=unread)
    how = {"halving": True} if halving else {}
    return digest({"train": train_key, "protocol": protocol_digest, "rule": of_rule} | how)


# --- keys of earlier versions ----------------------------------------------------------------------------------------
# They move no more: what is written here is how Pseudoword once computed them, with the numbers and fields of then.

_TRAINING_1 = {"steps", "batch_size", "learning_rate", "checkpoint_every", "resolution", "mirror", "seed"}
_TRAINING_2 = _TRAINING_1 | {"accumulation", "schedule", "warmup", "norm", "norm_limit", "masked", "stop_early"}
_RULE = {"name", "confidence", "resamples", "least_range"}
_PROTOCOL = {
    "base_digest", "clip", "clip_digest", "references", "preprocessing", "class_word", "pairing", "placeholder_policy",
    "sampler", "sampler_steps", "guidance", "resolution", "select", "report",
}  # fmt: skip


def older(plan: Plan) -> list[tuple[str, str]]:
    """(train_key, judge_key) of this plan as earlier versions computed them, the newest first. A version that could
    not have done the work has none."""
    if plan.given or plan.rule.step:
        return []
    made = [both] if (both := _keys_before_crops(plan)) else []
    for fields in (_TRAINING_2, _TRAINING_1):
        train = _older_train_key(plan, fields)
        if train:
            made.append((train, _older_judge_key(plan, train)))
    return made


def _keys_before_crops(plan: Plan) -> tuple[str, str] | None:
    """As of preprocessing 1, which cut every picture in the middle."""
    training, images, protocol, rule = plan.training, plan.images, plan.protocol, plan.rule
    if training.crop == "pad" or _used(training, TrainingConfig.model_fields.keys() - _TRAINING_2 - {"crop"}):
        return None
    train = digest(
        {
            "numerics": 1,
            "pictures": sorted(picture.sha256 for picture in images.pictures),
            "masks": masks(images) if training.masked else [],
            "preprocessing": _preprocess_key_1(training.resolution),
            "concept": {
                "start": plan.concept.start_phrase, "kind": plan.concept.kind, "vectors": plan.concept.vectors,
            },
            "training": training.model_dump(mode="json", include=_TRAINING_2) | unread(training),
            "base": plan.base.digest,
        }
    )  # fmt: skip
    seconds = {"dino_digest"} if protocol.dino_digest else set()
    counted = protocol.model_dump(mode="json", include=(_PROTOCOL - {"clip"}) | seconds)
    then = counted | {"version": 1, "preprocessing": _preprocess_key_1(training.resolution)}
    chosen = rule.model_dump(mode="json", include=_RULE | (set() if rule.name == "balanced" else {"floor"}))
    how = {"halving": True} if plan.evaluation.halving else {}
    return train, digest({"train": train, "protocol": digest(then), "rule": chosen} | how)


def _older_train_key(plan: Plan, fields: set[str]) -> str:
    training, pictures = plan.training, plan.images.pictures
    if _used(training, TrainingConfig.model_fields.keys() - fields - unread(training).keys()):
        return ""
    concept = {"start": plan.concept.start_phrase, "kind": plan.concept.kind, "vectors": plan.concept.vectors}
    counted = {
        "numerics": 1,
        "pictures": sorted(picture.sha256 for picture in pictures),
        "preprocessing": _preprocess_key_1(training.resolution),
        "concept": concept,
        "training": training.model_dump(mode="json", include=fields),
        "base": plan.base.digest,
    }
    if "masked" in fields:
        counted["masks"] = sorted(picture.mask for picture in pictures) if training.masked else []
    return digest(counted)


def _older_judge_key(plan: Plan, train: str) -> str:
    protocol, rule = plan.protocol, plan.rule
    seconds = {"dino", "dino_digest"} if protocol.dino_digest else set()
    counted = protocol.model_dump(mode="json", include=_PROTOCOL | seconds)
    then = counted | {"version": 1, "preprocessing": _preprocess_key_1(plan.training.resolution)}
    floor = set() if rule.name == "balanced" else {"floor"}
    chosen = rule.model_dump(mode="json", include=_RULE | floor)
    how = {"halving": True} if plan.evaluation.halving else {}
    return digest({"train": train, "protocol": digest(then), "rule": chosen} | how)


def _preprocess_key_1(resolution: int) -> str:
    return digest({"version": 1, "resolution": resolution, "crop": "center"})


def _used(training: TrainingConfig, fields: set[str]) -> bool:
    return any(getattr(training, name) != TrainingConfig.model_fields[name].default for name in fields)
