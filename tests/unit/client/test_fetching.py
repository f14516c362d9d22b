"""Fetching published words from a folder store, as an inference service does."""

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from tests.builders import done, judged
from ti_core import client, formats
from ti_core.client import fetching
from ti_core.errors import InputError, IntegrityError, NotFoundError, ServiceError, WithdrawnError
from ti_core.publishing.catalogue import bases_of
from ti_core.publishing.forgetting import allow, forget
from ti_core.publishing.index import rebuild
from ti_core.publishing.pointer import withdraw
from ti_core.publishing.transaction import publish
from ti_core.records import Champion, Copy, Format, Manifest, Shard, blob_key, champion_key, shard_key
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store, put_blob

COPY = [".cat-toy.json", "cat-toy.safetensors"]


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


def change(store: Store, name: str, **update: object) -> None:
    key = champion_key(name, "miniature")
    champion = Champion.from_bytes(store.get(key).data, key)
    store.put(key, champion.model_copy(update=update).to_bytes())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_word_is_fetched_and_is_the_chosen_vectors(store: Store, settings: Settings, tmp_path: Path) -> None:
    manifest = published(store)
    path = client.get("cat-toy", out=tmp_path / "new" / "words", settings=settings)
    assert path == tmp_path / "new" / "words" / "cat-toy.safetensors"
    stored = formats.read_checkpoint(get_blob(store, manifest.checkpoints[0].vectors), "a checkpoint")
    assert (load_file(path)["<cat-toy>"] == stored["clip_l"]).all()
    assert files(tmp_path / "new" / "words") == COPY


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
    assert path == settings.home / "words" / "a1111" / "miniature" / "cat-toy.safetensors"
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
    assert files(tmp_path / "out") == COPY


def test_tampered_blob_is_refused_and_a_verified_copy_stays(store: Store, settings: Settings, tmp_path: Path) -> None:
    manifest = published(store)
    path = client.get("cat-toy", out=tmp_path / "out", settings=settings)
    before = path.read_bytes()
    sha256 = next(file.sha256 for file in manifest.files if file.layout == "diffusers")
    store.put(blob_key(sha256), before[:-1] + bytes([before[-1] ^ 1]))
    assert client.get("cat-toy", out=tmp_path / "out", settings=settings).read_bytes() == before
    with pytest.raises(IntegrityError, match=sha256):
        client.get("cat-toy", out=tmp_path / "fresh", settings=settings)
    assert files(tmp_path / "fresh") == []
    path.write_bytes(b"damaged here")
    with pytest.raises(IntegrityError, match=sha256):
        client.get("cat-toy", out=tmp_path / "out", settings=settings)


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
    assert files(tmp_path / "out") == COPY


def test_file_name_that_leaves_the_folder_is_refused(store: Store, settings: Settings, tmp_path: Path) -> None:
    manifest = published(store)
    for name in ("../evil.safetensors", "/evil", "a/b", "..", "", ".safetensors", "a.pt", "a\\b.safetensors"):
        bad = manifest.files[0].model_copy(update={"filename": name})
        change(store, "cat-toy", files=(bad,))
        with pytest.raises(IntegrityError, match="no name"):
            client.get("cat-toy", out=tmp_path / "out", settings=settings)
    assert files(tmp_path / "out") == []


def test_newer_and_damaged_pointers_are_refused(store: Store, settings: Settings) -> None:
    published(store)
    change(store, "cat-toy", schema_version=Champion.SCHEMA + 1)
    with pytest.raises(IntegrityError, match=r"schema version \d.*upgrade Pseudoword"):
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
    assert client.words(settings=settings) == []
    published(store, name="dog")
    published(store, name="cat", base="sd-a")
    published(store, name="cat", base="sd-b")
    assert publish(store, judged(store, name="poor", accepted=False), "run", {}).status == "rejected"
    there = [("cat", "sd-a"), ("cat", "sd-b"), ("dog", "miniature")]
    assert [(row.concept, row.base) for row in client.words(settings=settings)] == client.concepts(store) == there
    assert [row.base for row in client.words("models/SD_B.safetensors", settings=settings)] == ["sd-b"]
    assert client.words(min_score=0.61, settings=settings) == []


