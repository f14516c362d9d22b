"""Words from elsewhere, without pictures: kept and given to readers, known, said to be not judged, and no rival of what
was judged."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.builders import done, judged
from ti_core import client, formats
from ti_core.backbone.folder import find_base, text_widths
from ti_core.client.hub import hub_folder
from ti_core.config import ConceptSpec, ImportSpec
from ti_core.errors import InputError, IntegrityError, WithdrawnError
from ti_core.importing import import_word
from ti_core.publishing.audit import audit
from ti_core.publishing.catalogue import champion_of, imports_of
from ti_core.publishing.collecting import collect
from ti_core.publishing.forgetting import forget
from ti_core.publishing.pointer import rollback, withdraw
from ti_core.publishing.transaction import publish
from ti_core.records import OUTBOX, Given, Outcome, blob_key, outbox_key, outcome_key
from ti_core.settings import Settings
from ti_core.starts import find_given
from ti_core.store import Store, open_store

WIDTH = text_widths(find_base("miniature"))["clip_l"]


class Desk:
    """A data folder, and files of words beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home", allowed_roots=(folder,))
        self.store: Store = open_store(self.settings)

    def file(self, name: str = "cat.safetensors", seed: int = 0, count: int = 2) -> str:
        rows = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
        save_file({"emb_params": rows}, self.folder / name)
        return str(self.folder / name)

    def take(self, file: str, **more: str) -> Outcome:
        spec = ImportSpec.model_validate({"file": file, "name": "cat-toy"} | more)
        return import_word(spec, "miniature", self.settings, self.store)[0]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_it_is_given_to_readers_and_said_to_be_not_judged(desk: Desk) -> None:
    outcome = desk.take(desk.file(), license="mine")
    assert (outcome.status, outcome.version, outcome.champion) == ("imported", 1, True)
    (row,) = client.words(settings=desk.settings)
    assert not row.judged and row.score == 0
    path = client.get("cat-toy", settings=desk.settings, out=desk.folder / "words")
    np.testing.assert_array_equal(
        formats.read_published(path.read_bytes(), "it")["<cat-toy>"],
        np.random.default_rng(0).normal(size=(2, WIDTH)).astype(np.float32),
    )
    told = formats.about(path.read_bytes(), "it")
    assert "not judged" in told["note"] and told["pseudoword.judged"] == "false"
    assert told["pseudoword.imported_from"] == "cat.safetensors" and told["modelspec.license"] == "mine"
    assert str(desk.folder) not in "".join(told.values())
    card = (hub_folder("cat-toy", out=desk.folder, settings=desk.settings) / "README.md").read_text()
    assert "not judged" in card and "cat.safetensors" in card and "examples.png" not in card
    assert not audit(desk.store)


def test_the_same_file_is_known_and_the_same_vectors_in_another_layout_too(desk: Desk) -> None:
    first = desk.take(desk.file())
    before = sorted(desk.store.keys("concepts/"))
    assert desk.take(desk.file()) == first
    rows = np.random.default_rng(0).normal(size=(2, WIDTH)).astype(np.float32)
    save_file({"<other>": rows}, desk.folder / "other.safetensors")
    assert desk.take(str(desk.folder / "other.safetensors")) == first
    assert sorted(desk.store.keys("concepts/")) == before


def test_another_file_takes_the_place_of_one_that_was_not_judged_either(desk: Desk) -> None:
    desk.take(desk.file())
    second = desk.take(desk.file(seed=1))
    assert (second.version, second.champion) == (2, True)
    assert rollback(desk.store, "cat-toy", "miniature", 1, "me", "").version == 1
    assert withdraw(desk.store, "cat-toy", "miniature", None, "me", "").withdrawal(second.judge_key) is None


def test_it_replaces_nothing_that_was_judged_and_is_replaced_by_it_without_a_duel(desk: Desk) -> None:
    desk.take(desk.file())
    run = publish(desk.store, judged(desk.store), "", {})
    assert run.champion and "imported and not judged" in run.reason
    again = desk.take(desk.file(seed=1))
    assert (again.version, again.champion) == (3, False) and "it was judged" in again.reason
    found = champion_of(desk.store, "cat-toy", "miniature")
    assert found and found.judged and found.version == 2
    back = rollback(desk.store, "cat-toy", "miniature", 3, "me", "I looked")
    assert not back.judged and back.version == 3
    assert done(desk.store, judged(desk.store, seed=5)).champion


