"""What a list of concepts will take: counted, and timed by a short probe on this device. Nothing is written.

Counting needs the plan; memory is counted without the weights; the probe loads the base model and runs a few passes.
Where the base model is not on this machine yet, only what its kind says and the size of the download are known.
"""

import logging
import re
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ti_core.backbone.folder import PARTS, is_whole
from ti_core.backbone.hub import hub_name
from ti_core.backbone.supported import kinds_of
from ti_core.backbone.weights import choose_listed
from ti_core.config import BackboneKind
from ti_core.errors import InputError, PseudowordError
from ti_core.planning.batch import BatchItem
from ti_core.planning.effort import TILE_BYTES, Effort
from ti_core.planning.prompts import templates
from ti_core.planning.protocols import sets_of
from ti_core.records import Plan
from ti_core.settings import Settings, expanded
from ti_core.works import Asked, Work

if TYPE_CHECKING:
    from ti_core.backbone.base import Backbone
    from ti_core.training.slot import Slot

log = logging.getLogger(__name__)

LONGEST = 0.5
"""Seconds that a U-Net call of the probe takes, about, at most: judging's own batch where that is faster."""
PROBED = 0.5
"""Seconds in which a piece of work is repeated and timed."""
SEEN = 1.1
"""Time of judging over that of making pictures: CLIP, strips, scores."""


@dataclass(frozen=True)
class Rates:
    """Measured on this device, one concept at a time; packs are faster."""

    device: str
    dtype: str
    samples_per_second: float
    pictures_per_second: float


@dataclass(frozen=True)
class Memory:
    """Bytes, counted: of the weights, of one sample's training pass, of one picture's U-Net call, and what is free."""

    weights: int
    sample: int
    picture: int
    free: int
    samples: int
    """That fit in one pass of training."""


@dataclass(frozen=True)
class Forecast:
    """What is to be done for the `concepts` that are open; `known` have an outcome already, `failed` cannot be
    planned. Bytes of `disk` are about what it writes."""

    concepts: tuple[str, ...]
    known: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    effort: Effort | None
    base: str
    memory: Memory | None
    rates: Rates | None
    disk: int
    disk_free: int
    download: int
    """Of the base model, before anything begins."""

    @property
    def training_seconds(self) -> float | None:
        """Of all concepts, one after the other."""
        return self.effort.samples / self.rates.samples_per_second if self.effort and self.rates else None

    @property
    def judging_seconds(self) -> float | None:
        """Of all concepts, one after the other."""
        return SEEN * self.effort.pictures / self.rates.pictures_per_second if self.effort and self.rates else None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        times = {"training_seconds": self.training_seconds, "judging_seconds": self.judging_seconds}
        passes = {"training_passes": self.effort.training_passes} if self.effort else {}
        return asdict(self) | times | passes


def still_to_come(name: str) -> tuple[BackboneKind, int] | None:
    """Kind and bytes of a base model that a run would first bring from the hub; None for one that is here, or is no hub
    name. Only asks: nothing is brought.

    Raises InputError for a model that is not supported, and UnreachableError where the hub does not say.
    """
    repository = None if expanded(name).exists() else hub_name(name)
    there = repository and repository.cached(["model_index.json"])
    if repository is None or (there and is_whole(name, there)):
        return None
    pipeline, files = repository.described()
    kinds = kinds_of(pipeline, name)
    wanted = {file for part in PARTS[kinds[0]] for file in _weights_of(part, files)}
    return kinds[0], sum(size for file, size in files.items() if file in wanted or file.endswith((".json", ".txt")))


def _weights_of(part: str, files: Collection[str]) -> list[str]:
    """The files of a repository that a part's weights would be read from."""
    found = choose_listed(part, files)
    if found is None:
        return []
    if not found.sharded:
        return [f"{part}/{found.first}"]
    shards = re.compile(rf"{part}/.*-\d+-of-\d+.*\.safetensors")
    return [file for file in files if shards.fullmatch(file) and ("fp16" in file) == bool(found.variant)]


def forecast_from_afar(
    items: Sequence[BatchItem], asked: Asked, kind: BackboneKind, download: int, settings: Settings
) -> Forecast:
    """Look ahead where the base model is still to come: what its kind says of the numbers is known, no more."""
    efforts, failed = [], []
    for item in items:
        try:
            if item.spec is None:
                raise InputError(item.reason)
            evaluation = asked.evaluation.resolved(kind, asked.preset)
            sets = sets_of(evaluation, kind, item.spec, settings)
            training = item.training(asked.training).resolved(kind, 8, asked.preset)
            efforts.append(Effort.of(training, evaluation, *sets))
        except PseudowordError as error:
            failed.append((item.name, str(error)))
    wrong = {name for name, _ in failed}
    return Forecast(
        concepts=tuple(item.name for item in items if item.name not in wrong), known=(), failed=tuple(failed),
        effort=_sum(efforts), base=asked.base_model or settings.base_model, memory=None, rates=None, disk=0,
        disk_free=_free_of_disk(settings.home), download=download,
    )  # fmt: skip


def forecast(works: Sequence[Work], settings: Settings) -> Forecast:
    """Look ahead at planned works (`stations.plan`), all on one base model."""
    still = [one for one in works if one.open]
    plans = [one.planned for one in still]
    memory = rates = None
    if plans:
        memory, rates = _memory(plans[0], settings), _rates(plans[0], settings)
    return Forecast(
        concepts=tuple(one.name for one in still),
        known=tuple(one.name for one in works if one.known),
        failed=tuple((one.name, str(one.error)) for one in works if one.error),
        effort=_sum([_effort(plan) for plan in plans]),
        base=plans[0].base.name if plans else "",
        memory=memory,
        rates=rates,
        disk=sum(map(_disk, plans)),
        disk_free=_free_of_disk(settings.home),
        download=0,
    )


