"""What pictures are checked for, where the base model is not here; and whose pictures are not shown."""

import shutil
from pathlib import Path

import pytest

from ti_core import checking
from ti_core.checking import Meant, check, meant, times
from ti_core.config import BackboneKind, TrainingConfig
from ti_core.errors import ServiceError
from ti_core.settings import Settings

CONCEPTS = Path(__file__).parents[2] / "examples/concepts"


@pytest.mark.parametrize(("kind", "side"), [("sdxl", 1024), ("sd1", 512)])
def test_for_a_model_that_is_still_to_come_its_kind_says_how_large_pictures_are(
    monkeypatch: pytest.MonkeyPatch, kind: BackboneKind, side: int
) -> None:
    monkeypatch.setattr(checking, "still_to_come", lambda _: (kind, 10**9))
    assert meant("owner/Model_v2@abc", Settings()) == Meant("model-v2", kind, side)


def test_for_one_that_is_here_it_says_so_itself() -> None:
    assert meant("", Settings()) == Meant("miniature", "miniature", 64)


def test_a_concept_of_a_batch_that_is_not_to_be_shown_is_checked_and_not_shown(tmp_path: Path) -> None:
    for name in ("moss", "tin"):
        shutil.copytree(CONCEPTS / name, tmp_path / "batch" / name)
    (tmp_path / "batch/tin/concept.toml").write_text("show_pictures = false\n")
    settings = Settings(home=tmp_path / "home", allowed_roots=(tmp_path,))
    moss, tin = check(str(tmp_path / "batch"), TrainingConfig(), meant("", settings), settings, showing=True)
    assert (moss.shown, tin.shown) == (True, False)
    assert all(one.square for one in moss.given) and len(tin.given) == len(tin.images.pictures) > 0
    assert not any(one.square or one.whole for one in tin.given)


def test_a_silent_store_leaves_the_time_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise ServiceError("The store does not answer.")

    monkeypatch.setattr(checking, "paces", silent)
    assert times(Meant("m", "sd1", 512), Settings()) == [
        "How long a word takes is not known: The store does not answer."
    ]
