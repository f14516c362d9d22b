"""Training: from plans and prepared pictures to checkpoints in the store, many concepts at a time.

It encodes latents once (cached by key), feeds the trainer, keeps its checkpoints as blobs and the states that
resume it under each run's prefix. It knows the store; it knows neither judging nor the registry.
"""

import contextlib
import io
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from ti_core import keys, progress
from ti_core.backbone.base import Backbone
from ti_core.backbone.resident import place_of_work, resident
from ti_core.config import Packing
from ti_core.errors import InputError, IntegrityError, NotFoundError, ServiceError
from ti_core.planning.prompts import templates
from ti_core.records import Checkpoint, Plan, PreparedSet, Trained, run_prefix
from ti_core.settings import Settings
from ti_core.store import Store, get_blob
from ti_core.training.events import CheckpointReady, ConceptJob, Failed, Finished, Paused, Progress
from ti_core.training.keeping import Keeper
from ti_core.training.longer import of_shorter_run
from ti_core.training.memory import fitting_slots
from ti_core.training.state import StateFiles, TrainingState
from ti_core.training.stopping import Pause, noting_signals
from ti_core.training.trainer import train

log = logging.getLogger(__name__)


def prepare(plan: Plan, settings: Settings, store: Store) -> PreparedSet:
    """Encode the latents of the plan's squares, which are blobs of the store, into the worker's cache.

    Raises InputError when a mask shows nothing of its picture.
    """
    training, resolution = plan.training, plan.training.resolution
    pictures = [_blob_pixels(store, picture.square) for picture in plan.images.pictures]
    key = keys.digest(
        {
            "pictures": [picture.sha256 for picture in plan.images.pictures],
            "preprocessing": keys.preprocess_key(resolution, training.crop, plan.images),
            "base": plan.base.digest,
            "mirror": training.mirror,
            "masks": [picture.mask for picture in plan.images.pictures] if training.masked else None,
        }
    )
    path = settings.home.absolute() / "cache" / "latents" / f"{key}.safetensors"
    if not _readable(path, training.masked):
        pixels_N3HW = torch.stack([_pixels(picture) for picture in pictures])
        if training.mirror:
            pixels_N3HW = torch.cat([pixels_N3HW, pixels_N3HW.flip(-1)])
        with resident(plan.base, settings.device, precision=settings.precision) as model:
            model.residence.rest(["unet", *model.encoders])
            # One at a time: memory stays that of one picture, and a picture's latent does not depend on its company.
            encoded = [model.encode_pictures(one.unsqueeze(0)) for one in pixels_N3HW]
        mean, std = (torch.cat(parts).cpu() for parts in zip(*encoded, strict=True))
        sides_N = torch.tensor([picture.crop[2] - picture.crop[0] for picture in plan.images.pictures])
        sides_N = sides_N.repeat(len(mean) // len(sides_N))
        tensors = {"mean": mean, "std": std, "original": sides_N.float().unsqueeze(1).expand(-1, 2).contiguous()}
        if training.masked:
            tensors["mask"] = _masks(plan, store, (mean.shape[2], mean.shape[3]))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Processes may share this folder and not their process numbers (two containers), so the name is drawn.
        partial = path.with_suffix(f".{secrets.token_hex(8)}.partial")
        try:
            save_file(tensors, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return PreparedSet(
        key=key,
        resolution=resolution,
        squares=tuple(picture.square for picture in plan.images.pictures),
        latents=str(path),
    )


def run_key(plan: Plan) -> str:
    """What tells a training from every other: the place of its states. Two concepts may have one name (with other
    pictures or settings), and two names one train_key (with the same pictures)."""
    return run_prefix(plan.concept.name, plan.base.slug, plan.train_key)


def run_training(
    work: Sequence[tuple[Plan, PreparedSet]],
    packing: Packing,
    settings: Settings,
    store: Store,
    on_progress: Callable[[progress.Trained], None],
    say: Callable[[str], None],
) -> list[Trained]:
    """Train the concepts of `work`, all on one base model, in one pack; tell how far each one came, in the same order.
    What is there twice (by `run_key`) is trained once.

    Checkpoints are blobs in the store. Training goes on from the last stored state of the same train_key. SIGTERM and
    SIGINT end it at a step's boundary with every state written, and are then raised again for whoever handled them
    before. `say` is told in a sentence how the work is packed. What one concept lacks (latents, memory, a place in the
    store for what it learned) is its own reason and stops no other.

    Raises ServiceError when the stored states cannot be read.
    """
    concepts = dict[str, _Concept]()
    pause = Pause(60 * packing.minutes)
    place = place_of_work(settings.device, settings.precision)
    with (
        resident(work[0][0].base, settings.device, precision=settings.precision) as model,
        ThreadPoolExecutor(1, "states") as thread,
        noting_signals(pause),
    ):
        model.residence.rest(["vae"])
        for plan, prepared in work:
            if run_key(plan) not in concepts:
                concepts[run_key(plan)] = _begun(plan, prepared, store, thread, place)
        still = [one for one in concepts.values() if not one.ended]
        slots = _slots(still, packing, model, say)
        with _compiled(model) if packing.compile else contextlib.nullcontext():
            for event in train(_jobs(still, store), model, slots, keep_shape=packing.keep_shape, should_stop=pause):
                one = concepts[event.key]
                match event:
                    case Progress():
                        one.step = event.step
                        if event.state:
                            one.keeper.offer(event.state)
                        on_progress(_standing(event, concepts))
                    case CheckpointReady():
                        one.keeper.checkpoint(event)
                    case Failed():
                        one.reason = f"Training stopped: {event.reason}"
                    case Paused():
                        one.step = event.state.step
                        one.keeper.keep(event.state)
                    case Finished():
                        one.ended = True
        made = {key: _trained(one, pause.why) for key, one in concepts.items()}
    return [made[run_key(plan)] for plan, _ in work]


@dataclass
class _Concept:
    """How far one concept has come: whether there is nothing left to train, or why it left."""

    plan: Plan
    prepared: PreparedSet
    keeper: Keeper
    resume: TrainingState | None
    step: int
    ended: bool
    reason: str = ""


def _begun(
    plan: Plan, prepared: PreparedSet, store: Store, thread: ThreadPoolExecutor, place: tuple[str, str]
) -> _Concept:
    name, files = plan.concept.name, StateFiles(store, run_key(plan), plan.train_key)
    state, checkpoints = files.newest()
    if state is None:
        state, checkpoints = of_shorter_run(store, plan)
    if state:
        log.info("Training of %s goes on from step %d.", name, state.step)
    keeper = Keeper(name, store, files, checkpoints, thread, place)
    return _Concept(plan, prepared, keeper, state, state.step if state else 0, bool(state and state.finished))


def _jobs(concepts: Sequence[_Concept], store: Store) -> Iterator[ConceptJob]:
    """What the trainer is given, one after the other as it asks; who has no latents to train from, or no vectors to
    start from, is left out."""
    for one in concepts:
        given = one.plan.given
        try:
            start = load(get_blob(store, given.vectors)) if given else None
            job = concept_job(one.plan, one.prepared, one.resume, start)
        except (InputError, IntegrityError, NotFoundError) as error:
            one.reason = str(error)
            continue
        yield job


def _standing(event: Progress, concepts: Mapping[str, _Concept]) -> progress.Trained:
    steps = [one.plan.training.steps for one in concepts.values()]
    over = [one.ended or bool(one.reason) for one in concepts.values()]
    done = sum(whole if ended else one.step for whole, ended, one in zip(steps, over, concepts.values(), strict=True))
    return progress.Trained(
        event.key, concepts[event.key].plan.concept.name, event.step, event.steps, event.loss, event.norm,
        event.samples_per_second, done, sum(steps),
    )  # fmt: skip


def _trained(one: _Concept, why: str) -> Trained:
    """How far a concept came, once all of it is in the store; `why` is said of a pause."""
    name, steps, unkept = one.plan.concept.name, one.plan.training.steps, False
    checkpoints: tuple[Checkpoint, ...] = ()
    paused = not one.ended and not one.reason
    try:
        checkpoints = one.keeper.finish()
    except ServiceError as error:
        one.reason, unkept, paused = one.reason or str(error), True, False
    if paused:
        one.reason = (
            f"Training of {name} paused at step {one.step} of {steps}: {why}, "
            "and the same work goes on from there when it is asked for again."
        )
    return Trained(
        concept=name, step=one.step, checkpoints=checkpoints, reason=one.reason, paused=paused, unkept=unkept
    )


def _slots(concepts: Sequence[_Concept], packing: Packing, model: Backbone, say: Callable[[str], None]) -> int:
    if not concepts:
        return 0
    if packing.slots:
        return min(packing.slots, len(concepts)) if not packing.keep_shape else packing.slots
    if len(concepts) == 1:
        return 1
    fitting = 1
    for one in concepts:  # one that cannot be trained says nothing of the others
        try:
            fitting = fitting_slots(concept_job(one.plan, one.prepared, None), model)
            break
        except InputError:
            continue
    slots = min(fitting, len(concepts))
    say(f"training {slots} of {len(concepts)} concepts at a time (memory holds {fitting})")
    return slots


def checkpoint_of_import(plan: Plan) -> Checkpoint:
    """The one checkpoint of a word that is imported, at the step that its file tells, else at step 1: step 0 is the
    class word."""
    assert plan.given is not None  # noqa: S101  # for the type checker
    return Checkpoint(step=plan.given.step or 1, vectors=plan.given.vectors, norm=plan.given.norm, loss=0.0)


def concept_job(
    plan: Plan, prepared: PreparedSet, resume: TrainingState | None, start: dict[str, Tensor] | None = None
) -> ConceptJob:
    """What the trainer is given of a planned and prepared concept. Raises InputError when its latents cannot be
    read."""
    try:
        latents = load_file(prepared.latents)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"The latents of {plan.concept.name} in {prepared.latents} cannot be read ({error}): "
            "run it again, and they are encoded anew."
        ) from None
    return ConceptJob(
        key=run_key(plan),
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
        start=start,
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


def _masks(plan: Plan, store: Store, size: tuple[int, int]) -> Tensor:
    """[N, 1, h, w] in [0, 1], mirrored ones last: the part of each latent's place that shows."""
    masks = []
    for picture in plan.images.pictures:
        if picture.shown:
            shown_HW = torch.from_numpy(_blob_pixels(store, picture.shown).copy()).float() / 255
        else:
            shown_HW = torch.ones(plan.training.resolution, plan.training.resolution)
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


def _blob_pixels(store: Store, sha256: str) -> np.ndarray:
    """uint8 pixels of a picture in the store, [H, W, 3] or [H, W]."""
    with Image.open(io.BytesIO(get_blob(store, sha256))) as image:
        return np.asarray(image)


def _pixels(picture_HW3: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] to fp32 [3, H, W] in [−1, 1]."""
    return torch.from_numpy(picture_HW3.copy()).permute(2, 0, 1).float() / 127.5 - 1.0
