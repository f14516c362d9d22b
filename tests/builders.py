"""Judged runs for tests of keeping and fetching: small valid manifests whose blobs all lie in a store."""

import numpy as np

from tests.judged_run import JudgedRun
from ti_core import formats, keys
from ti_core.publishing.transaction import RivalError, publish
from ti_core.records import Checkpoint, Duel, Interval, Manifest, Outcome, PublishedFile
from ti_core.reporting.words import file_note
from ti_core.store import Store, put_blob

STEPS = (20, 40)


def judged(
    store: Store,
    *,
    name: str = "cat-toy",
    base: str = "miniature",
    score: float = 0.6,
    seed: int = 0,
    guidance: float = 4.0,
    accepted: bool = True,
) -> Manifest:
    """A run judged at steps 20 and 40, step 20 chosen, `score` on the reporting set.

    Another `seed` gives other vectors and another train_key, another `guidance` another protocol.
    """
    run = JudgedRun(
        name=name, steps=STEPS, chosen=STEPS[0], looks_bad_from=None, accepted=accepted,
        plain=("a photo of a {}",), edit=("a {} on a blue background",), side=16,
    )  # fmt: skip
    for data in run.blobs.values():
        put_blob(store, data)
    vectors = {
        step: {"clip_l": np.random.default_rng((seed, step)).normal(size=(2, 8)).astype(np.float32)} for step in STEPS
    }
    checkpoints = tuple(
        Checkpoint(step=step, vectors=put_blob(store, formats.write_checkpoint(rows)), norm=1.0, loss=0.1)
        for step, rows in vectors.items()
    )
    files = []
    for layout in formats.LAYOUTS:
        note = {"note": file_note(run.manifest.plan.base, run.manifest.plan.concept)}
        data = formats.write(vectors[STEPS[0]], f"<{name}>", layout, note)
        filename = formats.filename(name)
        files.append(PublishedFile(layout=layout, filename=filename, sha256=put_blob(store, data), size=len(data)))

    manifest = run.manifest
    training = manifest.plan.training.model_copy(update={"seed": seed})
    protocol = manifest.plan.protocol.model_copy(update={"guidance": guidance})
    train_key = keys.train_key(manifest.plan.concept, manifest.plan.images, training, manifest.plan.base.digest)
    digest = keys.protocol_digest(protocol)
    plan = manifest.plan.model_copy(
        update={
            "base": manifest.plan.base.model_copy(update={"name": base, "slug": base}),
            "training": training,
            "protocol": protocol,
            "protocol_digest": digest,
            "train_key": train_key,
            "judge_key": keys.judge_key(train_key, digest, manifest.plan.rule),
        }
    )
    return manifest.model_copy(
        update={
            "plan": plan,
            "checkpoints": checkpoints,
            "report": manifest.report.model_copy(update={"score": score}),
            "files": tuple(files),
            "page": put_blob(store, b"<!doctype html><title>judged</title>"),
        }
    )


def duel(newcomer: Manifest, rival: str, difference: float = 0.1) -> Duel:
    """A duel of a run with the champion of judge_key `rival`, won where the `difference` is positive."""
    plan, score = newcomer.plan, newcomer.report.score
    return Duel(
        newcomer=plan.judge_key, rival=rival, protocol=plan.protocol_digest, references=plan.protocol.references,
        newcomer_score=score, rival_score=score - difference,
        difference=Interval(value=difference, low=difference - 0.01, high=difference + 0.01), won=difference > 0.01,
    )  # fmt: skip


def done(store: Store, manifest: Manifest, run_id: str = "run") -> Outcome:
    """Publish as the line does: judge beside the champion where that is asked for. The higher score wins."""
    duels: dict[str, Duel] = {}
    for _ in range(20):
        try:
            return publish(store, manifest, run_id, duels)
        except RivalError as error:
            rival = error.champion
            duels[rival.judge_key] = duel(manifest, rival.judge_key, manifest.report.score - rival.score)
    raise AssertionError("no end of rivals")
