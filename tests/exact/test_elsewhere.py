"""Words from elsewhere on the miniature: judged as they are, trained from, and finished words trained longer."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.judged_run import JudgedRun
from ti_core import formats, stations
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.line import Line
from ti_core.planning import protocols
from ti_core.planning.batch import BatchItem
from ti_core.planning.plan import make_plan
from ti_core.publishing.catalogue import champion_of, manifest_at
from ti_core.records import Checkpoint, Given, Plan, PromptSet, manifest_key
from ti_core.reporting.pages import page_path
from ti_core.settings import Settings
from ti_core.starts import find_given, keep_given
from ti_core.store import Store, get_blob, open_store
from ti_core.training.longer import of_shorter_run
from ti_core.training.running import prepare, run_training
from ti_core.works import Asked

MOSS = "examples/concepts/moss"
QUICK = EvaluationConfig(seeds=2, sampler_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    return Settings(home=folder / "home", device="cpu", allowed_roots=(Path.cwd(), folder))


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    rows = np.random.default_rng(0).normal(0, 0.05, (3, 128)).astype(np.float32)
    save_file({"emb_params": rows}, folder / "elsewhere.safetensors")
    return folder / "elsewhere.safetensors"


def planned(settings: Settings, store: Store, given: Given | None = None, start: str = "", **training: object) -> Plan:
    chosen = {"steps": 6, "batch_size": 2, "checkpoint_every": 2} | training
    return make_plan(
        ConceptSpec(name="moss", pictures=MOSS, class_word="monster", initializer=start),
        TrainingConfig.model_validate(chosen), QUICK, SelectionRule(), "miniature", settings, store, given,
    )  # fmt: skip


def trained(plan: Plan, settings: Settings, store: Store) -> tuple[list[tuple[int, str]], list[int]]:
    """Steps and blobs of the checkpoints, and the steps that were told of."""
    told: list[int] = []
    work = [(plan, prepare(plan, settings, store))]
    (made,) = run_training(work, Packing(), settings, store, lambda event: told.append(event.step), lambda _: None)
    return [(one.step, one.vectors) for one in made.checkpoints], told


def test_a_finished_word_is_trained_longer_to_the_bit(folder: Path, settings: Settings, store: Store) -> None:
    """Six steps after four are the six steps from the start."""
    short = planned(settings, store, steps=4)
    first, _ = trained(short, settings, store)
    checkpoints = tuple(Checkpoint(step=step, vectors=blob, norm=1.0, loss=0.1) for step, blob in first)
    finished = JudgedRun(name="moss").manifest.model_copy(update={"plan": short, "checkpoints": checkpoints})
    store.create(manifest_key(short), finished.to_bytes())

    longer, told = trained(planned(settings, store, steps=6), settings, store)
    apart = Settings(home=folder / "apart", device="cpu", allowed_roots=settings.allowed_roots)
    at_once, all_told = trained(planned(apart, open_store(apart), steps=6), apart, open_store(apart))
    assert longer == at_once and longer[:2] == first
    assert min(told) > 4 and min(all_told) == 2

    for other in ({"seed": 1}, {"learning_rate": 1e-3}, {"checkpoint_every": 3}, {"schedule": "linear"}, {"steps": 3},
                  {"stop_early": True}):  # fmt: skip
        plan = planned(settings, store, **({"steps": 6} | other))
        assert of_shorter_run(store, plan) == (None, []), f"{other} is another training"


def test_training_starts_from_a_file(settings: Settings, store: Store, file: Path) -> None:
    concept = ConceptSpec(name="moss", pictures=MOSS, class_word="monster", initializer=str(file))
    plan = planned(settings, store, find_given(concept, "miniature", settings), str(file), steps=2)
    assert plan.concept.vectors == 3 and plan.train_key != planned(settings, store, steps=2).train_key
    keep_given(plan, settings, store)
    ((_, blob),), _ = trained(plan, settings, store)
    learned = formats.read_checkpoint(get_blob(store, blob), "it")["clip_l"]
    assert plan.given is not None
    start = formats.read_checkpoint(get_blob(store, plan.given.vectors), "it")["clip_l"]
    assert 0 < np.abs(learned - start).max() < 0.05


def test_a_word_from_elsewhere_is_judged(
    settings: Settings, store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the line and its protocol, as one checkpoint; taken for accepted here, as these vectors are random."""

    def short_sets(_backbone: str, _kind: str, seeds: int) -> tuple[PromptSet, PromptSet]:
        select = PromptSet(plain=("a photo of a {}", "the {}"), edit=("a blue {}", "a red {}"), seeds=(1, 2)[:seeds])
        plain = ("a picture of a {}", "one {}", "my {}", "a nice {}")
        return select, PromptSet(plain=plain, edit=("a small {}", "a big {}"), seeds=(50, 51))

    report = stations.report
    monkeypatch.setattr(protocols, "prompt_sets", short_sets)
    monkeypatch.setattr(stations, "report", lambda *given: report(*given).model_copy(update={"verdict": "accepted"}))
    concept = ConceptSpec(
        name="mossy", pictures=MOSS, class_word="monster", initializer=str(file), imported=True
    )  # fmt: skip
    asked = Asked(evaluation=QUICK, rule=SelectionRule(resamples=100), base_model="miniature")
    (work,) = Line(settings, store).run([BatchItem("mossy", concept)], asked)
    assert work.error is None and work.outcome is not None
    assert (work.outcome.status, work.outcome.step, work.outcome.champion) == ("published", 1, True)
    manifest = manifest_at(store, work.outcome.manifest)
    assert manifest.plan.given and [one.vectors for one in manifest.checkpoints] == [manifest.plan.given.vectors]
    page = page_path(settings, "mossy", "miniature", work.outcome.judge_key).read_text()
    assert "imported from elsewhere.safetensors" in page and "train longer" not in page
    found = champion_of(store, "mossy", "miniature")
    assert found and found.judged
    (again,) = Line(settings, store).run([BatchItem("mossy", concept)], asked)
    assert again.known and again.outcome == work.outcome
