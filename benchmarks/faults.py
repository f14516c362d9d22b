"""What becomes of a batch whose servers and workers die, hang and restart? The stack of `ti up`, and one fault after another.

    python benchmarks/faults.py                          # about an hour, most of it waiting; resumable
    python benchmarks/faults.py --only gpu-0 --kinds killed

Batches of four tiny concepts run on the servers of one machine as `ti up` starts them. In each, one program meets the same
fault three times: while a pack is trained, while it is judged, and while its words are published. A program is killed (kill
-9 of it and all that descends from it), hangs (SIGSTOP for a minute), or is restarted (SIGTERM; supervisor starts it again).
Nobody does anything else. Told is how much longer the batch took than an undisturbed one, how it and its runs ended, and what
the store has of its concepts: one outcome each and no version twice. Outcomes are kept in work/faults; writes
docs/benchmarks/faults.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import httpx
import psutil
from botocore.config import Config
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from benchmarks.deployed import packs_of, start_batch
from flows.serving.programs import GRPC
from flows.serving.stack import Stack, kept
from flows.serving.supervising import Supervisor
from tests.servers import free_ports, free_row, plain_environment

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "work" / "faults"
TOLD = WORK / "told.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "faults.md"
EXAMPLES = sorted(one for one in (ROOT / "examples" / "concepts").iterdir() if one.is_dir())
PROGRAMS = {
    "store": "SeaweedFS", "mlflow": "MLflow", "prefect": "Prefect's server", "cpu": "the coordinator's worker",
    "gpu-0": "the worker that trains",
}  # fmt: skip
KINDS = {"killed": "killed", "hangs": "hangs for a minute", "restarted": "restarted"}
MOMENTS = ("train", "evaluate", "register")
"""Beginnings of the names of the task runs in which a fault is made."""
CONCEPTS, HANGS = 4, 60.0
PARAMETERS = {
    "class_word": "monster",
    "training": {"steps": 100, "checkpoint_every": 50},
    "evaluation": {"protocol": "quick", "sampler_steps": 4},
}
PATIENCE = 1_500.0
"""Seconds after which a batch counts as lost."""


def main() -> None:
    """Run what was not run yet, and write the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="*", default=list(PROGRAMS), choices=PROGRAMS)
    options.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    given = options.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    done = {(one["program"], one["kind"]) for one in told()}
    wanted = [(program, kind) for kind in given.kinds for program in given.only]
    open_still = [one for one in wanted if one not in done]
    if open_still:
        with servers(WORK / f"stack-{int(time.time())}") as bench:
            calm = 0
            for program, kind in [("", ""), *open_still]:
                outcome = bench.batch(program, kind)
                calm = calm or outcome["seconds"]
                print(json.dumps(outcome), flush=True)
                with TOLD.open("a") as file:
                    file.write(json.dumps(outcome | {"calm": calm}) + "\n")
    PAGE.write_text(page(told()))


def told() -> list[dict[str, Any]]:
    """What was found so far."""
    return [json.loads(line) for line in TOLD.read_text().splitlines()] if TOLD.is_file() else []


