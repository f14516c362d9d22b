"""The digests that decide what is the same work: train_key, protocol digest, judge_key.

Reuse is decided by these keys alone. A key is the sha256 of canonical JSON, shortened to 32 hex digits (128 bits) so
that paths stay readable; file digests are never shortened. This module knows no files and no torch.
"""

import hashlib
import json
from typing import Any

from ti_core.config import ConceptSpec, SelectionRule, TrainingConfig
from ti_core.records import ImageSet, JudgeRequest, PromptSet, Protocol

PREPROCESS_VERSION = 1
"""Bump when the same picture file yields another square or another latent."""
NUMERICS_VERSION = 1
"""Bump when the same configuration yields other vectors on purpose."""
JUDGING_VERSION = 1
"""Bump when the same pictures and prompts yield other scores on purpose."""


def digest(value: Any) -> str:
    """Digest of a JSON-like value: keys sorted, no spaces, shortest floats (Python's repr)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def preprocess_key(resolution: int) -> str:
    """Digest of how a picture file becomes a square."""
    return digest({"version": PREPROCESS_VERSION, "resolution": resolution, "crop": "center"})


def train_key(concept: ConceptSpec, images: ImageSet, training: TrainingConfig, base_digest: str) -> str:
    """Digest of everything that decides the trained vectors.

    `training` must be resolved. The concept's name and the pictures' place are not part of it: they do not change a
    number.
    """
    return digest(
        {
            "numerics": NUMERICS_VERSION,
            "pictures": sorted(picture.sha256 for picture in images.pictures),
            "masks": sorted(picture.mask for picture in images.pictures) if training.masked else [],
            "preprocessing": preprocess_key(training.resolution),
            "concept": {"start": concept.start_phrase, "kind": concept.kind, "vectors": concept.vectors},
            "training": training.model_dump(mode="json"),
            "base": base_digest,
        }
    )


def protocol_digest(protocol: Protocol) -> str:
    """Digest under which scores compare.

    A part that the protocol came to know later counts only where it is used, so that what was judged before compares.
    """
    told = protocol.model_dump(mode="json")
    unused = {name for name in ("dino", "dino_digest") if not told[name]}
    return digest({name: value for name, value in told.items() if name not in unused})


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
    unread = {"floor"} if rule.name == "balanced" else set()
    told = rule.model_dump(mode="json", exclude=unread)
    how = {"halving": True} if halving else {}
    return digest({"train": train_key, "protocol": protocol_digest, "rule": told} | how)
