"""What benchmarks on real servers share: the deployments registered, a batch run to its end, its packs and their times. It
starts no server and knows no benchmark."""

import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun

from tests.servers import plain_environment

ROOT = Path(__file__).resolve().parent.parent


def registered(folder: Path, api: str, source: str) -> dict[str, str]:
    """Register the deployments, with what the nightly batch trains; returns the environment of a process that is to know
    this Prefect server and nothing of the developer's settings."""
    people = plain_environment(folder) | {"PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "client")}
    people["PATH"] = f"{Path(sys.executable).parent}:{people['PATH']}"
    subprocess.run(
        [ROOT / "deployments" / "setup.sh"], env=people | {"PSEUDOWORD_SOURCE": source}, cwd=folder, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return people


def start_batch(server: SyncPrefectClient, parameters: Mapping[str, Any]) -> FlowRun:
    """Ask for a run of the deployment train-batch."""
    deployment = server.read_deployment_by_name("train-batch/train-batch")
    return server.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters))


def run_batch(server: SyncPrefectClient, parameters: Mapping[str, Any]) -> FlowRun:
    """A batch, from being asked for to its end."""
    flow_run = start_batch(server, parameters)
    while not (flow_run.state and flow_run.state.is_final()):
        time.sleep(1)
        flow_run = server.read_flow_run(flow_run.id)
    print(f"{flow_run.name}: {flow_run.state.name} | {flow_run.state.message}", file=sys.stderr)
    return flow_run


def packs_of(server: SyncPrefectClient, run_id: UUID) -> list[FlowRun]:
    """The runs of a batch's packs, in the order in which they were asked for."""
    packs = server.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["train-pack"])),
        flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id])),
    )
    return sorted(packs, key=lambda one: str(one.created))


def at(moment: datetime | None) -> float:
    """A moment of a run that is over, in seconds."""
    assert moment  # noqa: S101  # for the type checker
    return moment.timestamp()


def gaps(packs: list[FlowRun], workers: int) -> float:
    """Seconds from a pack's end on a worker to the beginning of the next, on average: the worker's poll and the start of a
    process."""
    ends = sorted(at(one.end_time) for one in packs)
    starts = sorted(at(one.start_time) for one in packs)[workers:]
    waits = [start - end for end, start in zip(ends, starts, strict=False)]
    return round(sum(waits) / len(waits), 2) if waits else 0.0
