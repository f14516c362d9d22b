"""`ti import` without pictures, as it is typed: what it says, its JSON, its codes, and what readers are told."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from flows.cli import app, ending

Ti = Callable[..., tuple[int, str]]


@pytest.fixture
def ti(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ti:
    """The command in an empty folder with a word of kohya's scripts, cat.safetensors, for the miniature."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path / "home"))
    rows = np.random.default_rng(0).normal(size=(2, 128)).astype(np.float32)
    save_file({"emb_params": rows}, tmp_path / "cat.safetensors")

    def run(*arguments: str) -> tuple[int, str]:
        code = ending.ended(partial(app, list(arguments), standalone_mode=False), "--json" in arguments)
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_a_word_is_taken_in_once_and_said_to_be_not_judged(ti: Ti) -> None:
    code, told = ti("import", "cat.safetensors", "--name", "cat", "--json")
    first = json.loads(told)
    assert (code, first["status"], first["version"], first["given"]["count"]) == (0, "imported", 1, 2)
    assert json.loads(ti("import", "cat.safetensors", "--name", "cat", "--json")[1]) == first
    assert "not judged" in " ".join(ti("show", "cat")[1].split())
    (row,) = json.loads(ti("list", "--json")[1])
    assert (row["concept"], row["judged"]) == ("cat", False)
    code, told = ti("fetch", "cat", "--format", "onetrainer", "--out", "words")
    assert code == 0 and Path(told.strip()).is_file()


def test_what_cannot_be_taken_in_is_told_and_leaves_nothing(ti: Ti) -> None:
    Path("lora.safetensors").write_bytes(Path("cat.safetensors").read_bytes()[:-1])
    for file, reason in (("lora.safetensors", "damaged or cut off"), ("no.pt", "There is no file no.pt")):
        code, told = ti("import", file, "--name", "cat")
        assert code == 1 and reason in told and "Traceback" not in told
    code, told = ti("import", "cat.safetensors", "--name", "cat", "--rule", "editability")
    assert code == 2 and "name some with --pictures" in told
    assert ti("list", "--json") == (0, "[]\n")
