"""`ti check`: what it says of pictures, and that it starts nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.cli import app
from flows.cli.ending import Code
from tests.unit.test_imports import loaded_after


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of which is too small, and one that is none."""
    path = tmp_path / "batch/cat"
    path.mkdir(parents=True)
    for number, side in enumerate((64, 64, 40)):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8))
        coarse.resize((side, side), Image.Resampling.NEAREST).save(path / f"{number}.png")
    (path / "broken.jpg").write_text("words")
    return path


def check(*arguments: str | Path) -> int:
    code: int = app(["check", *map(str, arguments)], standalone_mode=False)
    return code


def test_findings_stand_in_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder) == Code.DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "problem" in said and "broken.jpg" in said and "warning" in said
    assert "3 usable pictures, 2 findings." in said


def test_a_page_shows_pictures_before_and_after(folder: Path, tmp_path: Path) -> None:
    Image.open(folder / "0.png").resize((120, 64)).save(folder / "0.png")
    assert check(folder, "--html", tmp_path / "page.html") == Code.DONE
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img ") == 4  # one of the three is cut
    assert "120 × 64, 28% cut, 25% bands" in page and "broken.jpg is left out" in page


def test_a_batch_is_checked_whole_and_fails_where_a_concept_has_no_picture(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "dog").mkdir()
    (folder.parent / "dog/0.png").write_text("words")
    assert check(folder.parent, "--json") == Code.FAILED
    cat, dog = json.loads(capsys.readouterr().out)
    assert (cat["name"], len(cat["pictures"]), cat["error"]) == ("cat", 3, "")
    assert (dog["name"], dog["pictures"]) == ("dog", []) and "No usable picture" in dog["error"]


def test_nothing_heavy_is_loaded(folder: Path) -> None:
    code = f"sys.argv = ['ti', 'check', {str(folder)!r}]\nfrom flows.cli import main\nmain()"
    assert not loaded_after(code, folder.parent) & {"torch", "prefect", "mlflow", "diffusers"}
