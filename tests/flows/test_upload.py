"""`ti upload`: pictures are checked and brought, and what starts their run is told so that it can be used as it is."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from prefect.client.orchestration import get_client

from flows import forms
from flows.cli import app
from flows.cli.ending import Code
from flows.train_concept import train_concept
from tests.flows.moss import MOSS
from ti_core.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(tmp_path / "mine"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    shutil.copytree(MOSS, tmp_path / "mine/moss")
    return tmp_path / "mine/moss"


def upload(*arguments: str | Path) -> int:
    code: int = app(["upload", *map(str, arguments)], standalone_mode=False)
    return code


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert upload(*arguments, "--json") == Code.DONE
    return dict(json.loads(capsys.readouterr().out))


def test_without_a_server_the_command_is_told_that_trains_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "concept.toml").write_text('class_word = "monster"\nsteps = 40\nshow_pictures = false\n')
    said = told(capsys, folder, "--preset", "quick", "--tags", "a, b")
    place = str(folder.parents[1] / "home/store/pictures/moss")
    assert (said["pictures"], said["form"], said["known"]) == (place, "", 0)
    assert shlex.split(said["command"]) == [
        "ti", "train", place, "--name", "moss", "--class-word", "monster", "--no-show-pictures", "--tags", "a, b",
        "--steps", "40", "--preset", "quick",
    ]  # fmt: skip
    assert said["parameters"] == {
        "name": "moss", "pictures": place, "class_word": "monster", "details": {"show_pictures": False, "tags": "a, b"},
        "training": {"steps": 40}, "preset": "quick",
    }  # fmt: skip
    assert upload(folder, "--tags", "a, b") == Code.DONE
    text = capsys.readouterr().out
    assert "usable pictures" in text and "0 files sent, 6 were there" in text and "To start:  ti train" in text


def test_the_link_opens_the_form_with_what_was_said_and_the_server_takes_it(
    prefect_api: None, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = train_concept.to_deployment(name="train-concept").apply()
    monkeypatch.setenv("PREFECT_API_URL", "that of the harness")
    said = told(capsys, folder, "--class-word", "monster", "--license", "100% CC0", "--preset", "careful")
    link = urlsplit(said["form"])
    assert link.path == f"/deployments/deployment/{deployment}/run"
    (filled,) = parse_qs(link.query)["parameters"]
    assert json.loads(filled) == json.loads(unquote(filled)) == said["parameters"], "decoded once, and twice"
    words = shlex.split(said["command"])
    assert words[:5] == ["prefect", "deployment", "run", forms.DEPLOYMENT, "--params"]
    assert json.loads(words[5]) == said["parameters"]
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment, parameters=said["parameters"])
        assert client.read_deployment(deployment).enforce_parameter_schema
    kept = train_concept.validate_parameters(run.parameters)
    assert (kept["details"].license, kept["preset"], kept["training"]) == ("100% CC0", "careful", "as it is")


def test_a_server_without_the_deployment_is_warned_of_and_the_pictures_are_there(
    prefect_api: None, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "that of the harness")
    monkeypatch.setattr(forms, "DEPLOYMENT", "train-concept/missing")
    assert upload(folder, "--class-word", "monster") == Code.DONE
    said = capsys.readouterr()
    assert "has no deployment train-concept/missing" in said.err and "To start:  ti train" in said.out


def test_what_cannot_be_used_is_not_sent(folder: Path) -> None:
    for picture in folder.glob("*.png"):
        picture.write_text("words")
    with pytest.raises(InputError, match="No usable picture"):
        upload(folder, "--class-word", "monster")
    for name in ("disco", "ninja"):
        shutil.copytree(MOSS.parent / name, folder.parent / "all" / name)
    with pytest.raises(InputError, match="upload them one by one"):
        upload(folder.parent / "all", "--class-word", "monster")
    with pytest.raises(InputError, match="cannot name a concept"):
        upload(folder, "--name", "My Moss", "--class-word", "monster")
    assert not (folder.parents[1] / "home/store").exists()
