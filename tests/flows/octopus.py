"""The one small real run that all tests of the flows look at; the fixture `octopus` makes it."""

from dataclasses import dataclass
from pathlib import Path

from prefect.client.schemas.objects import FlowRun

from ti_core.config import ConceptSpec, EvaluationConfig, TrainingConfig
from ti_core.records import Outcome
from ti_core.settings import Settings

OCTOPUS = Path(__file__).parents[2] / "examples/concepts/octopus"
TRAINING = TrainingConfig(steps=20, checkpoint_every=10, batch_size=4)
EVALUATION = EvaluationConfig(seeds=1)


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
