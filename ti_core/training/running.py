"""The training station: from plans and prepared pictures to checkpoints in the store, many concepts at a time.

It encodes latents once (cached by key), feeds the trainer, keeps its checkpoints as blobs and the states that
resume it under each run's prefix. It knows the store; it knows neither judging nor the registry.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ti_core import keys
from ti_core.backbone.base import Backbone
from ti_core.backbone.resident import resident
from ti_core.config import Packing
from ti_core.errors import InputError
from ti_core.images.preprocess import mask_square, png, square
from ti_core.planning.prompts import templates
from ti_core.records import Plan, PreparedSet, Trained, run_prefix
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, put_blob
from ti_core.training.events import CheckpointReady, ConceptJob, Failed, Paused, Progress
from ti_core.training.keeping import Keeper
from ti_core.training.memory import fitting_slots
from ti_core.training.state import StateFiles, TrainingState
from ti_core.training.stopping import Pause, noting_signals
from ti_core.training.trainer import train

log = logging.getLogger(__name__)


def prepare(plan: Plan, settings: Settings, store: Store) -> PreparedSet:
    """Make squares of the plan's pictures, keep them as blobs, and encode their latents into the worker's cache.

    Raises InputError when a mask shows nothing of its picture.
    """
    training, resolution = plan.training, plan.training.resolution
    files = [get_blob(store, picture.sha256) for picture in plan.images.pictures]
    pictures = [square(file, resolution) for file in files]
    key = keys.digest(
        {
            "pictures": [picture.sha256 for picture in plan.images.pictures],
            "preprocessing": keys.preprocess_key(resolution),
            "base": plan.base.digest,
            "mirror": training.mirror,
            "masks": [picture.mask for picture in plan.images.pictures] if training.masked else None,
        }
    )
    path = settings.home.absolute() / "cache" / "latents" / f"{key}.safetensors"
    if not _readable(path, training.masked):
        model = resident(plan.base, settings.device)
        pixels_N3HW = torch.stack([_pixels(np.asarray(picture)) for picture in pictures])
        if training.mirror:
            pixels_N3HW = torch.cat([pixels_N3HW, pixels_N3HW.flip(-1)])
        # One at a time: memory stays that of one picture, and a picture's latent does not depend on its company.
        encoded = [model.encode_pictures(one.unsqueeze(0)) for one in pixels_N3HW]
        mean, std = (torch.cat(parts).cpu() for parts in zip(*encoded, strict=True))
        sides_N = torch.tensor([min(picture.width, picture.height) for picture in plan.images.pictures])
        sides_N = sides_N.repeat(len(mean) // len(sides_N))
        tensors = {"mean": mean, "std": std, "original": sides_N.float().unsqueeze(1).expand(-1, 2).contiguous()}
        if training.masked:
            tensors["mask"] = _masks(plan, files, store, (mean.shape[2], mean.shape[3]))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file(tensors, partial)
        partial.replace(path)
    return PreparedSet(
        key=key,
        resolution=resolution,
        squares=tuple(put_blob(store, png(picture)) for picture in pictures),
        latents=str(path),
    )


def run_training(
    work: Sequence[tuple[Plan, PreparedSet]],
    packing: Packing,
    settings: Settings,
    store: Store,
    on_progress: Callable[[Progress], None],
    say: Callable[[str], None],
) -> list[Trained]:
    """Train the concepts of `work`, all on one base model, in one pack; tell how far each one came, in the same order.

    Checkpoints are blobs in the store. Training goes on from the last stored state of the same train_key. SIGTERM and
    SIGINT end it at a step's boundary with every state written, and are then raised again for whoever handled them
    before. `say` is told in a sentence how the work is packed.

    Raises ServiceError when the store fails, TrainingError when not even one concept fits into memory.
    """
    model = resident(work[0][0].base, settings.device)
    states: dict[str, TrainingState | None] = {}
    keepers: dict[str, Keeper] = {}
    steps = {plan.concept.name: 0 for plan, _ in work}
    reasons: dict[str, str] = {}
    pause = Pause(60 * packing.minutes)
    with ThreadPoolExecutor(1, "states") as thread, noting_signals(pause):
        for plan, _ in work:
            name = plan.concept.name
            prefix = run_prefix(name, plan.base.slug, plan.train_key)
            files = StateFiles(store, prefix, plan.train_key)
            states[name], checkpoints = files.newest()
            keepers[name] = Keeper(store, files, checkpoints, thread)
            if state := states[name]:
                steps[name] = state.step
                log.info("Training of %s goes on from step %d.", name, state.step)
        open_work = [one for one in work if not ((state := states[one[0].concept.name]) and state.finished)]
        slots = _slots(open_work, packing, model, say)
        jobs = (concept_job(plan, prepared, states[plan.concept.name]) for plan, prepared in open_work)
        with _compiled(model) if packing.compile else contextlib.nullcontext():
            for event in train(jobs, model, slots, keep_shape=packing.keep_shape, should_stop=pause):
                match event:
                    case Progress():
                        steps[event.concept] = event.step
                        if event.state:
                            keepers[event.concept].offer(event.state)
                        on_progress(event)
                    case CheckpointReady():
                        keepers[event.concept].checkpoint(event)
                    case Failed():
                        reasons[event.concept] = f"Training stopped: {event.reason}"
                    case Paused():
                        steps[event.concept] = event.state.step
                        keepers[event.concept].keep(event.state)
                    case _:
                        states.pop(event.concept, None)
        made = {name: keeper.finish() for name, keeper in keepers.items()}
    why = (
        f"it was told to ({signal.Signals(pause.signal).name})"
        if pause.signal
        else f"{packing.minutes:g} minutes are over"
    )
    unfinished = {plan.concept.name for plan, _ in open_work} & set(states) - set(reasons)
    return [
        Trained(
            concept=plan.concept.name,
            step=steps[plan.concept.name],
            checkpoints=made[plan.concept.name],
            reason=reasons.get(plan.concept.name, "") or _pause_reason(plan, steps, unfinished, why),
            paused=plan.concept.name in unfinished,
        )
        for plan, _ in work
    ]


def _pause_reason(plan: Plan, steps: dict[str, int], unfinished: set[str], why: str) -> str:
    name = plan.concept.name
    if name not in unfinished:
        return ""
    return (
        f"Training of {name} paused at step {steps[name]} of {plan.training.steps}: {why}, "
        "and the same work goes on from there when it is asked for again."
    )


def _slots(
    work: Sequence[tuple[Plan, PreparedSet]], packing: Packing, model: Backbone, say: Callable[[str], None]
) -> int:
    if not work:
        return 0
    if packing.slots:
        return min(packing.slots, len(work)) if not packing.keep_shape else packing.slots
    if len(work) == 1:
        return 1
    fitting = fitting_slots(concept_job(*work[0], None), model)
    slots = min(fitting, len(work))
    say(f"training {slots} of {len(work)} concepts at a time (memory holds {fitting})")
    return slots


def concept_job(plan: Plan, prepared: PreparedSet, resume: TrainingState | None) -> ConceptJob:
    """What the trainer is given of a planned and prepared concept."""
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
        original=latents["original"],
        mask=latents.get("mask"),
        resume=resume,
    )


@contextlib.contextmanager
def _compiled(model: Backbone) -> Iterator[None]:
    """torch.compile the U-Net while the block runs: judging has other batch shapes and would compile anew for each."""
    plain = model.unet
    model.unet = torch.compile(plain)
    try:
        yield
    finally:
        model.unet = plain


def _masks(plan: Plan, files: Sequence[bytes], store: Store, size: tuple[int, int]) -> Tensor:
    """[N, 1, h, w] in [0, 1], mirrored ones last: the part of each latent's place that shows."""
    masks = []
    for picture, file in zip(plan.images.pictures, files, strict=True):
        mask = mask_square(file, get_blob(store, picture.mask) if picture.mask else None, plan.training.resolution)
        shown_HW = torch.from_numpy(np.asarray(mask).copy()).float() / 255
        mask_11hw = torch.nn.functional.adaptive_avg_pool2d(shown_HW[None, None], size)
        if mask_11hw.sum() == 0:
            raise InputError(f"The mask of {picture.name} shows nothing of it: make white what is to be learned.")
        masks.append(mask_11hw)
    mask_N1hw = torch.cat(masks)
    return torch.cat([mask_N1hw, mask_N1hw.flip(-1)]) if plan.training.mirror else mask_N1hw


def _readable(latents: Path, masked: bool) -> bool:
    try:
        return set(load_file(latents)) == {"mean", "std", "original"} | ({"mask"} if masked else set())
    except (SafetensorError, OSError):
        return False


def _pixels(picture_HW3: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] to fp32 [3, H, W] in [−1, 1]."""
    return torch.from_numpy(picture_HW3.copy()).permute(2, 0, 1).float() / 127.5 - 1.0
