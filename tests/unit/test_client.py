"""Fetching published words from a folder store, as an inference service does."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.builders import done, judged
from ti_core import client, formats
from ti_core.errors import InputError, IntegrityError, NotFoundError
from ti_core.publishing.transaction import publish
from ti_core.records import Champion, Manifest, blob_key, champion_key
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "data")


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


def published(store: Store, **choices: Any) -> Manifest:
    manifest = judged(store, **choices)
    assert done(store, manifest).champion
    return manifest


def change(store: Store, concept: str, **update: object) -> None:
    key = champion_key(concept, "miniature")
    champion = Champion.from_bytes(store.get(key).data, key)
    store.put(key, champion.model_copy(update=update).to_bytes())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_word_is_fetched_and_is_the_chosen_vectors(store: Store, settings: Settings, tmp_path: Path) -> None:
    manifest = published(store)
    path = client.get("cat-toy", out=tmp_path / "new" / "words", settings=settings)
    assert path == tmp_path / "new" / "words" / "cat-toy.diffusers.safetensors"
    stored = formats.read_checkpoint(get_blob(store, manifest.checkpoints[0].vectors), "a checkpoint")
    assert (load_file(path)["<cat-toy>"] == stored["clip_l"]).all()
    assert files(tmp_path / "new" / "words") == ["cat-toy.diffusers.safetensors"]


def test_the_settings_base_model_is_obeyed_where_one_is_set(store: Store, settings: Settings) -> None:
    published(store, base="sd15")
    assert client.champion("cat-toy", settings=settings).base == "sd15"  # the only one there is
    other = settings.model_copy(update={"base_model": "my/sdxl"})
    with pytest.raises(NotFoundError, match=r"No word cat-toy for sdxl .* It is published for sd15"):
        client.champion("cat-toy", settings=other)
    assert client.champion("cat-toy", "models/sd15.safetensors", other).base == "sd15"


def test_other_layout_and_the_default_folder(store: Store, settings: Settings) -> None:
    published(store)
    path = client.get("cat-toy", layout="a1111", settings=settings)
    assert path == settings.home / "words" / "cat-toy.safetensors"
    assert list(load_file(path)) == ["emb_params"]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, store: Store, settings: Settings) -> None:
    published(store)
    monkeypatch.setenv("PSEUDOWORD_HOME", str(settings.home))
    assert client.get("cat-toy").is_file()


def test_old_file_is_replaced_by_the_new_champion(store: Store, settings: Settings, tmp_path: Path) -> None:
    published(store)
    before = client.get("cat-toy", out=tmp_path / "out", settings=settings).read_bytes()
    published(store, seed=1, score=0.7)
    path = client.get("cat-toy", out=str(tmp_path / "out"), settings=settings)
    assert path.read_bytes() != before
    assert files(tmp_path / "out") == [path.name]


def test_tampered_blob_is_refused_and_the_old_file_stays(store: Store, settings: Settings, tmp_path: Path) -> None:
    manifest = published(store)
    out = tmp_path / "out"
    path = client.get("cat-toy", out=out, settings=settings)
    before = path.read_bytes()
    sha256 = next(file.sha256 for file in manifest.files if file.layout == "diffusers")
    store.put(blob_key(sha256), before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=sha256):
        client.get("cat-toy", out=out, settings=settings)
    assert path.read_bytes() == before
    with pytest.raises(IntegrityError):
        client.get("cat-toy", out=tmp_path / "fresh", settings=settings)
    assert files(tmp_path / "fresh") == []


def test_full_disk_leaves_the_old_file_whole(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(store)
    path = client.get("cat-toy", out=tmp_path / "out", settings=settings)
    before = path.read_bytes()
    published(store, seed=1, score=0.7)

    def write_half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(InputError, match="No space left"):
        client.get("cat-toy", out=tmp_path / "out", settings=settings)
    assert path.read_bytes() == before
    assert files(tmp_path / "out") == [path.name]


def test_file_name_that_leaves_the_folder_is_refused(store: Store, settings: Settings, tmp_path: Path) -> None:
    manifest = published(store)
    for name in ("../evil.safetensors", "/evil", "a/b", "..", ""):
        bad = manifest.files[0].model_copy(update={"filename": name})
        change(store, "cat-toy", files=(bad,))
        with pytest.raises(IntegrityError, match="no name"):
            client.get("cat-toy", out=tmp_path / "out", settings=settings)
    assert files(tmp_path / "out") == []


def test_newer_and_damaged_pointers_are_refused(store: Store, settings: Settings) -> None:
    published(store)
    change(store, "cat-toy", schema_version=2)
    with pytest.raises(IntegrityError, match=r"schema version 2.*upgrade Pseudoword"):
        client.get("cat-toy", settings=settings)
    store.put(champion_key("cat-toy", "miniature"), b"{")
    with pytest.raises(IntegrityError, match="damaged"):
        client.get("cat-toy", settings=settings)
    assert files(settings.home / "words") == []


def test_missing_word_names_those_like_it(store: Store, settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="holds no words"):
        client.get("cat-toi", settings=settings)
    published(store)
    published(store, name="dog")
    with pytest.raises(NotFoundError, match=r"Did you mean cat-toy\?"):
        client.get("cat-toi", settings=settings)
    with pytest.raises(NotFoundError, match="There are: cat-toy, dog"):
        client.get("zebra", settings=settings)
    with pytest.raises(InputError, match="cannot name a concept"):
        client.get("../cat-toy", settings=settings)


def test_base_model_is_found_or_asked_for(store: Store, settings: Settings) -> None:
    published(store, base="sd-b")
    assert client.champion("cat-toy", settings=settings).base == "sd-b"  # the only one
    published(store, base="sd-a")
    with pytest.raises(NotFoundError, match="published for sd-a, sd-b"):
        client.champion("cat-toy", settings=settings)
    with pytest.raises(NotFoundError, match=r"for sd-c is published.*published for sd-a, sd-b"):
        client.get("cat-toy", base="sd-c", settings=settings)
    own = settings.model_copy(update={"base_model": "somebody/SD_B"})
    assert client.champion("cat-toy", settings=own).base == "sd-b"
    assert client.champion("cat-toy", base="somebody/SD_A", settings=own).base == "sd-a"


def test_layout_that_was_not_published(store: Store, settings: Settings) -> None:
    manifest = published(store)
    change(store, "cat-toy", files=tuple(file for file in manifest.files if file.layout == "a1111"))
    with pytest.raises(NotFoundError, match="choose one of a1111"):
        client.get("cat-toy", settings=settings)


def test_published_words_are_listed(store: Store, settings: Settings) -> None:
    assert client.concepts(store) == []
    published(store, name="dog")
    published(store, name="cat", base="sd-a")
    published(store, name="cat", base="sd-b")
    assert publish(store, judged(store, name="poor", accepted=False), "run", {}).status == "rejected"
    assert client.concepts(store) == [("cat", "sd-a"), ("cat", "sd-b"), ("dog", "miniature")]


def test_folder_that_cannot_be_written(store: Store, settings: Settings, tmp_path: Path) -> None:
    published(store)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        client.get("cat-toy", out=tmp_path / "out", settings=settings)


def test_client_is_light() -> None:
    code = "import sys, ti_core.client; print(*(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "mlflow", "prefect", "boto3", "diffusers", "transformers", "matplotlib", "PIL", "pandas"}
    assert "pydantic" in loaded
    assert heavy.isdisjoint(loaded)
