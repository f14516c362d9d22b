"""Bringing pictures to the workers' place: what is sent, what is not sent again, what is not mixed."""

import json
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest

from flows.forms import parameters
from ti_core.errors import InputError
from ti_core.planning.batch import BatchItem
from ti_core.settings import Settings
from ti_core.store import open_store
from ti_core.uploading import bring, described


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", store=str(tmp_path / "home/store"), allowed_roots=(tmp_path / "mine",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a mask, a text that is not sent, and a concept.toml."""
    path = tmp_path / "mine/cat"
    path.mkdir(parents=True)
    for name in ("1.png", "2.png", "1-masklabel.png"):
        (path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + name.encode())
    (path / "notes.txt").write_text("none of it")
    (path / "concept.toml").write_text('class_word = "cat"\nsteps = 40\ntags = "a, \\"b\\""\n')
    return path


def item(folder: Path, settings: Settings, **said: object) -> BatchItem:
    return described(str(folder), "cat", said, settings)


def test_pictures_masks_and_what_is_said_lie_where_workers_may_read(folder: Path, settings: Settings) -> None:
    brought = bring(item(folder, settings, kind="style", tags='c "d" é'), settings)
    place = Path(settings.pictures_uri) / "cat"
    assert {one.name for one in place.iterdir()} == {"1.png", "2.png", "1-masklabel.png", "concept.toml"}
    assert tomllib.loads((place / "concept.toml").read_text()) == {
        "class_word": "cat", "kind": "style", "tags": 'c "d" é', "steps": 40,
    }  # fmt: skip
    assert (brought.sent, brought.known) == (4, 0)
    assert brought.item.spec and brought.item.spec.pictures == str(place) and brought.item.own.steps == 40
    assert settings.allowed(place) == place, "without being named as allowed"


def test_the_base_model_of_a_concept_goes_with_it(folder: Path, settings: Settings) -> None:
    with (folder / "concept.toml").open("a") as file:
        file.write('base_model = "own/sdxl"\n')
    brought = bring(item(folder, settings), settings)
    assert brought.item.base_model == "own/sdxl"
    assert parameters(brought.item, "standard")["base_model"] == "own/sdxl"


def test_pictures_are_not_brought_to_a_web_server(folder: Path, settings: Settings) -> None:
    web = Settings(home=settings.home, store="https://words.example", allowed_roots=settings.allowed_roots)
    with pytest.raises(InputError, match=r"words.example/pictures can only be read: name where pictures go in PSEUDO"):
        bring(item(folder, web), web)


def test_known_bytes_are_not_sent_again(folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(item(folder, settings), settings)
    (folder / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n3")
    store = type(open_store(settings))
    put, sent = store.put, list[str]()
    monkeypatch.setattr(store, "put", lambda self, key, data: sent.append(key) or put(self, key, data))
    brought = bring(item(folder, settings), settings)
    assert sent == ["cat/3.png"] and (brought.sent, brought.known) == (1, 4)


def test_what_others_put_there_is_not_mixed_with_it(folder: Path, settings: Settings, tmp_path: Path) -> None:
    bring(item(folder, settings), settings)
    other = tmp_path / "mine/other"
    shutil.copytree(folder, other)
    (other / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nanother")
    (other / "2.png").rename(other / "9.png")
    with pytest.raises(InputError, match=r"cat holds other files \(1.png, 2.png\): take another --name"):
        bring(item(other, settings), settings)
    brought = bring(item(other, settings), settings, replace=True)
    there = Path(settings.pictures_uri) / "cat"
    assert {one.name for one in there.iterdir()} == {"1.png", "9.png", "1-masklabel.png", "concept.toml"}
    assert (there / "1.png").read_bytes().endswith(b"another") and (brought.sent, brought.known) == (2, 2)


def test_an_archive_is_brought_as_files(folder: Path, settings: Settings, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine/cat.zip", "w") as archive:
        for name in ("1.png", "2.png"):
            archive.write(folder / name, name)
    brought = bring(item(tmp_path / "mine/cat.zip", settings, class_word="cat"), settings)
    assert brought.sent == 3 and json.dumps("cat") in (Path(settings.pictures_uri) / "cat/concept.toml").read_text()


def test_what_is_said_reads_as_it_was_whatever_is_in_it(folder: Path, settings: Settings) -> None:
    author = 'a"\\\x7f\x1b[31m\n\x85é😀'
    brought = bring(item(folder, settings, author=author), settings)
    assert brought.item.spec and brought.item.spec.author == author


def test_it_is_brought_whole_without_what_training_leaves_out(folder: Path, settings: Settings) -> None:
    (folder / "3.png").symlink_to("/etc/hostname")
    (folder / "4.png").symlink_to("nowhere")
    (folder / "5\n.png").write_bytes(b"\x89PNG\r\n\x1a\n5")
    place = Path(settings.pictures_uri) / "cat"
    with pytest.raises(InputError, match="cannot name an object in a store"):
        bring(item(folder, settings), settings)
    assert not place.exists()
    (folder / "5\n.png").rename(folder / "5.png")
    assert bring(item(folder, settings), settings).sent == 5
    assert {one.name for one in place.glob("*.png")} == {"1.png", "2.png", "5.png", "1-masklabel.png"}
    assert bring(item(folder, settings), settings).sent == 0
    (folder / "5.png").unlink()
    (folder / "5.png").symlink_to("nowhere")
    bring(item(folder, settings), settings, replace=True)
    assert not (place / "5.png").exists()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"class_word": ""}, "Say what kind of thing it is"),
        ({"class_word": "\udcff"}, "class_word: Input should be a valid string"),
        ({"initializer": "word.safetensors"}, "is a file of this machine"),
        ({"vectors": 99}, "vectors: "),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_sent(
    folder: Path, settings: Settings, said: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        item(folder, settings, **said)
    with pytest.raises(InputError, match="can be read by the workers as it is"):
        described("https://example.org/cat.zip", "cat", {}, settings)
    with pytest.raises(InputError, match="There is no "):
        described(str(folder / "missing"), "cat", {}, settings)
