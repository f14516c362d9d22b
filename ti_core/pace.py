"""How fast machines train and judge, measured by the runs themselves and kept in the store, so that who has no card can
be told how long a word will take there.

It counts passes of the U-Net (`planning.effort`), which is what presets differ by: minutes of loading, preparing and
publishing come on top. No torch, unless a run has brought it.
"""

import logging
import time
from collections.abc import Callable, Sequence

from ti_core import progress
from ti_core.config import PRESETS, PresetName
from ti_core.errors import IntegrityError, NotFoundError, ServiceError
from ti_core.planning.effort import Effort
from ti_core.progress import duration
from ti_core.records import Pace, Plan, now, pace_key, paces_prefix
from ti_core.settings import Settings
from ti_core.store import Store

log = logging.getLogger(__name__)


class Watch:
    """A listener that adds up how many passes training and judging have made, and in how many seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard = dict[str, float]()
        """When each concept in training was heard of last: what it tells is of the time since then."""
        self._began = 0.0
        self.trained = self.judged = (0.0, 0.0)
        """Passes, and seconds."""

    def __call__(self, event: progress.Event) -> None:
        match event:
            case progress.Trained():
                at = self._clock()
                self._began = self._began if self._heard else at
                since = at - self._heard.get(event.key, at)
                self._heard[event.key] = at
                self.trained = (self.trained[0] + 2 * event.samples_per_second * since, at - self._began)
            case progress.Drawn(passes, seconds):
                self.judged = (self.judged[0] + passes, self.judged[1] + seconds)


def keep_pace(watch: Watch, plans: Sequence[Plan], settings: Settings, store: Store) -> None:
    """Keep how fast the run of these plans was, in place of the last one's of such a machine. Nothing is kept of a run
    that did not both train and judge, or that trained at another resolution than the base model's own. A silent store
    goes without."""
    (trained, training), (judged, judging) = watch.trained, watch.judged
    if not (trained and training and judged and judging):
        return
    if any(plan.training.resolution != plan.base.resolution for plan in plans):
        return
    from ti_core.backbone.resident import place_of_work

    base, (device, dtype) = plans[0].base.slug, place_of_work(settings.device, settings.precision)
    pace = Pace(
        device=device, dtype=dtype, training=trained / training, judging=judged / judging, concepts=len(plans),
        when=now(),
    )  # fmt: skip
    try:
        store.put(pace_key(base, device, dtype), pace.to_bytes())
    except ServiceError as error:
        log.warning("%s It is not kept how fast this machine was.", error)


def paces(base: str, store: Store) -> list[Pace]:
    """How fast machines were on the base model of this slug, the last one first."""
    found = list[Pace]()
    for key in list(store.keys(paces_prefix(base))):
        try:
            found.append(Pace.from_bytes(store.get(key).data, store.url(key)))
        except (NotFoundError, IntegrityError) as error:
            log.warning("%s", error)
    return sorted(found, key=lambda one: one.when, reverse=True)


def seconds(effort: Effort, pace: Pace) -> float:
    """What an effort takes at a pace."""
    return effort.training_passes / pace.training + effort.judging_passes / pace.judging


def in_words(base: str, efforts: dict[PresetName, Effort], measured: Sequence[Pace]) -> list[str]:
    """How long a word takes by each preset, a sentence for each kind of machine; where none was measured, how the
    presets compare."""
    if not measured:
        passes = {name: one.training_passes + one.judging_passes for name, one in efforts.items()}
        shares = " and ".join(
            f"{name} {passes[name] / passes['standard']:.1f} times" for name in PRESETS if name != "standard"
        )
        return [
            f"How long a word takes on {base} is not known: no run with this store was timed yet (`ti train --plan` "
            f"times this machine). The preset standard makes {passes['standard']:,} passes of the U-Net, {shares} as "
            "many."
        ]
    return [
        f"On {pace.device} in {pace.dtype} a word takes "
        + ", ".join(f"{duration(seconds(one, pace))} ({name})" for name, one in efforts.items())
        + f", as measured on {pace.when:%Y-%m-%d}"
        + (f" with {pace.concepts} words together." if pace.concepts > 1 else ".")
        for pace in measured
    ]
