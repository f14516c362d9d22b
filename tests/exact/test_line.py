"""The line over a list on the miniature, called plainly: what fails stops nobody; judging again, nothing trained."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ti_core import formats, stations
from ti_core.backbone.folder import MINIATURE
from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.errors import InputError, NotFoundError
from ti_core.judging import scoring
from ti_core.judging.scoring import judge
from ti_core.line import Line
from ti_core.planning import protocols
from ti_core.planning.batch import BatchItem
from ti_core.planning.plan import make_plan, replan
from ti_core.publishing.catalogue import blobs_of, find, manifest_of, manifests_of
from ti_core.publishing.transaction import keep
from ti_core.records import Checkpoint, Manifest, PromptSet, blob_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store, put_blob
from ti_core.training.running import prepare
from ti_core.works import Asked, Work

FIDELITY = SelectionRule(name="fidelity", floor=0.0, resamples=100)
STEPS = (10, 20, 30, 40)


def short_sets(_backbone: str, _kind: str, seeds: int) -> tuple[PromptSet, PromptSet]:
    select = PromptSet(plain=("a photo of a {}", "the {}"), edit=("a blue {}", "a red {}"), seeds=(1, 2)[:seeds])
    plain = ("a picture of a {}", "one {}", "my {}", "a nice {}")
    return select, PromptSet(plain=plain, edit=("a small {}", "a big {}"), seeds=(50, 51))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    roots = (Path.cwd(), tmp_path_factory.getbasetemp())
    return Settings(home=tmp_path_factory.mktemp("home"), device="cpu", allowed_roots=roots)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "prompt_sets", short_sets)


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture(scope="module")
def old(settings: Settings, store: Store) -> Manifest:
    """Four checkpoints of made-up vectors, judged and kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "prompt_sets", short_sets)
        concept = ConceptSpec(name="disco", pictures="examples/concepts/disco", class_word="cat")
        plan = make_plan(
            concept, TrainingConfig(steps=40, checkpoint_every=10), EvaluationConfig(seeds=2, sampler_steps=2),
            SelectionRule(resamples=100), "miniature", settings, store,
        )  # fmt: skip
    prepared = prepare(plan, settings, store)
    checkpoints = []
    for step in STEPS:
        rows = np.random.default_rng(step).normal(0, 0.05, (1, 128)).astype(np.float32)
        blob = put_blob(store, formats.write_checkpoint({"clip_l": rows}))
        checkpoints.append(Checkpoint(step=step, vectors=blob, norm=1.0, loss=0.1))
    work = Work(0, "disco", plan, prepared, checkpoints=tuple(checkpoints))
    line = Line(settings, store)
    (work,) = line.judge([work])
    assert work.error is None
    return keep(store, line.stations.manifest(work))


def again(old: Manifest, settings: Settings, store: Store, *, clip: str = "", rule: SelectionRule = FIDELITY,
          **evaluation: object) -> Manifest:  # fmt: skip
    plan = replan(old.plan, EvaluationConfig(**evaluation), rule, clip, settings)
    return Line(settings, store).judge_again(old, plan)


def test_the_line_judges_what_single_calls_judge(old: Manifest, settings: Settings, store: Store) -> None:
    assert [one.step for one in old.scores] == list(STEPS)
    for one, checkpoint in zip(old.scores, old.checkpoints, strict=True):
        alone = judge(old.plan, old.prepared, one.step, checkpoint.vectors, "select", settings, store)
        np.testing.assert_allclose(one.clip_i.values, alone.clip_i.values, atol=2e-3)
        np.testing.assert_allclose(one.clip_t.values, alone.clip_t.values, atol=2e-3)