def test_words_are_found_by_their_tags(store: Store, settings: Settings) -> None:
    published(store, name="dog")
    manifest = judged(store)
    concept = manifest.plan.concept.model_copy(update={"tags": "Mascot, soft toy"})
    done(store, manifest.model_copy(update={"plan": manifest.plan.model_copy(update={"concept": concept})}))
    for tag, names in (("mascot", ["cat-toy"]), (" Soft Toy", ["cat-toy"]), ("soft", []), ("", ["cat-toy", "dog"])):
        assert [row.concept for row in client.words(settings=settings, tag=tag)] == names


def test_a_misspelt_name_is_found_among_very_many(store: Store, settings: Settings) -> None:
    published(store)
    row = client.words(settings=settings)[0]
    many = {f"word-{number}": row.model_copy(update={"concept": f"word-{number}"}) for number in range(2000)}
    store.put("index/miniature/x.json", Shard(words=many).to_bytes())
    with pytest.raises(NotFoundError, match=r"Did you mean cat-toy\?"):
        client.get("cta-toy", settings=settings)
    with pytest.raises(NotFoundError, match="Did you mean word-17 or"):
        client.get("wrod-17", settings=settings)


def test_folder_that_cannot_be_written(store: Store, settings: Settings, tmp_path: Path) -> None:
    published(store)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        client.get("cat-toy", out=tmp_path / "out", settings=settings)


def spoil(store: Store, sha256: str) -> None:
    store.put(blob_key(sha256), b"x" + store.get(blob_key(sha256)).data[1:])


