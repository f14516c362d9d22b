"""What is to be said of pictures before they are trained on, be it of one concept or of each one of a batch, and how
long a word will take. Nothing is trained or kept, and no model loaded unless the judge is asked for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ti_core.backbone.folder import find_base, find_judge
from ti_core.config import BackboneKind, TrainingConfig, base_slug
from ti_core.errors import InputError, PseudowordError, ServiceError
from ti_core.forecast import still_to_come
from ti_core.images.ingest import ingest, look
from ti_core.pace import in_words, paces
from ti_core.planning.batch import is_batch, read_batch
from ti_core.planning.effort import efforts
from ti_core.planning.plan import wanted_of
from ti_core.records import ImageSet
from ti_core.settings import Settings
from ti_core.store import open_store

if TYPE_CHECKING:
    from ti_core.reporting.checking import Checked

FAR = {"sdxl": 1024}
"""Side of the pictures of a base model that is not on this machine; 512 of the kinds that are not named."""


@dataclass(frozen=True)
class Meant:
    """The base model that pictures are meant for, as far as checking asks."""

    slug: str
    kind: BackboneKind
    resolution: int


def meant(base_model: str, settings: Settings) -> Meant:
    """The base model of this name; "" takes the settings' own. Nothing is brought from the hub for it.

    Raises InputError where there is none, or where it lies outside the allowed folders.
    """
    settings.check_place(base_model, settings.base_model)
    name = base_model or settings.base_model
    to_come = still_to_come(name)
    if to_come:
        kind, _ = to_come
        return Meant(base_slug(name), kind, FAR.get(kind, 512))
    base = find_base(name)
    return Meant(base.slug, base.kind, base.resolution)


def check(
    source: str, training: TrainingConfig, base: Meant, settings: Settings, *, showing: bool, judge: bool = False
) -> Iterator["Checked"]:
    """What is found at a source that holds one concept, or at each one of a batch, as it would be trained; with its
    pictures where they are to be shown. `judge` also asks the kind's judge which picture is unlike the others.

    Raises what `ingest` raises where there is one concept, and `read_batch` for a batch.
    """
    found = _looked_at(source, training, base, settings, showing or judge)
    return _judged(found, base, settings) if judge else found


def times(base: Meant, settings: Settings) -> list[str]:
    """How long a word takes on a base model by each preset, in sentences."""
    try:
        return in_words(base.slug, efforts(base.kind), paces(base.slug, open_store(settings)))
    except (ServiceError, InputError) as error:  # the latter of a store that gives no listing
        return [f"How long a word takes is not known: {error}"]


def _looked_at(
    source: str, training: TrainingConfig, base: Meant, settings: Settings, showing: bool
) -> Iterator["Checked"]:
    from ti_core.reporting.checking import Checked

    def of(name: str, pictures: str, training: TrainingConfig, shown: bool = True) -> Checked:
        wanted = wanted_of(training.resolved(base.kind, base.resolution))
        images, made = look(pictures, wanted, settings) if showing else (ingest(pictures, wanted, settings), {})
        return Checked(name, images, made, shown=shown)

    if not is_batch(source, settings):
        yield of(source, source, training)
        return
    for item in read_batch(source, "object", settings):
        try:
            if item.spec is None:
                raise InputError(item.reason)
            yield of(item.name, item.spec.pictures, item.training(training), item.spec.show_pictures)
        except PseudowordError as error:
            yield Checked(item.name, ImageSet(pictures=()), {}, str(error))


def _judged(found: Iterable["Checked"], base: Meant, settings: Settings) -> Iterator["Checked"]:
    from ti_core.backbone.resident import choose_device
    from ti_core.judging.clip import Clip
    from ti_core.judging.unlike import unlike

    clip = Clip(find_judge(settings.clip, base.kind), choose_device(settings.device))
    for one in found:
        squares = [one.made[picture.sha256].square for picture in one.images.pictures]
        odd = unlike(clip.image_features(squares), one.images) if squares else ()
        yield replace(one, images=one.images.with_findings(odd))