def test_another_rule_judges_no_picture_twice(
    old: Manifest, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    stock = scoring.sample_batch
    monkeypatch.setattr(scoring, "sample_batch", lambda *given: judged.append(len(given[3])) or stock(*given))
    made = again(old, settings, store)
    assert made.scores == old.scores and made.anchors == old.anchors
    assert made.plan.train_key == old.plan.train_key and made.plan.judge_key != old.plan.judge_key
    assert made.decision.rule.name == "fidelity"
    best = max(made.decision.candidates, key=lambda one: one.scaled_i)
    assert made.decision.best_step == best.step
    report = 6 * 4  # prompts × seeds
    assert sum(judged) == (0 if made.decision.step == old.decision.step else report)


def test_the_result_lies_beside_the_old_one_and_is_not_made_twice(
    old: Manifest, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = again(old, settings, store, guidance=2.0)
    assert manifest_of(store, made.plan) == made and manifest_of(store, old.plan) == old
    assert {one.plan.judge_key for one in manifests_of(store, "disco", "miniature")} >= {
        old.plan.judge_key, made.plan.judge_key
    }  # fmt: skip
    assert all(store.exists(blob_key(sha256)) for sha256 in blobs_of(made))
    assert made.plan.protocol_digest != old.plan.protocol_digest
    assert np.abs(np.subtract(made.scores[0].clip_i.values, old.scores[0].clip_i.values)).max() > 1e-3
    monkeypatch.setattr(stations, "_request", lambda *_: pytest.fail("it is known"))
    assert again(old, settings, store, guidance=2.0) == made


def test_another_clip_judges_again(old: Manifest, settings: Settings, store: Store, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MINIATURE / "mini-clip", tmp_path / "other-clip"))
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")  # other bytes, so another judge
    made = again(old, settings, store, clip=str(folder))
    assert made.plan.judge.name == str(folder) and made.plan.protocol_digest != old.plan.protocol_digest
    np.testing.assert_allclose(made.scores[1].clip_i.values, old.scores[1].clip_i.values, atol=2e-3)


def test_halving_judges_the_better_steps_on_all_seeds(old: Manifest, settings: Settings, store: Store) -> None:
    made = again(old, settings, store, halving=True, guidance=3.0)
    seeds = {one.step: len(one.clip_i.seeds) for one in made.scores}
    assert sorted(seeds.values()) == [1, 1, 2, 2]
    assert seeds[made.decision.step] == 2
    first = {one.step: one.scaled_i for one in made.decision.candidates if one.seeds == 1}
    assert set(first) == {step for step, count in seeds.items() if count == 1}
    assert "Successive halving made 75%" in made.decision.explanation


def test_runs_are_found_by_the_beginning_of_their_key(old: Manifest, store: Store) -> None:
    assert find("disco", "miniature", old.plan.judge_key[:10], store) == old
    with pytest.raises(NotFoundError, match="No run of disco on miniature has a judge key that begins with zzz"):
        find("disco", "miniature", "zzz", store)
    with pytest.raises(NotFoundError, match="No run of owl on miniature was judged"):
        find("owl", "miniature", "", store)


def test_a_plan_of_another_training_is_refused(old: Manifest, settings: Settings, store: Store) -> None:
    with pytest.raises(InputError, match="another training of disco"):
        Line(settings, store).judge_again(old, old.plan.model_copy(update={"train_key": "t" * 32}))


def test_other_weights_of_the_base_model_are_refused(old: Manifest, settings: Settings) -> None:
    base = old.plan.base.model_copy(update={"digest": "f" * 64})
    with pytest.raises(InputError, match="trained on other weights than those of miniature here"):
        replan(old.plan.model_copy(update={"base": base}), EvaluationConfig(), FIDELITY, "", settings)


def test_a_checkpoint_that_is_gone_takes_its_own_concept_off_the_line(
    old: Manifest, settings: Settings, store: Store
) -> None:
    gone = [one.model_copy(update={"vectors": "0" * 64}) if one.step == 20 else one for one in old.checkpoints]
    whole = Work(0, "disco", old.plan, old.prepared, checkpoints=old.checkpoints)
    broken = Work(1, "disco", old.plan, old.prepared, checkpoints=tuple(gone))
    first, second = Line(settings, store).judge([whole, broken])
    assert first.error is None and first.decision == old.decision and first.report == old.report
    assert isinstance(second.error, NotFoundError) and second.decision is None


def test_what_a_list_knows_is_found_before_anything_is_written(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    disco = ConceptSpec(name="disco", pictures="examples/concepts/disco", class_word="cat")
    items = [
        BatchItem("disco", disco),
        BatchItem("disco", disco.model_copy(update={"class_word": "xyzzy"})),
        BatchItem("Fox", None, "'Fox' cannot name a concept."),
    ]
    empty = open_store(settings, str(tmp_path / "empty"))
    good, unknown, bad = stations.plan(items, Asked(), settings, empty)
    assert good.open and good.planned.concept == disco
    assert "Unknown class word" in str(unknown.error) and "cannot name" in str(bad.error)
    assert not (tmp_path / "empty").exists()
    made = Line(settings, empty).stations.ingest(items, Asked())
    assert [one.place for one in made if one.open] == [0]
    kept = set(empty.keys("blobs/"))
    assert kept == {blob_key(picture.square) for picture in good.planned.images.pictures}


def test_a_picture_that_changes_before_it_is_kept_is_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was made of the first picture for the check is not there any more.
    monkeypatch.setattr("ti_core.images.ingest.KEPT_BYTES", 0)
    monkeypatch.setattr("ti_core.images.ingest.READERS", 1)
    store = open_store(settings, str(tmp_path / "empty"))
    folder = Path(shutil.copytree("examples/concepts/disco", tmp_path / "disco"))
    changing = Settings(home=settings.home, device="cpu", allowed_roots=(tmp_path,))
    item = BatchItem("disco", ConceptSpec(name="disco", pictures=str(folder), class_word="cat"))
    works = stations.plan([item], Asked(), changing, store)
    first = sorted(folder.glob("*.png"))[0]
    first.write_bytes(sorted(folder.glob("*.png"))[1].read_bytes())
    with stations.planned_already(works):
        (work,) = Line(changing, store).stations.ingest([item], Asked())
    assert f"{first.name} in {folder} has changed since it was checked" in str(work.error)
