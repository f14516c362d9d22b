"""What a run will do, counted before anything is done: steps, samples, pictures, passes of the U-Net. No torch."""

from dataclasses import dataclass
from math import ceil

from ti_core.choosing.halving import Rung, ladder
from ti_core.config import PRESETS, BackboneKind, EvaluationConfig, PresetName, TrainingConfig
from ti_core.planning.prompts import prompt_sets
from ti_core.planning.protocols import NEUTRAL_SEEDS, reseeded
from ti_core.records import PromptSet

TILE_BYTES = 3 * 160**2
"""Of a picture on a contact sheet, at most."""


@dataclass(frozen=True)
class Effort:
    """What is counted of one run that starts from nothing. A duel with a champion, which a run that is accepted may
    have to win, comes on top: as many pictures as the reporting set has, twice."""

    steps: int
    samples: int
    """Of all steps: each is one pass of the U-Net forward and one back."""
    checkpoints: int
    pictures: int
    """That are made and judged."""
    judging_passes: int
    """Of the U-Net, for all pictures: two for each step of the sampler, with the prompt and without it."""

    @property
    def training_passes(self) -> int:
        """Of the U-Net, forward and back; a pass back costs about one forward (866 of 803 GFLOP for SD 1.5)."""
        return 2 * self.samples

    @classmethod
    def of(
        cls, training: TrainingConfig, evaluation: EvaluationConfig, select: PromptSet, report: PromptSet,
        imported: bool = False,
    ) -> "Effort":  # fmt: skip
        """Count; both configurations are resolved. What is imported is not trained, and is one checkpoint."""
        steps = 0 if imported else training.steps
        checkpoints = 1 if imported else ceil(steps / training.checkpoint_every)
        in_full = Rung(select.seeds, 0)
        rungs = ladder(select.seeds, checkpoints) if evaluation.halving else (in_full,)
        alive, of_steps = checkpoints, 0
        for rung in rungs:
            of_steps += alive * len(rung.seeds)
            alive = rung.keep
        class_word = len(select.seeds)
        pictures = (class_word + of_steps) * (len(select.plain) + len(select.edit))
        pictures += 2 * len(report.seeds) * (len(report.plain) + len(report.edit))
        pictures += len(report.plain) * min(NEUTRAL_SEEDS, len(report.seeds))
        return cls(
            steps=steps,
            samples=steps * training.batch_size * training.accumulation,
            checkpoints=checkpoints,
            pictures=pictures,
            judging_passes=2 * pictures * evaluation.sampler_steps,
        )


def efforts(kind: BackboneKind) -> dict[PresetName, Effort]:
    """What one object takes on a kind of base model where nothing but the preset is said."""
    made = dict[PresetName, Effort]()
    for preset in PRESETS:
        evaluation = EvaluationConfig().resolved(kind, preset)
        sets = reseeded(prompt_sets(kind, "object", 1), evaluation, kind)
        made[preset] = Effort.of(TrainingConfig().resolved(kind, 8, preset), evaluation, *sets)
    return made
