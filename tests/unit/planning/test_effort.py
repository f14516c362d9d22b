"""What a run will do is counted as the line does it."""

from pathlib import Path

from ti_core.config import DEFAULTS, ConceptSpec, EvaluationConfig, TrainingConfig
from ti_core.planning.effort import Effort, efforts
from ti_core.planning.protocols import sets_of
from ti_core.records import PromptSet
from ti_core.settings import Settings

SELECT = PromptSet(plain=("a {}", "the {}"), edit=("a red {}",), seeds=(0, 1, 2, 3))
REPORT = PromptSet(plain=("my {}", "one {}", "this {}", "that {}"), edit=("a blue {}",), seeds=(10, 11, 12, 13))


def effort(kind: str, *, halving: bool | None = None, **training: int) -> Effort:
    said = {} if halving is None else {"halving": halving}
    evaluation = EvaluationConfig(**said).resolved(kind)
    return Effort.of(TrainingConfig(**training).resolved(kind, 64), evaluation, SELECT, REPORT)


def test_counted_by_hand() -> None:
    made = effort("sd1", steps=10, batch_size=2, accumulation=3, checkpoint_every=4)
    assert (made.steps, made.samples, made.checkpoints) == (10, 60, 3)
    choosing, reporting, neutral = (1 + 3) * 3 * 4, 2 * 5 * 4, 4 * 4
    assert made.pictures == choosing + reporting + neutral
    assert made.judging_passes == 2 * 25 * made.pictures and made.training_passes == 2 * 60


def test_halving_judges_fewer_seeds_of_fewer_steps() -> None:
    """Rungs of 1, 1 and 2 seeds; 8, 4 and 2 steps."""
    made, full = (effort("sd1", steps=8, checkpoint_every=1, halving=one) for one in (True, False))
    assert full.pictures - made.pictures == 3 * (8 * 4 - (8 * 1 + 4 * 1 + 2 * 2))


def test_the_defaults_keep_judging_in_proportion(tmp_path: Path) -> None:
    """By the prompts that are judged by default; before decision 0018 it was 7.8 and 1.5."""
    shares, concept = {}, ConceptSpec(name="cat-toy", pictures="pictures", class_word="toy")
    for kind in ("sd1", "sd2", "sdxl"):
        training, evaluation = TrainingConfig().resolved(kind, 512), EvaluationConfig().resolved(kind)
        made = Effort.of(training, evaluation, *sets_of(evaluation, kind, concept, Settings(home=tmp_path)))
        shares[kind] = made.judging_passes / made.training_passes
    assert shares["sd1"] == shares["sd2"] < 1.0
    assert shares["sdxl"] < 4.0


def test_presets_take_what_their_words_say() -> None:
    """`flows.options.Preset`: half as long and two to three times the work; the reporting set is the same for all."""
    for kind in DEFAULTS:
        quick, standard, careful = efforts(kind).values()
        assert quick.samples <= 0.6 * standard.samples and careful.samples == 2 * standard.samples
        whole = [one.training_passes + one.judging_passes for one in (quick, standard, careful)]
        assert 0.4 < whole[0] / whole[1] < 0.7 and 2 < whole[2] / whole[1] < 3
        assert careful.checkpoints == 2 * standard.checkpoints
