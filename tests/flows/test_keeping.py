"""The commands that change what is published, and those that read many words: their words, their JSON, their codes."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flows.cli import app, ending
from tests.builders import done, judged
from ti_core import formats
from ti_core.publishing.transaction import publish
from ti_core.records import OUTBOX
from ti_core.settings import Settings
from ti_core.store import Store, open_store

Ti = Callable[..., tuple[int, str]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PSEUDOWORD_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = open_store(Settings(home=tmp_path / "home"))
    for seed, score in enumerate((0.4, 0.6)):
        done(store, judged(store, seed=seed, score=score))
    done(store, judged(store, name="dog", score=0.3))
    return store


@pytest.fixture
def ti(store: Store, capsys: pytest.CaptureFixture[str]) -> Ti:
    def run(*arguments: str) -> tuple[int, str]:
        code = ending.ended(partial(app, list(arguments), standalone_mode=False), "--json" in arguments)
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_words_are_listed_and_many_fetched(ti: Ti, tmp_path: Path) -> None:
    code, told = ti("list", "--json", "--min-score", "0.5")
    assert (code, [(row["concept"], row["version"]) for row in json.loads(told)]) == (0, [("cat-toy", 2)])
    assert ti("list", "--tag", "mascot", "--json") == (0, "[]\n")
    code, told = ti("fetch", "cat-toy", "dog", "--out", "words", "--format", "a1111")
    assert (code, told.split()) == (0, ["words/miniature/cat-toy.safetensors", "words/miniature/dog.safetensors"])
    code, told = ti("fetch", "--all", "--json")
    assert (code, len(json.loads(told)["fetched"])) == (0, 2)
    code, told = ti("fetch", "dog", "bird")
    assert code == 1 and "miniature/dog.safetensors" in told and "No word bird" in told
    assert ti("fetch")[0] == ti("fetch", "dog", "--all")[0] == 2
    assert ti("fetch", "dog", "--offline", "--out", "miniature") == (0, "miniature/dog.safetensors\n")
    code, told = ti("show", "words/miniature/dog.safetensors")
    assert code == 0 and told.startswith("format: pt\nnote: This is a toy")


def test_a_folder_follows_what_people_decide(ti: Ti) -> None:
    assert "2 words in words: 2 fetched, 0 removed." in ti("sync", "words")[1]
    code, told = ti("rollback", "cat-toy", "--reason", "too shiny", "--who", "ann")
    assert code == 0 and "get version 1 (step 20, score 0.400)" in told
    assert "rollback version 1 on" in (shown := ti("show", "cat-toy")[1]) and "by ann: too shiny" in shown
    assert "get version 1, pinned" in ti("pin", "cat-toy")[1]
    code, told = ti("withdraw", "dog", "--reason", "a likeness")
    assert code == 0 and "no version stands" in told
    code, told = ti("sync", "words", "--json")
    assert (json.loads(told)["removed"], json.loads(told)["there"]) == (["words/miniature/dog.safetensors"], 1)
    code, told = ti("fetch", "dog")
    assert code == 1 and "dog on miniature was withdrawn on" in told and "a likeness" in told
    assert "withdrawn" in ti("show", "dog")[1]
    assert ti("withdraw", "cat-toy")[0] == ti("withdraw", "cat-toy", "--reason", " ")[0] == 2, "a reason is asked for"


def test_a_person_says_whether_readers_get_it(ti: Ti, store: Store) -> None:
    assert ti("list", "--awaiting") == (0, "Nothing awaits approval.\n")
    for name in ("fox", "ant"):
        publish(store, judged(store, name=name, seed=7), "", {}, asks=True)
    assert "Awaiting approval" in ti("list")[1]
    code, told = ti("list", "--awaiting", "--json")
    assert (code, {one["concept"] for one in json.loads(told)}) == (0, {"ant", "fox"})
    assert all(Path(one["page"]).is_file() for one in json.loads(told))
    assert ti("list", "--awaiting", "--base-model", "sdxl", "--json") == (0, "[]\n")
    assert ti("list", "--awaiting", "--tag", "mascot")[0] == 2
    code, told = ti("approve", "fox", "--who", "ann", "--reason", "good")
    assert code == 0 and "published: Version 1 is the first of fox" in told and "by ann: good" in told
    assert ti("decline", "ant")[0] == ti("decline", "ant", "--reason", "")[0] == 2, "a reason is asked for"
    assert "No run of ant on miniature whose key begins with 'zz' awaits" in ti("approve", "ant", "--run", "zz")[1]
    code, told = ti("decline", "ant", "--reason", "no likeness", "--json")
    assert (code, json.loads(told)["status"]) == (0, "declined")
    assert "declined" in ti("show", "ant")[1]
    code, told = ti("approve", "ant")
    assert code == 1 and "No run of ant on miniature awaits approval" in told


def test_what_a_file_says_of_itself_moves_no_terminal(ti: Ti) -> None:
    about = {"author": "\x1b[31mann\nand \u202ebob"}
    Path("odd.safetensors").write_bytes(formats.write({"clip_l": np.ones((1, 4), np.float32)}, "<odd>", "a1111", about))
    assert ti("show", "odd.safetensors") == (0, "author: \\x1b[31mann\nand \\u202ebob\nformat: pt\n")


def test_a_word_is_forgotten_and_the_store_looked_after(ti: Ti, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ti("forget", "dog", "--json")[0] == 2, "it asks, or is told --yes"
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, told = ti("forget", "dog")
        assert code == 1 and "Nothing of dog was removed: nobody has confirmed it" in told
    code, told = ti("forget", "dog", "--yes", "--reason", "asked for", "--json")
    assert code == 0 and json.loads(told)["miniature"]["shared"] > 0
    assert "was forgotten" in ti("fetch", "dog")[1]
    assert [one["concept"] for one in json.loads(ti("list", "--json")[1])] == ["cat-toy"]
    assert ti("gc", "--dry-run")[1].endswith("(nothing was done).\n") and ti("gc", "--older-than", "5m")[0] == 2
    assert ti("gc", "--older-than", "9999999999999d")[0] == 2
    assert "0 blobs put aside" in ti("gc")[1]
    code, told = ti("audit", "--json")
    assert code == 1 and [one["kind"] for one in json.loads(told)] == ["untold", "mirror"]  # it does not answer
    assert list(store.keys(OUTBOX))
    code, told = ti("forget", "cat-toy", "--allow-again")
    assert code == 1 and "cat-toy was not forgotten" in told
    assert "may be trained again" in ti("forget", "dog", "--allow-again")[1]