@contextmanager
def servers(folder: Path) -> Iterator["Bench"]:
    """A stack in a folder of its own, until the end of the block."""
    folder.mkdir(parents=True)
    mlflow, prefect = free_ports(2)
    ports = ["--s3-port", str(free_row(5, GRPC)), "--mlflow-port", str(mlflow), "--prefect-port", str(prefect)]
    environment = plain_environment(folder) | {
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'miniature' / 'package'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    command = [sys.executable, "-m", "flows.cli"]
    subprocess.run([*command, "up", *ports], cwd=folder, env=environment, check=True)
    try:
        stack = kept(folder / "servers")
        assert stack  # noqa: S101  # for the type checker
        yield Bench(folder, stack)
    finally:
        subprocess.run([*command, "down"], cwd=folder, env=environment, check=False)


class Bench:
    """Batches on a stack, and faults in them."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self._supervisor, self._stack, self._number = Supervisor(folder / "servers"), stack, 0
        self._server = SyncPrefectClient(f"{stack.prefect_url}/api")
        self._bucket = boto3.session.Session().client(
            "s3", endpoint_url=stack.s3_url, region_name="us-east-1", aws_access_key_id=stack.access_key,
            aws_secret_access_key=stack.secret_key, config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip

    def batch(self, program: str, kind: str) -> dict[str, Any]:
        """A batch of new concepts, in which a program meets a fault at every moment; none with ""."""
        names = self._upload()
        asked = PARAMETERS | {"source": f"s3://words/pictures/{names[0].rpartition('-')[0]}"}
        flow_run = start_batch(self._server, asked)
        began, made = time.monotonic(), []
        for moment in MOMENTS if program else ():
            if not self._wait_for(flow_run.id, moment):
                break
            self._fault(program, kind)
            made.append(moment)
        ended = self._end(flow_run.id)
        seconds = time.monotonic() - began
        packs = self._packs(flow_run.id) if ended else []
        state = ended.state if ended else None
        return {
            "program": program, "kind": kind, "moments": made, "seconds": round(seconds),
            "ended as": f"{state.name}: {state.message}" if state else f"not ended after {PATIENCE:.0f} s",
            "states": self._story(flow_run.id),
            "packs": [f"{one.name.partition(' pack ')[2]}: {one.state.name if one.state else ''}" for one in packs],
            **self._kept(names),
        }  # fmt: skip

    def _upload(self) -> list[str]:
        """Pictures that no concept before had, under names that none had."""
        self._number += 1
        kind = f"night{self._number:02}{int(time.time()) % 10_000}"
        names = [f"{kind}-{place}" for place in range(CONCEPTS)]
        for place, name in enumerate(names):
            example = EXAMPLES[(self._number * CONCEPTS + place) % len(EXAMPLES)]
            for file in sorted(example.glob("*.png")):
                key = f"pictures/{kind}/{name}/{file.name}"
                self._bucket.put_object(Bucket="words", Key=key, Body=file.read_bytes())
        return names

    def _wait_for(self, run_id: UUID, moment: str) -> bool:
        """Wait until a task run of this kind goes on in a pack; no where the batch ends before."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            run = self._asked(self._server.read_flow_run, run_id)
            if run and run.state and run.state.is_final():
                return False
            ids = [one.id for one in self._packs(run_id) if one.state and one.state.is_running()]
            tasks = self._asked(self._tasks, ids) if ids else None
            if any(one.name.startswith(moment) and one.state and one.state.is_running() for one in tasks or ()):
                return True
            time.sleep(0.3)
        return False

    def _tasks(self, ids: list[UUID]) -> Any:
        return self._server.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))

    def _fault(self, program: str, kind: str) -> None:
        process = psutil.Process(self._supervisor.pids()[program])
        every = [process, *process.children(recursive=True)]
        match kind:
            case "restarted":
                process.terminate()
            case "killed":
                self._send(every, signal.SIGKILL)
            case _:
                self._send(every, signal.SIGSTOP)
                time.sleep(HANGS)
                self._send(every, signal.SIGCONT)

    @staticmethod
    def _send(processes: list[psutil.Process], sign: int) -> None:
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(sign)

    def _end(self, run_id: UUID) -> FlowRun | None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            run = self._asked(self._server.read_flow_run, run_id)
            # A crashed coordinator is given to a worker again within seconds.
            if run and run.state and run.state.is_final() and not run.state.is_crashed():
                return run
            time.sleep(1)
        return None

    def _packs(self, run_id: UUID) -> list[FlowRun]:
        return self._asked(packs_of, self._server, run_id) or []

    def _story(self, run_id: UUID) -> list[str]:
        """The states that the batch's run went through, each once in a row."""
        states = self._asked(self._server.read_flow_run_states, run_id) or []
        names = [str(state.name) for state in states]
        return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]

    @staticmethod
    def _asked(ask: Any, *words: Any, **named: Any) -> Any:
        """What the server answers; None while it does not."""
        try:
            return ask(*words, **named)
        except (httpx.TransportError, PrefectHTTPStatusError):
            return None

    def _kept(self, names: list[str]) -> dict[str, Any]:
        """What the store has of these concepts: outcomes that are missing or doubled, versions that are doubled."""
        lost, doubled, outcomes = 0, 0, Counter[str]()
        for name in names:
            pages = self._bucket.get_paginator("list_objects_v2").paginate(
                Bucket="words", Prefix=f"store/concepts/{name}/"
            )
            keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
            found = [key for key in keys if "/outcome-" in key]
            versions = [key for key in keys if "/versions/" in key]
            lost += not found
            doubled += len(found) > 1 or len(versions) > 1
            for key in found:
                outcomes[json.loads(self._bucket.get_object(Bucket="words", Key=key)["Body"].read())["status"]] += 1
        return {"lost": lost, "doubled": doubled, "outcomes": dict(outcomes)}


def page(rows: list[dict[str, Any]]) -> str:
    """The page in Markdown."""
    rows = sorted(rows, key=lambda one: ["", *KINDS].index(one["kind"]))
    calm = sorted({one["calm"] for one in rows})
    lines = [
        "# Servers and workers that meet a fault", "",
        f"Made by `python benchmarks/faults.py` on two cores, with the stack of `ti up` and batches of {CONCEPTS} tiny concepts in one pack. In each batch one program meets the same fault "
        f"{len(MOMENTS)} times: while the pack is trained, judged and published. Undisturbed such a batch took {' to '.join(map(str, (calm[0], calm[-1])))} s, and each row is compared with the one that was run before its own. Nobody did anything; supervisor starts again what ends.", "",
        "| what | fault | made while | longer by | the batch ended as | its run's states | runs of its packs | concepts lost | doubled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in rows:
        if one["program"]:
            lines.append(
                f"| {PROGRAMS[one['program']]} | {KINDS[one['kind']]} | {', '.join(one['moments'])} | {one['seconds'] - one['calm']} s "
                f"| {one['ended as'].partition(':')[0]} | {' → '.join(one['states'])} | {', '.join(one['packs'])} | {one['lost']} | {one['doubled']} |"
            )
    lost, doubled = (sum(one[what] for one in rows) for what in ("lost", "doubled"))
    lines += ["", f"In all {len(rows)} batches of {CONCEPTS} concepts: {lost} lost, {doubled} doubled.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
