"""What does a concept ask of each server? CPU time, requests and rows, counted on real servers: what `scale.py` is fed.

    python benchmarks/services.py                                        # three batches of 8 and 24 on one worker
    python benchmarks/services.py --check                                # a batch of 200 on two workers
    python benchmarks/services.py --check --concepts 8                   # the path alone; writes no figures

S3 (SeaweedFS), Prefect and MLflow on SQLite, a worker for coordinators, and workers that train the least that can be
trained (tiny concepts): what a concept costs the servers does not depend on how long its training takes, but for what is
sent at intervals, which is measured by itself. Batches of different size, in packs of different size, tell what a batch, a pack and a
concept cost each. CPU time is that of a server's processes during the batch less what it takes idle, by the utilisation
law the mean service demand (Denning and Buzen 1978). Writes docs/benchmarks/services.json.
"""

import argparse
import json
import sqlite3
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from benchmarks.deployed import ROOT, at, gaps, packs_of, registered, run_batch
from flows.executors import ASKED
from tests.servers import S3Server, mlflow_server, prefect_server, prefect_worker, seaweedfs

FIGURES = ROOT / "docs" / "benchmarks" / "services.json"
EXAMPLES = sorted(one for one in (ROOT / "examples" / "concepts").iterdir() if one.is_dir())
MEASURED = ((8, 8), (24, 4), (24, 12))
"""Batches that are measured: so many concepts, in packs of so many at most."""
CHECKED = (200, 16)
LEAST = {
    "training": {"steps": 2, "checkpoint_every": 2, "batch_size": 2},
    "evaluation": {"protocol": "quick", "sampler_steps": 2},
}
IDLE_SECONDS, CALLS = 30.0, 200
LATE_SECONDS = 5.0
"""Within which a server has written down what it was told of."""