def test_a_damaged_champion_gives_way_to_the_one_before_it(
    store: Store, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = published(store, score=0.5), published(store, seed=1, score=0.7)
    for file in new.files:
        spoil(store, file.sha256)
    path = client.get("cat-toy", out=tmp_path, settings=settings)
    assert path.read_bytes() == get_blob(store, old.files[0].sha256)
    assert "is damaged" in caplog.text and "given instead of version 2" in caplog.text
    with pytest.raises(IntegrityError, match="is damaged"):
        client.get("cat-toy", out=tmp_path, settings=settings, strict=True)
    store.delete(blob_key(new.files[1].sha256))
    assert client.get("cat-toy", layout="a1111", out=tmp_path / "a", settings=settings).is_file()
    spoil(store, new.checkpoints[0].vectors)
    assert client.vectors("cat-toy", settings=settings)[0].version == 1
    with pytest.raises(IntegrityError):
        client.vectors("cat-toy", settings=settings, strict=True)


def test_what_was_withdrawn_is_never_given_instead(store: Store, settings: Settings, tmp_path: Path) -> None:
    for seed, score in enumerate((0.5, 0.6, 0.7)):
        newest = published(store, seed=seed, score=score)
    withdraw(store, "cat-toy", "miniature", 2, "me", "")
    for file in newest.files:
        spoil(store, file.sha256)
    assert client.vectors("cat-toy", settings=settings)[0].version == 3
    path = client.get("cat-toy", out=tmp_path, settings=settings)
    assert Copy.from_bytes((path.parent / ".cat-toy.json").read_bytes(), "").word.version == 1


def test_a_file_that_is_no_word_is_refused(store: Store, settings: Settings, tmp_path: Path) -> None:
    manifest = published(store)
    file = manifest.files[0]
    for data in (
        b"PK",
        save({"<cat-toy>": np.zeros(4, np.float32)}),
        save({"<cat-toy>": np.zeros((1, 4), np.float16)}),
    ):
        bad = file.model_copy(update={"sha256": put_blob(store, data), "size": len(data)})
        change(store, "cat-toy", files=(bad,))
        with pytest.raises(IntegrityError):
            client.get("cat-toy", out=tmp_path / "out", settings=settings)
    change(store, "cat-toy", files=(file.model_copy(update={"size": 1}),))
    with pytest.raises(IntegrityError, match="bytes, 1 are told"):
        client.get("cat-toy", out=tmp_path / "out", settings=settings)
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize("other", [{"concept": "dog"}, {"base": "sd15"}])
def test_the_pointer_of_another_word_is_refused(store: Store, settings: Settings, other: dict[str, str]) -> None:
    published(store)
    change(store, "cat-toy", **other)
    with pytest.raises(IntegrityError, match="not of cat-toy on miniature"):
        client.get("cat-toy", "miniature", settings=settings)


def test_two_base_models_do_not_overwrite_each_other(store: Store, settings: Settings, tmp_path: Path) -> None:
    published(store, base="sd-a")
    published(store, base="sd-b", seed=1)
    one, two = (client.get("cat-toy", base, settings=settings) for base in ("sd-a", "sd-b"))
    assert one.name == two.name == "cat-toy.safetensors" and one.read_bytes() != two.read_bytes()
    client.get("cat-toy", "sd-a", out=tmp_path / "out", settings=settings)
    with pytest.raises(InputError, match="is the word for sd-a, not for sd-b: name another folder"):
        client.get("cat-toy", "sd-b", out=tmp_path / "out", settings=settings)
    both = client.get_many([("cat-toy", "sd-a"), ("cat-toy", "sd-b")], out=tmp_path / "both", settings=settings)
    assert list(both.values()) == [tmp_path / "both" / base / one.name for base in ("sd-a", "sd-b")]


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise ServiceError("The store does not answer.")


def test_a_verified_copy_is_given_while_the_store_is_away(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published(store)
    path = client.get("cat-toy", out=tmp_path, settings=settings)
    monkeypatch.setattr(fetching, "opened", lambda _: Away())
    assert client.get("cat-toy", out=tmp_path, settings=settings) == path
    assert "does not answer" in caplog.text and "The copy" in caplog.text
    assert client.get("cat-toy", out=tmp_path, settings=settings, offline=True) == path
    with pytest.raises(ServiceError):
        client.get("dog", out=tmp_path, settings=settings)
    with pytest.raises(NotFoundError, match="no verified copy of cat-toy as a1111"):
        client.get("cat-toy", layout="a1111", out=tmp_path, settings=settings, offline=True)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(NotFoundError, match="no verified copy"):
        client.get("cat-toy", out=tmp_path, settings=settings, offline=True)
    with pytest.raises(ServiceError):
        client.get("cat-toy", out=tmp_path, settings=settings)


@pytest.mark.parametrize("decide", [withdraw, forget])
def test_copies_of_withdrawn_and_forgotten_words_go(
    store: Store, settings: Settings, tmp_path: Path, decide: Any
) -> None:
    published(store)
    path = client.get("cat-toy", out=tmp_path, settings=settings)
    arguments = (None, "me", "too much like somebody") if decide is withdraw else ("me", "too much like somebody")
    decide(store, "cat-toy", "miniature", *arguments)
    with pytest.raises(WithdrawnError, match="me: too much like somebody"):
        client.get("cat-toy", out=tmp_path, settings=settings)
    assert not path.exists()
    for call in (client.champion, client.vectors):
        with pytest.raises(WithdrawnError):
            call("cat-toy", settings=settings)
    with pytest.raises(NotFoundError):
        client.get("cat-toy", out=tmp_path, settings=settings, offline=True)
    assert client.words(settings=settings) == []


def test_many_are_fetched_and_what_fails_stops_nobody(store: Store, settings: Settings, tmp_path: Path) -> None:
    published(store)
    published(store, name="dog")
    wanted = [("cat-toy", None), ("bird", None), ("dog", "miniature"), ("cat-toy", None)]
    made = client.get_many(wanted, out=tmp_path, settings=settings)
    assert [key for key, one in made.items() if isinstance(one, Path)] == [wanted[0], wanted[2]]
    assert isinstance(made[wanted[1]], NotFoundError)


def test_a_folder_is_brought_up_to_date(store: Store, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "words"
    for name in ("cat-toy", "dog", "bird"):
        published(store, name=name)
    published(store, base="sd-a")
    (out / "miniature").mkdir(parents=True)
    (out / "miniature" / "own.safetensors").write_bytes(b"somebody else's")
    first = client.sync(out, settings=settings)
    assert (len(first.fetched), first.removed, first.failed, first.there) == (4, (), {}, 4)
    assert client.sync(out, settings=settings) == replace(first, fetched=())

    published(store, seed=1, score=0.7)
    withdraw(store, "dog", "miniature", None, "me", "")
    (out / "miniature" / "bird.safetensors").write_bytes(b"damaged here")
    second = client.sync(out, "miniature", settings=settings)
    assert {path.name for path in second.fetched} == {"cat-toy.safetensors", "bird.safetensors"}
    assert [path.name for path in second.removed] == ["dog.safetensors"] and second.there == 3
    assert (out / "miniature" / "own.safetensors").read_bytes() == b"somebody else's"
    assert not (out / "miniature" / "dog.safetensors").exists()

    for file in client.champion("cat-toy", "sd-a", settings).files:
        spoil(store, file.sha256)
    (out / "sd-a" / "cat-toy.safetensors").unlink()
    third = client.sync(out, settings=settings)
    assert "is damaged" in third.failed["cat-toy on sd-a"] and third.fetched == third.removed == ()


@pytest.mark.parametrize("lost", ["all", "index", "pointers", "a row"])
def test_no_copy_goes_because_the_store_is_empty_or_its_index_lost(
    store: Store, settings: Settings, tmp_path: Path, lost: str
) -> None:
    published(store)
    published(store, name="dog")
    client.sync(tmp_path, settings=settings)
    gone = {"all": [""], "index": ["index/"], "pointers": [champion_key("cat-toy", "miniature"), "index/"]}
    for key in [key for prefix in gone.get(lost, []) for key in store.keys(prefix)]:
        store.delete(key)
    if lost == "a row":
        store.put(shard_key("cat-toy", "miniature"), Shard(words={}).to_bytes())
    told = client.sync(tmp_path, settings=settings)
    assert (told.removed, told.there) == ((), 2)
    assert (tmp_path / "miniature" / "cat-toy.safetensors").is_file()
    missing = {"all": 2, "pointers": 1}.get(lost, 0)
    assert [one.startswith("No word ") for one in told.failed.values()] == [True] * missing


def test_the_copy_of_a_word_that_was_forgotten_and_allowed_again_goes(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    published(store)
    client.sync(tmp_path, settings=settings)
    forget(store, "cat-toy", "miniature", "me", "")
    allow(store, "cat-toy", "miniature", "me", "")
    assert [path.name for path in client.sync(tmp_path, settings=settings).removed] == ["cat-toy.safetensors"]


def test_a_file_in_numbers_that_numpy_does_not_have_is_kept_and_named(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    published(store)
    own = tmp_path / "miniature" / "cat-toy.safetensors"
    own.parent.mkdir()
    header = b'{"emp_params":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}'
    own.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    told = client.sync(tmp_path, layout="onetrainer", settings=settings)
    assert "cat-toy.safetensors was not written by Pseudoword and is kept" in told.failed["cat-toy on miniature"]


def test_a_file_that_is_no_copy_is_kept_and_named(store: Store, settings: Settings, tmp_path: Path) -> None:
    published(store)
    published(store, name="dog")
    own = tmp_path / "miniature" / "cat-toy.safetensors"
    own.parent.mkdir()
    own.write_bytes(b"somebody else's")
    told = client.sync(tmp_path, settings=settings)
    assert "cat-toy.safetensors was not written by Pseudoword and is kept" in told.failed["cat-toy on miniature"]
    with pytest.raises(InputError, match="is kept: move it away"):
        client.get("cat-toy", out=own.parent, settings=settings)
    withdraw(store, "cat-toy", "miniature", None, "me", "")
    assert client.sync(tmp_path, settings=settings).removed == ()
    assert own.read_bytes() == b"somebody else's" and (own.parent / "dog.safetensors").is_file()


def test_a_first_copy_that_cannot_be_written_leaves_no_note(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(store)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "safetensors" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        client.get("cat-toy", out=tmp_path / "out", settings=settings)
    assert files(tmp_path / "out") == []


def test_a_word_counts_where_it_is_published_not_where_it_was_forgotten(store: Store, settings: Settings) -> None:
    published(store, base="sd-a")
    published(store, base="sd-b")
    forget(store, "cat-toy", "sd-a", "me", "")
    assert client.champion("cat-toy", settings=settings).base == "sd-b"
    with pytest.raises(NotFoundError, match="It is published for sd-b: choose"):
        client.champion("cat-toy", "sd-c", settings)
    assert bases_of(store, "cat-toy") == ["sd-b"] and rebuild(store) == 1
    forget(store, "cat-toy", "sd-b", "me", "")
    with pytest.raises(WithdrawnError, match="forgotten"):
        client.champion("cat-toy", "sd-b", settings)
    assert bases_of(store, "cat-toy") == [] and rebuild(store) == 0


@pytest.mark.parametrize(("layout", "tensor"), [("kohya", "emb_params"), ("onetrainer", "emp_params")])
def test_formats_that_are_made_of_a_published_file(
    store: Store, settings: Settings, tmp_path: Path, layout: Format, tensor: str
) -> None:
    manifest = published(store)
    path = client.get("cat-toy", layout=layout, out=tmp_path / "words", settings=settings)
    stored = formats.read_checkpoint(get_blob(store, manifest.checkpoints[0].vectors), "a checkpoint")
    assert load_file(path).keys() == {tensor} and (load_file(path)[tensor] == stored["clip_l"]).all()
    assert client.get("cat-toy", layout=layout, out=tmp_path / "words", settings=settings, offline=True) == path
    assert len(client.sync(tmp_path / "all", layout=layout, settings=settings).fetched) == 1
    assert not client.sync(tmp_path / "all", layout=layout, settings=settings).fetched
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(NotFoundError, match="no verified copy"):
        client.get("cat-toy", layout=layout, out=tmp_path / "words", settings=settings, offline=True)


def test_words_in_a_prompt() -> None:
    assert client.words_in("a <cat-toy> and <DOG>, i <3 a <cat-toy>") == ["cat-toy", "dog"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a cat-toy on the moon", "<cat-toy> is the published word"),
        ("a Dog.", "dog stands without brackets"),
        ("a <Cat Toy> here", "<Cat Toy> is read as plain text: the published word is written <cat-toy>"),
        ("a (<dog>:1.3) here", "Weights"),
        ("a <dog> and a <CAT-TOY>, hotdog, dog-house, cat-toys (at 3:30)", None),
    ],
)
def test_a_prompt_that_looks_like_a_mistake_is_noticed(prompt: str, words: str | None) -> None:
    told = client.noticed(prompt, {"cat-toy", "dog"})
    assert [words in one for one in told] == [True] if words else told == []


def test_client_is_light() -> None:
    code = "import sys, ti_core.client; print(*(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "mlflow", "prefect", "boto3", "diffusers", "transformers", "matplotlib", "PIL", "pandas"}
    assert "pydantic" in loaded
    assert heavy.isdisjoint(loaded)
