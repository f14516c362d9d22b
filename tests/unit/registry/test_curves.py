"""Training curves on their way: they arrive while training goes on, hold nothing up, and outlive a killed process.

A small server in memory that can be silent; at the end a real MLflow on one SQLite file."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tests.builders import judged
from tests.unit.registry.memory import MemoryServer
from ti_core.config import Packing
from ti_core.errors import ServiceError
from ti_core.progress import Trained
from ti_core.registry import Curves, Registry, curves, drain_curves
from ti_core.settings import Settings
from ti_core.stations import Stations
from ti_core.store import open_store
from ti_core.training import running
from ti_core.training.running import run_key
from ti_core.works import Work

VALUES = {"loss": 0.5, "norm": 0.4}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


def spooled(settings: Settings) -> list[Path]:
    return sorted(settings.home.glob("curves/*/*.jsonl"))


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_rows_arrive_while_training_goes_on(
    settings: Settings, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "SECONDS", 0.05)
    before = time.time() * 1000
    with Curves(settings, server) as kept:
        kept.add("a", 10, VALUES)
        until(lambda: server.steps("a") == [10])
        between = time.time() * 1000
        kept.add("a", 20, VALUES)
        kept.add("b", 10, VALUES)
        until(lambda: server.steps("a") == [10, 20] and server.steps("b") == [10])
    first, second = sorted(server.rows["a"], key=lambda row: dict(row)["step"])
    assert before - 1 <= dict(first)["time"] <= between <= dict(second)["time"] + 1, "each has its own time"
    assert dict(first) | VALUES == dict(first)
    assert not spooled(settings), "what was sent is not kept"


def test_many_rows_do_not_wait_for_their_time_and_go_in_one_call(
    settings: Settings, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "SECONDS", 600.0)
    monkeypatch.setattr(curves, "ROWS", 50)
    with Curves(settings, server) as kept:
        for step in range(49):
            kept.add("a", step, VALUES)
        time.sleep(0.1)
        assert server.calls == 0
        kept.add("a", 49, VALUES)
        until(lambda: len(server.steps("a")) == 50)
        assert server.calls == 1


def test_a_silent_server_holds_nothing_up_and_is_told_by_the_next_run(
    settings: Settings, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "SECONDS", 0.01)
    monkeypatch.setattr(curves, "PATIENCE", 0.2)
    server.answers.clear()
    began = time.monotonic()
    with Curves(settings, server) as kept:
        for step in range(300):
            kept.add("a", step, VALUES)
        until(lambda: server.calls > 0)
    assert time.monotonic() - began < 5
    assert len(spooled(settings)) == 1 and not server.rows
    server.away = True
    server.answers.set()  # the thread that was left alone ends, and lets go of its file
    until(lambda: not [one for one in threading.enumerate() if one.name == "curves"])
    server.away = False
    with Curves(settings, server):
        pass
    assert server.steps("a") == list(range(300)) and not spooled(settings)


def test_a_server_that_fails_is_tried_again_and_nothing_comes_twice(
    settings: Settings, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "SECONDS", 0.01)
    server.away = True
    with Curves(settings, server) as kept:
        kept.add("a", 10, VALUES)
        until(lambda: server.calls > 2)
        kept.add("a", 20, VALUES)
        server.away = False
    assert server.steps("a") == [10, 20] and not spooled(settings)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ServiceError("The store is away.")])
def test_training_that_is_torn_out_leaves_its_curves_with_the_server(
    settings: Settings, server: MemoryServer, error: type[BaseException] | BaseException
) -> None:
    with pytest.raises((KeyboardInterrupt, ServiceError)), Curves(settings, server) as kept:
        kept.add("a", 10, VALUES)
        raise error
    assert server.steps("a") == [10]


KILLED = """
import os, signal, sys
from pathlib import Path
from ti_core.registry import Curves
from ti_core.settings import Settings
from tests.unit.registry.memory import MemoryServer
server = MemoryServer()
server.away = True
with Curves(Settings(home=Path(sys.argv[1])), server) as kept:
    for step in range(5):
        kept.add("a", step, {"loss": 0.5, "norm": 0.4})
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_a_living_process_sends_is_left_to_it_and_what_a_killed_one_left_is_sent(
    settings: Settings, server: MemoryServer
) -> None:
    command = [sys.executable, "-c", KILLED, str(settings.home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    drain_curves(settings, server)
    assert not server.rows and len(spooled(settings)) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    with spooled(settings)[0].open("ab") as torn:
        torn.write(b'{"step": 5, "ti')
    drain_curves(settings, server)
    assert server.steps("a") == [0, 1, 2, 3, 4] and not spooled(settings)


def test_curves_of_a_run_that_was_deleted_are_told_and_removed(
    settings: Settings, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.away = True
    for run_id in ("gone", "there"):
        with Curves(settings, server) as kept:
            kept.add(run_id, 10, VALUES)
    server.away, server.unknown = False, {"gone"}
    drain_curves(settings, server)
    assert server.steps("there") == [10] and not spooled(settings)
    assert "There is no run gone" in caplog.text


def test_curves_wait_for_their_own_server(settings: Settings, server: MemoryServer) -> None:
    server.away = True
    with Curves(settings, server) as kept:
        kept.add("a", 10, VALUES)
    server.away = False
    elsewhere = Settings(home=settings.home, tracking_uri="http://somebody:secret@elsewhere:5000")
    drain_curves(elsewhere, server)
    assert not server.rows and len(spooled(settings)) == 1
    drain_curves(settings, server)
    assert server.steps("a") == [10]


def test_a_damaged_row_is_left_out_and_told(
    settings: Settings, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.away = True
    with Curves(settings, server) as kept:
        kept.add("a", 10, VALUES)
    server.away = False
    (path,) = spooled(settings)
    path.write_bytes(b"\x00\x00\n" + path.read_bytes())
    drain_curves(settings, server)
    assert server.steps("a") == [10] and "damaged row" in caplog.text


def test_a_folder_that_cannot_be_written_stops_no_training(
    settings: Settings, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.home / "curves").write_text("in the way")
    with Curves(settings, server) as kept:
        kept.add("a", 10, VALUES)
        kept.add("a", 20, VALUES)
    assert caplog.text.count("cannot be kept") == 1


# --- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("real")
    yield Settings(home=home, store=str(home / "store"))
    mlflow.set_tracking_uri(None)


def test_mlflow_keeps_a_row_once_however_often_it_is_sent(real: Settings) -> None:
    registry = Registry(real)
    run_id = registry.open_run(judged(open_store(real), name="twice").plan)
    rows = [{"step": step, "time": 1_000 + step, **VALUES} for step in range(3)]
    registry.log_training(run_id, rows)
    registry.log_training(run_id, rows)
    history = MlflowClient(real.mlflow_uri).get_metric_history(run_id, "loss")
    assert [(metric.step, metric.timestamp, metric.value) for metric in history] == [
        (step, 1_000 + step, 0.5) for step in range(3)
    ]


@pytest.mark.parametrize("torn_out", [False, True])
def test_the_training_station_leaves_curves_by_run_also_when_it_is_cancelled(
    torn_out: bool, real: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two concepts of one name, with other settings."""
    store = open_store(real)
    plans = [judged(store, name=f"cat-{torn_out}".lower(), seed=seed).plan for seed in (0, 1)]
    prepared = judged(store).prepared
    works = [Work(place, plan.concept.name, plan, prepared) for place, plan in enumerate(plans)]

    def trained(pairs, packing, settings, store, on_progress, say):
        for step in (10, 20):
            for place, plan in enumerate(plans):
                on_progress(Trained(run_key(plan), plan.concept.name, step, 20, place + step, 0.4, 9.0, 2 * step, 40))
        if torn_out:
            raise KeyboardInterrupt
        return [running.Trained(concept=plan.concept.name, step=20, checkpoints=()) for plan in plans]

    monkeypatch.setattr(running, "run_training", trained)
    station = Stations(real, store, Packing(), "").train
    if torn_out:
        with pytest.raises(KeyboardInterrupt):
            station(works)
    else:
        assert [work.error for work in station(works)] == [None, None]
    client = MlflowClient(real.mlflow_uri)
    found = client.search_runs(
        [one.experiment_id for one in client.search_experiments()], f"tags.concept = '{plans[0].concept.name}'"
    )
    losses = {
        run.data.tags["judge_key"]: [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")]
        for run in found
    }
    assert losses == {plan.judge_key: [place + 10, place + 20] for place, plan in enumerate(plans)}
    assert not spooled(real)


def test_what_the_store_did_not_take_is_worth_another_try(real: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = judged(open_store(real), name="unkept")
    lost = running.Trained(concept="unkept", step=20, checkpoints=(), reason="It is not all in the store.", unkept=True)
    monkeypatch.setattr(running, "run_training", lambda *_: [lost])
    (work,) = Stations(real, open_store(real), Packing(), "").train(
        [Work(0, "unkept", manifest.plan, manifest.prepared)]
    )
    assert isinstance(work.error, ServiceError) and "not all in the store" in str(work.error)
