"""What is refused before anything is started or written."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.serving.running import bring_up, take_down
from flows.serving.stack import Options
from ti_core.errors import InputError, NotFoundError


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a card, whose environment is put back."""
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": ""})


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listening:
        for port in range(31_000, 31_900):
            try:
                listening.bind(("127.0.0.1", port))
                break
            except OSError:
                continue
        listening.listen()
        yield port


@pytest.mark.parametrize("option", ["mlflow_port", "prefect_port"])
def test_a_taken_port_is_told_before_anything_is_written(option: str, busy: int, tmp_path: Path) -> None:
    home, told = tmp_path / "servers", list[str]()
    asked = Options.model_validate(
        {"store": "s3://team/words", "mlflow_port": 31_950, "prefect_port": 31_951} | {option: busy}
    )
    with pytest.raises(InputError, match=f"Port {busy}, which .* needs, is taken by .*--{option.replace('_', '-')}"):
        bring_up(home, asked, told.append)
    assert not home.exists()
    assert told == []


def test_a_database_that_cannot_be_entered_is_told_before_anything_is_written(tmp_path: Path) -> None:
    home = tmp_path / "servers"
    asked = Options(
        store="s3://team/words", mlflow_port=31_950, prefect_port=31_951, postgres="postgresql://u:secret@127.0.0.1:9"
    )
    with pytest.raises(InputError, match="The database mlflow of --postgres cannot be used") as told:
        bring_up(home, asked, print)
    assert "secret" not in str(told.value)
    assert not home.exists()


def test_down_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"There are no servers in .*--home"):
        take_down(tmp_path / "servers", False, print)
