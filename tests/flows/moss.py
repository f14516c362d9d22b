"""The one small real run that all tests of the flows look at; the fixture `moss` makes it."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, TaskRun

from ti_core.config import ConceptSpec, EvaluationConfig, TrainingConfig
from ti_core.records import Outcome
from ti_core.settings import Settings

MOSS = Path(__file__).parents[2] / "examples/concepts/moss"
TRAINING = TrainingConfig(steps=20, checkpoint_every=10, batch_size=4)
EVALUATION = EvaluationConfig(seeds=2, sampler_steps=4)


@dataclass(frozen=True)
class Run:
    """A run that has ended: its data folder, what it was asked, its flow run and its outcome."""

    home: Path
    concept: ConceptSpec
    flow_run: FlowRun
    outcome: Outcome

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)


def task_runs(flow_run: UUID, wanted: int) -> dict[str, TaskRun]:
    """The ended task runs of a flow run by name. Prefect records them from events, a moment later."""
    one = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    with get_client(sync_client=True) as client:
        for _ in range(300):
            found = client.read_task_runs(flow_run_filter=one)
            if len(found) >= wanted and all(run.state and run.state.is_final() for run in found):
                break
            time.sleep(0.1)
    assert not [name for name, count in Counter(run.name for run in found).items() if count > 1]
    return {run.name: run for run in found}


def packs_of(batch: UUID) -> list[UUID]:
    """The flow runs of a batch's packs."""
    flow = FlowFilter(name=FlowFilterName(any_=["train-pack"]))
    parent = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[batch]))
    with get_client(sync_client=True) as client:
        return [run.id for run in client.read_flow_runs(flow_filter=flow, flow_run_filter=parent)]
