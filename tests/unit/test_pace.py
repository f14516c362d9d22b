"""How fast a run was: what is added up of what it tells, what is kept of it, and how it is said."""

from pathlib import Path

import pytest

from tests.builders import judged
from ti_core.pace import Watch, in_words, keep_pace, paces, seconds
from ti_core.planning.effort import efforts
from ti_core.progress import Drawn, Trained
from ti_core.records import Pace, now, paces_prefix
from ti_core.settings import Settings
from ti_core.store import Store
from ti_core.store.folder import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


def watch() -> Watch:
    """Two concepts trained together, 20 samples a second each, and 800 passes of judging in ten seconds."""
    time = iter([100.0, 101.0, 110.0, 111.0, 121.0])
    made = Watch(lambda: next(time))
    for key in "abab":
        made(Trained(key, key, 10, 20, 0.1, 0.4, 20.0, 10, 40))
    for _ in range(2):
        made(Drawn(400, 5.0))
    return made


def test_passes_are_added_up_from_what_each_concept_tells() -> None:
    heard = watch()
    assert heard.trained == (2 * 20.0 * (10 + 10), 11.0)
    assert heard.judged == (800, 10.0)


def test_the_pace_of_the_last_run_is_kept_for_each_kind_of_machine(store: Store) -> None:
    plan, settings = judged(store).plan, Settings(device="cpu")
    keep_pace(watch(), [plan, plan], settings, store)
    keep_pace(watch(), [plan], settings, store)
    (kept,) = paces("miniature", store)
    assert (kept.device, kept.dtype, kept.concepts) == ("cpu", "float32", 1)
    assert (kept.training, kept.judging) == pytest.approx((800 / 11, 80.0))
    assert seconds(efforts("miniature")["standard"], kept) == pytest.approx(1600 / (800 / 11) + 8160 / 80)
    assert paces("another", store) == []


def test_nothing_is_kept_of_what_says_little(store: Store) -> None:
    plan = judged(store).plan
    keep_pace(Watch(), [plan], Settings(device="cpu"), store)
    other = plan.model_copy(update={"training": plan.training.model_copy(update={"resolution": 32})})
    keep_pace(watch(), [plan, other], Settings(device="cpu"), store)
    assert list(store.keys(paces_prefix("miniature"))) == []


def test_a_damaged_pace_is_passed_over(store: Store) -> None:
    keep_pace(watch(), [judged(store).plan], Settings(device="cpu"), store)
    store.put(f"{paces_prefix('miniature')}torn.json", b"{")
    assert len(paces("miniature", store)) == 1


def test_it_is_said_by_preset_for_each_machine_and_where_nothing_is_known() -> None:
    pace = Pace(device="cuda (NVIDIA A10)", dtype="bfloat16", training=60.0, judging=80.0, concepts=16, when=now())
    (said,) = in_words("sd15", efforts("sd1"), [pace])
    assert said.startswith("On cuda (NVIDIA A10) in bfloat16 a word takes about 5 min (quick), about 11 min (standard)")
    assert said.endswith("with 16 words together.")
    (said,) = in_words("sd15", efforts("sd1"), [])
    assert "is not known" in said and "46,800 passes of the U-Net, quick 0.5 times and careful 2.6 times" in said