def main() -> None:
    """Measure, and write down."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true")
    options.add_argument("--concepts", type=int, default=0)
    given = options.parse_args()
    figures = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    if given.check:
        figures["checked"] = on_servers(given.concepts or CHECKED[0], CHECKED[1], workers=2)
    else:
        measured = [(given.concepts, given.concepts)] if given.concepts else MEASURED
        figures["batches"] = [
            # A process sends its events to the first server that it has known: calls are measured there.
            on_servers(concepts, size, workers=1, calling=number == 0)
            for number, (concepts, size) in enumerate(measured)
        ]
    print(json.dumps(figures, indent=1))
    if not given.concepts:
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")


def on_servers(concepts: int, pack_size: int, workers: int, calling: bool = False) -> dict[str, Any]:
    """One batch on servers of its own, from being asked for to its end, and what it took of them; with `calling` also
    what one call takes of Prefect's."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        folder = Path(temporary)
        names = ("s3", "prefect", "mlflow", "coordinator", *(f"worker-{number}" for number in range(workers)))
        started = iter(names)
        processes = dict[str, psutil.Process]()

        def start(context: Any) -> Any:
            before = {one.pid for one in psutil.Process().children()}
            value = running.enter_context(context)
            (new,) = (one for one in psutil.Process().children() if one.pid not in before)
            processes[next(started)] = new
            return value

        s3: S3Server = start(seaweedfs(folder / "s3"))
        api: str = start(prefect_server(folder / "prefect"))
        tracking: str = start(mlflow_server(folder / "mlflow"))
        upload(s3, concepts)
        source = f"s3://{s3.bucket}/pictures"
        people = registered(folder, api, source)
        work = people | s3.environment | {
            "PSEUDOWORD_STORE": f"s3://{s3.bucket}/store", "PSEUDOWORD_TRACKING_URI": tracking, "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        for name in names[3:]:
            own = work | {"PSEUDOWORD_HOME": str(folder / name / "home")}
            queues, limit = (["cpu"], 4) if name == "coordinator" else (["gpu-interactive", "gpu-batch"], 1)
            start(prefect_worker(folder / name, api, "pseudoword", own, queues, limit))
        server, clock = SyncPrefectClient(api), Clock(processes)
        idle = clock.shares(lambda: time.sleep(IDLE_SECONDS))
        before = rows(folder) | {"s3 requests": requests(s3)}
        parameters = LEAST | {"source": source, "class_word": "monster", "packing": {"pack_size": pack_size}}
        began = clock.read()
        flow_run = run_batch(server, parameters)
        took, wall = clock.since(began)
        after = rows(folder) | {"s3 requests": requests(s3)}
        packs = packs_of(server, flow_run.id)
        told = {
            "concepts": concepts, "pack size": pack_size, "packs": len(packs), "workers": workers,
            "ended as": str(flow_run.state.name if flow_run.state else ""),
            "wall": round(at(flow_run.end_time) - at(flow_run.created), 1),
            "until it began": round(at(flow_run.start_time) - at(flow_run.created), 2),
            "before the first pack": round(at(packs[0].created) - at(flow_run.start_time), 2),
            "after the last pack": round(at(flow_run.end_time) - max(at(one.end_time) for one in packs), 2),
            "packs' seconds": [round(at(one.end_time) - at(one.start_time), 1) for one in packs],
            "between packs": gaps(packs, workers),
            "between starts": round((at(packs[-1].created) - at(packs[0].created)) / max(1, len(packs) - 1), 3),
            "cpu seconds": {name: round(took[name] - idle[name] * wall, 2) for name in names},
            "idle share of a core": {name: round(share, 4) for name, share in idle.items()},
            "new": {name: after[name] - before[name] for name in after},
        }  # fmt: skip
        if calling:
            with temporary_settings({PREFECT_API_URL: api}):  # an event goes where the settings say
                told["cpu seconds of a call"] = calls(server, clock, idle["prefect"], flow_run, packs)
        return told


class Clock:
    """CPU seconds of processes and all that descend from them, also of those that have ended."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes

    def read(self) -> tuple[dict[str, float], float]:
        """Seconds of each so far, and the time of day."""
        return {name: self._of(one) for name, one in self._processes.items()}, time.monotonic()

    def since(self, began: tuple[dict[str, float], float]) -> tuple[dict[str, float], float]:
        """CPU seconds of each since then, and seconds on the wall."""
        now, clock = self.read()
        return {name: now[name] - began[0][name] for name in now}, clock - began[1]

    def shares(self, work: Callable[[], object]) -> dict[str, float]:
        """CPU seconds of each in a second while something is done."""
        began = self.read()
        work()
        took, wall = self.since(began)
        return {name: seconds / wall for name, seconds in took.items()}

    @staticmethod
    def _of(process: psutil.Process) -> float:
        total = 0.0
        for one in (process, *process.children(recursive=True)):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total


def upload(s3: S3Server, concepts: int) -> None:
    """So many concepts of which no two are alike: an example's pictures, each time without another one."""
    client = s3.client()
    for number in range(concepts):
        example, turn = EXAMPLES[number % len(EXAMPLES)], number // len(EXAMPLES)
        files = sorted(example.glob("*.png"))
        for file in files[: turn % len(files)] + files[turn % len(files) + (1 if turn else 0) :]:
            key = f"pictures/concept-{number:04}/{file.name}"
            client.put_object(Bucket=s3.bucket, Key=key, Body=file.read_bytes())


def calls(
    server: SyncPrefectClient, clock: Clock, idle: float, flow_run: FlowRun, packs: list[FlowRun]
) -> dict[str, float]:
    """CPU seconds that the Prefect server takes for one request of each kind that is sent at intervals, with the events
    that go with it; packs are looked at in as many at once as a coordinator does. `idle` seconds in each second are taken
    by other things."""
    artifact = server.create_artifact(ArtifactCreate(key="measured", type="progress", data=0.0))

    def update() -> None:
        server.update_artifact(UUID(str(artifact.id)), ArtifactUpdate(data=50.0, description="measured"))

    def poll() -> None:
        server.get_scheduled_flow_runs_for_work_pool("pseudoword", ["gpu-batch"])

    told = dict[str, float]()

    def measure(name: str, call: Callable[[], object], times: int) -> None:
        began = clock.read()
        for _ in range(times):
            call()
        time.sleep(LATE_SECONDS)
        took, wall = clock.since(began)
        told[name] = round((took["prefect"] - idle * wall) / times, 5)

    measure("a worker's poll", poll, CALLS)
    measure("progress", update, CALLS)
    measure("a look at one's own state", lambda: server.read_flow_run(flow_run.id), CALLS)
    pack, never = packs[0], Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=365))
    assert pack.deployment_id  # noqa: S101  # for the type checker
    waiting = [
        server.create_flow_run_from_deployment(pack.deployment_id, parameters=pack.parameters, state=never).id
        for _ in range(ASKED)
    ]
    some = FlowRunFilter(id=FlowRunFilterId(any_=waiting))
    measure(f"a worker's poll where {ASKED} packs wait", poll, CALLS // 10)
    look = f"a look at {ASKED} packs"
    measure(look, lambda: server.read_flow_runs(flow_run_filter=some, limit=ASKED), CALLS // 10)
    return told


def requests(s3: S3Server) -> int:
    """How many requests the S3 server has answered so far."""
    with urllib.request.urlopen(s3.metrics, timeout=10) as response:  # noqa: S310  # our own server's address
        text = response.read().decode()
    return round(
        sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("SeaweedFS_s3_request_total{"))
    )


def rows(folder: Path) -> dict[str, int]:
    """Rows in the databases of the servers, and their bytes."""
    told = {}
    for name, file in {"prefect": folder / "prefect" / "prefect.db", "mlflow": folder / "mlflow" / "mlflow.db"}.items():
        copy = folder / f"{name}-copy.db"
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as source, sqlite3.connect(copy) as target:
            source.backup(target)
            told[f"{name} rows"] = sum(_count(target))
        told[f"{name} bytes"] = copy.stat().st_size
        copy.unlink()
    objects = [file for file in (folder / "s3").rglob("*.dat") if file.is_file()]
    told["s3 bytes"] = sum(file.stat().st_size for file in objects)
    return told


def _count(database: sqlite3.Connection) -> Iterator[int]:
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        yield database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608  # a table's own name


if __name__ == "__main__":
    main()