def _effort(plan: Plan) -> Effort:
    protocol = plan.protocol
    return Effort.of(plan.training, plan.evaluation, protocol.select, protocol.report, plan.concept.imported)


def _sum(efforts: Sequence[Effort]) -> Effort | None:
    if not efforts:
        return None
    return Effort(*map(sum, zip(*(asdict(one).values() for one in efforts), strict=True)))


def _disk(plan: Plan) -> int:
    """Bytes that a run writes, about: squares of 3 bytes a pixel, latents, strips of uncompressed tiles, and as much
    again for the page. Files that the store keeps on request are not in it."""
    pictures, side = len(plan.images.pictures), plan.training.resolution
    squares = pictures * 3 * side**2
    # Mean and deviation of each picture and its mirror image, at most 6 channels in fp32 at a quarter of the side.
    latents = 2 * 2 * pictures * 6 * 4 * (side // 4) ** 2
    prompts = len(plan.protocol.select.plain) + len(plan.protocol.select.edit)
    strips = (_effort(plan).checkpoints + 4) * prompts * TILE_BYTES
    return squares + latents + 2 * strips


def _free_of_disk(folder: Path) -> int:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free


def _memory(plan: Plan, settings: Settings) -> Memory:
    """Counted for the card that is here, of which as much as is free now may be used."""
    import torch

    from ti_core.backbone import footprint
    from ti_core.backbone.base import TYPES, number_type
    from ti_core.backbone.resident import choose_device, load
    from ti_core.training.memory import free_bytes

    device = choose_device(settings.device)
    dtype = number_type(device, settings.precision)
    precision = next(name for name, one in TYPES.items() if one == dtype)
    model = load(plan.base, torch.device("meta"), precision=precision)
    held = footprint.weights(model).all
    sample = int(footprint.SLACK * footprint.training_bytes(model, plan.training.resolution))
    picture = int(footprint.SLACK * footprint.sampling_bytes(model, plan.protocol.resolution))
    free = free_bytes(device)
    return Memory(held, sample, picture, free, max(0, int(free - held) // sample))


def _rates(plan: Plan, settings: Settings) -> Rates | None:
    """Time a step of training and a U-Net call of judging, each after a first one that warms up. None where they cannot
    be run here; the run itself will say why."""
    from ti_core.backbone.resident import place_of_work, resident

    try:
        with resident(plan.base, settings.device, precision=settings.precision) as model:
            trained, judged = _samples_per_second(plan, model), _pictures_per_second(plan, model)
    except (PseudowordError, RuntimeError) as error:
        log.warning("The probe did not run (%s): no time is estimated.", str(error).splitlines()[0])
        return None
    return Rates(*place_of_work(settings.device, settings.precision), trained, judged)


def _samples_per_second(plan: Plan, model: "Backbone") -> float:
    import torch

    from ti_core.backbone.room import naming_spent_memory
    from ti_core.training.events import ConceptJob
    from ti_core.training.slot import Slot

    grey = torch.zeros((1, *model.latent_shape(plan.training.resolution)))
    job = ConceptJob(
        "probe", plan.concept.name, plan.concept.placeholder, plan.concept.start_phrase, plan.concept.vectors,
        templates(plan.concept.kind), plan.training, grey, grey + 1,
    )  # fmt: skip
    model.residence.rest(["vae"])
    at_once, recomputed = plan.training.batch_size, False
    try:
        while True:  # smaller passes where these do not fit, as in training
            try:
                with naming_spent_memory():
                    return _rate_of_passes(Slot(job, model, at_once), model)
            except torch.OutOfMemoryError:
                if recomputed:
                    raise
            if at_once > 1:
                at_once //= 2
            else:
                recomputed = True
                model.recompute(True)
            torch.cuda.empty_cache()
    finally:
        model.recompute(False)


def _rate_of_passes(slot: "Slot", model: "Backbone") -> float:
    from ti_core.training.pack import run_pass

    def one_pass() -> None:
        run_pass([slot], model, 0)
        next(iter(slot.rows.values())).cpu()  # waits for the device

    return slot.samples / _seconds(one_pass)


def _pictures_per_second(plan: Plan, model: "Backbone") -> float:
    import torch

    from ti_core.backbone.room import naming_spent_memory
    from ti_core.sampling.sampler import Sampling
    from ti_core.sampling.words import encode

    how = Sampling.of(plan.protocol)
    word = plan.concept.class_word

    def seconds(count: int) -> float:
        told = encode(model, [prompt.format(word) for prompt in plan.protocol.select.plain[:1] * (2 * count)], {})
        noise = torch.zeros((2 * count, *model.latent_shape(how.resolution)), device=model.device)
        when = torch.zeros(2 * count, dtype=torch.long, device=model.device)
        model.residence.rest(model.encoders)
        with torch.no_grad(), naming_spent_memory():
            step = _seconds(lambda: model.denoise(noise, when, told).cpu())
            return how.steps * step + _seconds(lambda: model.decode(noise[:count]))

    alone = seconds(1)
    count = min(how.at_once, max(1, int(LONGEST * how.steps / alone)))
    return count / seconds(count) if count > 1 else 1 / alone


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of a few times after the first, within half a second: what else the machine does is not counted."""
    work()
    times, began = list[float](), time.perf_counter()
    while not times or time.perf_counter() - began < PROBED:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
