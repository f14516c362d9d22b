"""The training station: from a plan and prepared pictures to checkpoints in the store, resumable.

It encodes latents once (cached by key), feeds the trainer, keeps its checkpoints as blobs and its state under the run's
prefix. It knows the store; it knows neither judging nor the registry.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ti_core import formats, keys
from ti_core.backbone.resident import resident
from ti_core.errors import IntegrityError, NotFoundError, TrainingError
from ti_core.images.preprocess import png, square
from ti_core.prompts import templates
from ti_core.records import Checkpoint, Plan, PreparedSet, run_prefix
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, put_blob
from ti_core.training import state as states
from ti_core.training.trainer import CheckpointReady, ConceptJob, Failed, Progress, train

log = logging.getLogger(__name__)


def prepare(plan: Plan, settings: Settings, store: Store) -> PreparedSet:
    """Make squares of the plan's pictures, keep them as blobs, and encode their latents into the worker's cache."""
    resolution = plan.training.resolution
    pictures = [square(get_blob(store, picture.sha256), resolution) for picture in plan.images.pictures]
    key = keys.digest(
        {
            "pictures": [picture.sha256 for picture in plan.images.pictures],
            "preprocessing": keys.preprocess_key(resolution),
            "base": plan.base.digest,
            "mirror": plan.training.mirror,
        }
    )
    path = settings.home.absolute() / "cache" / "latents" / f"{key}.safetensors"
    if not _readable(path):
        model = resident(plan.base, settings.device)
        pixels_N3HW = torch.stack([_pixels(np.asarray(picture)) for picture in pictures])
        if plan.training.mirror:
            pixels_N3HW = torch.cat([pixels_N3HW, pixels_N3HW.flip(-1)])
        # One at a time: memory stays that of one picture, and a picture's latent does not depend on its company.
        encoded = [model.encode_pictures(one.unsqueeze(0)) for one in pixels_N3HW]
        mean, std = (torch.cat(parts).cpu() for parts in zip(*encoded, strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file({"mean": mean, "std": std}, partial)
        partial.replace(path)
    return PreparedSet(
        key=key,
        resolution=resolution,
        squares=tuple(put_blob(store, png(picture)) for picture in pictures),
        latents=str(path),
        count=len(pictures) * (2 if plan.training.mirror else 1),
    )


def run_training(
    plan: Plan, prepared: PreparedSet, settings: Settings, store: Store, on_progress: Callable[[Progress], None]
) -> list[Checkpoint]:
    """Train the plan's concept and return its checkpoints by step, every one of them a blob in the store.

    Training goes on from the last stored state of the same train_key. Raises TrainingError when it cannot go on.
    """
    model = resident(plan.base, settings.device)
    key = f"{run_prefix(plan.concept.name, plan.base.slug, plan.train_key)}/state/training.safetensors"
    resume, checkpoints = _stored_state(store, key, plan.train_key)
    if resume and resume.step == plan.training.steps:
        return checkpoints
    for event in train([_job(plan, prepared, resume)], model):
        match event:
            case Progress():
                on_progress(event)
            case CheckpointReady():
                vectors = {name: rows.numpy() for name, rows in event.state.vectors.items()}
                blob = put_blob(store, formats.write_checkpoint(vectors))
                checkpoints.append(Checkpoint(step=event.step, vectors=blob, norm=event.norm, loss=event.loss))
                store.put(key, states.to_bytes(event.state, plan.train_key, checkpoints))
            case Failed():
                raise TrainingError(f"Training stopped: {event.reason}")
            case _:
                pass
    return checkpoints


def _job(plan: Plan, prepared: PreparedSet, resume: states.TrainingState | None) -> ConceptJob:
    latents = load_file(prepared.latents)
    return ConceptJob(
        name=plan.concept.name,
        placeholder=plan.concept.placeholder,
        start_phrase=plan.concept.start_phrase,
        vectors=plan.concept.vectors,
        templates=templates(plan.concept.kind),
        config=plan.training,
        mean=latents["mean"],
        std=latents["std"],
        resume=resume,
    )


def _stored_state(store: Store, key: str, train_key: str) -> tuple[states.TrainingState | None, list[Checkpoint]]:
    try:
        state, checkpoints = states.from_bytes(store.get(key).data, train_key, store.url(key))
        log.info("Training goes on from step %d.", state.step)
        return state, checkpoints
    except NotFoundError:
        return None, []
    except IntegrityError as error:
        log.warning("%s Training starts anew.", error)
        return None, []


def _readable(latents: Path) -> bool:
    try:
        return set(load_file(latents)) == {"mean", "std"}
    except (SafetensorError, OSError):
        return False


def _pixels(picture_HW3: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] to fp32 [3, H, W] in [−1, 1]."""
    return torch.from_numpy(picture_HW3.copy()).permute(2, 0, 1).float() / 127.5 - 1.0
