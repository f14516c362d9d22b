"""`ti check`: what it says of pictures, and that it starts nothing."""

import json
import shutil
import socket
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from flows.cli import app
from flows.cli.ending import Code, ended
from tests.unit.test_imports import loaded_after
from ti_core.errors import InputError
from ti_core.images.preprocess import Prepared, prepare

CONCEPTS = Path(__file__).parents[2] / "examples/concepts"


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
    assert "120 × 64, 28% cut, 26% bands" in page and "broken.jpg is left out" in page


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


def test_a_batch_tells_of_a_store_that_is_away_and_checks_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PSEUDOWORD_PRIVATE_ADDRESSES", "true")
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/a.zip"
    table = folder.parent / "list.csv"
    table.write_text(f"name,pictures\ncat,cat\ndog,{address}\n")
    assert check(table, "--json") == Code.FAILED
    cat, dog = json.loads(capsys.readouterr().out)
    assert len(cat["pictures"]) == 3 and "cannot be had" in dog["error"]
    assert ended(lambda: check(address), as_json=False) == Code.FAILED
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and "cannot be had" in said and said.count("\n") == 1


def test_a_concept_is_checked_as_it_would_be_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether mirrored pictures are trained on anyway is said by the concept, else by the command."""
    dog = folder.parent / "dog"
    shutil.copytree(folder, dog)
    for place in (folder, dog):
        ImageOps.mirror(Image.open(folder / "0.png")).save(place / "9.png")
    (dog / "concept.toml").write_text("mirror = true\n")
    (folder / "concept.toml").write_text("mirror = false\n")
    assert check(folder.parent, "--json") == Code.DONE
    texts = [
        next(one["text"] for one in concept["findings"] if one["kind"] == "twins")
        for concept in json.loads(capsys.readouterr().out)
    ]
    assert ["trained on anyway" in text for text in texts] == [False, True]
    for option, anyway in (("--mirror", True), ("--no-mirror", False)):
        assert check(dog, option) == Code.DONE
        assert ("trained on anyway" in " ".join(capsys.readouterr().out.split())) == anyway


def test_the_pictures_of_one_concept_are_held_at_a_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        shutil.copytree(folder, folder.parent / f"more-{number}")
    alive = set[int]()
    most = list[int]()

    def counted(*arguments: object) -> Prepared:
        made = prepare(*arguments)
        alive.add(id(made))
        weakref.finalize(made, alive.discard, id(made))
        most.append(len(alive))
        return made

    monkeypatch.setattr("ti_core.images.ingest.prepare", counted)
    assert check(folder.parent, "--html", tmp_path / "page.html") == Code.DONE
    assert max(most) <= 2 * 3 and (tmp_path / "page.html").read_text().count("<img ") == 7 * 3
    most.clear()
    assert check(folder.parent) == Code.DONE
    assert max(most) <= 5  # only those that are being read


def test_of_a_page_that_does_not_come_to_its_end_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    with pytest.raises(InputError, match="There is no"):
        check(folder / "nowhere", "--html", tmp_path / "pages/page.html")
    assert list((tmp_path / "pages").iterdir()) == []
    with pytest.raises(InputError, match="cannot be written"):
        check(folder, "--html", tmp_path / "nowhere/page.html")


def test_the_judge_names_the_picture_that_is_unlike_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(CONCEPTS / "goldie", tmp_path / "goldie")
    shutil.copy(sorted((CONCEPTS / "daisy").glob("*.png"))[0], tmp_path / "goldie/daisy.png")
    for folder, odd in ((tmp_path / "goldie", ["daisy.png"]), (CONCEPTS / "goldie", [])):
        assert check(folder, "--json", "--judge") == Code.DONE
        (said,) = json.loads(capsys.readouterr().out)
        assert [one["file"] for one in said["findings"] if one["kind"] == "unlike"] == odd