def test_what_was_torn_off_is_completed(desk: Desk) -> None:
    first = desk.take(desk.file())
    (word,) = imports_of(desk.store, "cat-toy", "miniature")
    desk.store.delete(outcome_key(word))
    assert {fault.kind for fault in audit(desk.store)} == {"interrupted"}
    again = desk.take(desk.file())
    assert (again.judge_key, again.version, again.champion) == (first.judge_key, 1, True)
    desk.store.delete(blob_key(word.files[0].sha256))
    assert all(fault.repaired for fault in audit(desk.store, repair=True) if fault.kind == "missing")
    assert not audit(desk.store)


def test_files_that_are_not_to_be_read(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = Desk(tmp_path_factory.mktemp("outside")).file()
    link = desk.folder / "link.safetensors"
    link.symlink_to(outside)
    for file in (outside, str(link)):
        with pytest.raises(InputError, match="outside the folders"):
            desk.take(file)
    with pytest.raises(InputError, match="no file"):
        desk.take(str(desk.folder / "missing.pt"))
    with pytest.raises(InputError, match="no file"):
        desk.take(str(desk.folder))
    with pytest.raises(InputError, match="class word"):
        desk.take(desk.file(), class_word="blorp")
    assert not list(desk.store.keys(""))


def test_a_forgotten_word_stays_forgotten(desk: Desk) -> None:
    desk.take(desk.file())
    forget(desk.store, "cat-toy", "miniature", "me", "asked for")
    assert not list(desk.store.keys("blobs/"))
    with pytest.raises(WithdrawnError):
        desk.take(desk.file())
    assert not list(desk.store.keys("blobs/"))


def test_a_start(desk: Desk) -> None:
    def start(text: str, **more: object) -> Given | None:
        concept = ConceptSpec.model_validate(
            {"name": "disco", "pictures": "p", "class_word": "robot", "initializer": text} | more
        )
        return find_given(concept, "miniature", desk.settings)

    assert start("a red robot") is None and start("") is None
    with pytest.raises(InputError, match="nothing to import"):
        start("", imported=True)
    desk.take(desk.file())
    of_word, of_file = start("<CAT-TOY>"), start(desk.file())
    assert of_word and of_file
    assert of_word.vectors == of_file.vectors and of_word.count == 2


def test_its_tags_and_its_document_are_kept_as_those_of_a_run(desk: Desk) -> None:
    desk.take(desk.file(), tags="toy, red")
    assert [row.concept for row in client.words(settings=desk.settings, tag="Red")] == ["cat-toy"]
    (key,) = (key for key in desk.store.keys("concepts/") if "/imported-" in key)
    desk.store.put(key, b"{")
    faults = audit(desk.store)
    assert any(one.kind == "damaged" and "import the file again" in one.what for one in faults)
    with pytest.raises(IntegrityError, match="is damaged"):
        collect(desk.store, timedelta(0))
    desk.store.delete(key)
    assert desk.take(desk.file(), tags="toy, red").version == 1
    assert desk.store.exists(key) and not [one for one in audit(desk.store) if one.kind == "damaged"]


def test_vectors_that_were_withdrawn_stay_so_under_another_name(desk: Desk) -> None:
    version_1 = desk.take(desk.file("a.safetensors", seed=0))
    desk.take(desk.file("b.safetensors", seed=1))
    withdraw(desk.store, "cat-toy", "miniature", 1, "me", "")
    pointer = champion_of(desk.store, "cat-toy", "miniature")
    (first,) = (one for one in imports_of(desk.store, "cat-toy", "miniature") if one.judge_key == version_1.judge_key)
    assert pointer and pointer.version == 2 and pointer.changes[-1].gone == first.given.vectors


def test_the_tracking_server_hears_that_no_judged_version_leads(desk: Desk) -> None:
    manifest = judged(desk.store)
    publish(desk.store, manifest, "run", {})
    outcome = desk.take(desk.file())
    for key in list(desk.store.keys(OUTBOX)):
        desk.store.delete(key)
    rollback(desk.store, "cat-toy", "miniature", outcome.version, "me", "")
    assert desk.store.exists(outbox_key(manifest.plan))
