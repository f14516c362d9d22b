"""Judging again on the miniature: another rule, another sampler, halving; nothing trained, old results untouched."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ti_core import formats, reevaluation
from ti_core.backbone.folder import MINIATURE
from ti_core.choosing.selection import choose, report
from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.errors import InputError, NotFoundError
from ti_core.judging.rounds import Contest, judge_contests
from ti_core.judging.scoring import anchors, judge
from ti_core.planning.plan import make_plan, protocols, replan
from ti_core.publishing.assembly import assemble
from ti_core.publishing.catalogue import blobs_of, find, manifest_of, manifests_of
from ti_core.publishing.transaction import keep
from ti_core.records import Checkpoint, Manifest, PromptSet, blob_key
from ti_core.reevaluation import reevaluate
from ti_core.settings import Settings
from ti_core.store import Store, open_store, put_blob
from ti_core.training.running import prepare

FIDELITY = SelectionRule(name="fidelity", floor=0.0, resamples=100)
STEPS = (10, 20, 30, 40)


def short_sets(_backbone: str, _kind: str, seeds: int) -> tuple[PromptSet, PromptSet]:
    select = PromptSet(plain=("a photo of a {}", "the {}"), edit=("a blue {}", "a red {}"), seeds=(1, 2)[:seeds])
    return select, PromptSet(plain=("a picture of a {}",), edit=("a small {}",), seeds=(50, 51))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), device="cpu", allowed_roots=(Path.cwd(),))


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
        concept = ConceptSpec(name="fox", pictures="examples/concepts/fox", class_word="animal")
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
    begun = Contest(plan=plan, prepared=prepared, checkpoints=tuple(checkpoints))
    (contest,) = judge_contests([begun], settings, store)
    assert contest.ends is not None
    decision = choose(list(contest.scores.values()), contest.ends, plan.rule)
    vectors = next(one.vectors for one in checkpoints if one.step == decision.step)
    word = judge(plan, prepared, 0, None, "report", settings, store)
    chosen = judge(plan, prepared, decision.step, vectors, "report", settings, store)
    told = report(chosen, anchors(plan, prepared, word, settings, store), plan.rule)
    made = assemble(
        plan, prepared, tuple(checkpoints), contest.ends, tuple(contest.scores.values()), decision, told, store
    )
    return keep(store, made)


def again(old: Manifest, settings: Settings, store: Store, *, clip: str = "", rule: SelectionRule = FIDELITY,
          **evaluation: object) -> Manifest:  # fmt: skip
    plan = replan(old.plan, EvaluationConfig(**evaluation), rule, clip, settings)
    return reevaluate(old, plan, settings, store)


def test_a_contest_judges_what_single_calls_judge(old: Manifest, settings: Settings, store: Store) -> None:
    assert [one.step for one in old.scores] == list(STEPS)
    for one, checkpoint in zip(old.scores, old.checkpoints, strict=True):
        alone = judge(old.plan, old.prepared, one.step, checkpoint.vectors, "select", settings, store)
        np.testing.assert_allclose(one.clip_i.values, alone.clip_i.values, atol=2e-3)
        np.testing.assert_allclose(one.clip_t.values, alone.clip_t.values, atol=2e-3)


def test_another_rule_judges_no_picture_twice(
    old: Manifest, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[int, str]] = []
    stock = reevaluation.judge_round
    monkeypatch.setattr(reevaluation, "judge_contests", lambda *_: pytest.fail("the scores are there"))
    monkeypatch.setattr(
        reevaluation, "judge_round",
        lambda requests, *rest: judged.extend((one.step, one.split) for one in requests) or stock(requests, *rest),
    )  # fmt: skip
    made = again(old, settings, store)
    assert made.scores == old.scores and made.anchors == old.anchors
    assert made.plan.train_key == old.plan.train_key and made.plan.judge_key != old.plan.judge_key
    assert made.decision.rule.name == "fidelity"
    best = max(made.decision.candidates, key=lambda one: one.scaled_i)
    assert made.decision.best_step == best.step
    assert judged == ([] if made.decision.step == old.decision.step else [(made.decision.step, "report")])


def test_the_result_lies_beside_the_old_one_and_is_not_made_twice(
    old: Manifest, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = again(old, settings, store, guidance=2.0)
    assert manifest_of(store, made.plan) == made and manifest_of(store, old.plan) == old
    assert {one.plan.judge_key for one in manifests_of(store, "fox", "miniature")} >= {
        old.plan.judge_key, made.plan.judge_key
    }  # fmt: skip
    assert all(store.exists(blob_key(sha256)) for sha256 in blobs_of(made))
    assert made.plan.protocol_digest != old.plan.protocol_digest
    assert np.abs(np.subtract(made.scores[0].clip_i.values, old.scores[0].clip_i.values)).max() > 1e-3
    monkeypatch.setattr(reevaluation, "judge_contests", lambda *_: pytest.fail("it is known"))
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
    assert find("fox", "miniature", old.plan.judge_key[:10], store) == old
    with pytest.raises(NotFoundError, match="No run of fox on miniature has a judge key that begins with zzz"):
        find("fox", "miniature", "zzz", store)
    with pytest.raises(NotFoundError, match="No run of owl on miniature was judged"):
        find("owl", "miniature", "", store)


def test_a_plan_of_another_training_is_refused(old: Manifest, settings: Settings, store: Store) -> None:
    with pytest.raises(InputError, match="another training of fox"):
        reevaluate(old, old.plan.model_copy(update={"train_key": "t" * 32}), settings, store)


def test_other_weights_of_the_base_model_are_refused(old: Manifest, settings: Settings) -> None:
    base = old.plan.base.model_copy(update={"digest": "f" * 64})
    with pytest.raises(InputError, match="trained on other weights than those of miniature here"):
        replan(old.plan.model_copy(update={"base": base}), EvaluationConfig(), FIDELITY, "", settings)
