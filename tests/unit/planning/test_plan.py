"""Planning: every mistake of a user is told before anything slow begins, and a plan is complete."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from ti_core import keys
from ti_core.backbone.folder import MINIATURE
from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.errors import InputError
from ti_core.planning.plan import make_plan, replan
from ti_core.records import Plan
from ti_core.sampling.generate import generate
from ti_core.settings import Settings
from ti_core.store import get_blob
from ti_core.store.folder import FolderStore

MOSS = Path(__file__).parents[3] / "examples/concepts/moss"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def plan(store: FolderStore | None, base_model: str = "", **given: Any) -> Plan:
    """Plan the moss; `given` changes fields of the concept, or whole configurations by their names."""
    training = given.pop("training", TrainingConfig())
    evaluation = given.pop("evaluation", EvaluationConfig())
    rule, preset = given.pop("rule", SelectionRule()), given.pop("preset", "standard")
    concept = {"name": "moss", "pictures": str(MOSS), "class_word": "monster"} | given
    return make_plan(
        ConceptSpec.model_validate(concept), training, evaluation, rule, base_model, Settings(), store, preset=preset
    )


def refused(store: FolderStore, *words: str, **given: Any) -> None:
    with pytest.raises(InputError) as caught:
        plan(store, **given)
    for word in words:
        assert word in str(caught.value)
    assert list(store.keys("")) == []


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model under its own name: the miniature's files, which a folder of another name makes an SD 1.x."""
    folder = tmp_path_factory.mktemp("models") / "My SD 1.5"
    shutil.copytree(MINIATURE / "mini-sd", folder)
    return folder


def test_a_plan_has_no_zeros_left_and_its_keys_are_those_of_its_parts(store: FolderStore) -> None:
    made = plan(store)
    assert made.training == TrainingConfig().resolved("miniature", 64)
    assert made.evaluation == EvaluationConfig().resolved("miniature")
    assert made.protocol_digest == keys.protocol_digest(made.protocol)
    assert made.train_key == keys.train_key(made.concept, made.images, made.training, made.base.digest)
    assert made.judge_key == keys.judge_key(made.train_key, made.protocol_digest, made.rule)
    assert made.protocol.references == tuple(one.sha256 for one in made.images.pictures)
    assert made.protocol.class_word == "monster"
    assert (made.base.slug, made.judge.name) == ("miniature", "miniature")


def test_a_run_is_known_by_its_numbers_whichever_preset_they_came_from(store: FolderStore) -> None:
    quick = plan(store, preset="quick")
    said = plan(store, training=TrainingConfig(steps=60), evaluation=EvaluationConfig(seeds=2, halving=True))
    assert (quick.train_key, quick.judge_key) == (said.train_key, said.judge_key)
    assert plan(store).train_key not in {quick.train_key, plan(store, preset="careful").train_key}


def test_the_pictures_are_in_the_store_and_a_plan_survives_being_stored(store: FolderStore) -> None:
    made = plan(store)
    for picture in made.images.pictures:
        assert picture.sha256 == hashlib.sha256((MOSS / picture.name).read_bytes()).hexdigest()
        assert get_blob(store, picture.square)
    assert Plan.model_validate_json(made.model_dump_json()) == made


def test_a_masked_loss_without_any_mask_is_refused(store: FolderStore) -> None:
    refused(store, "has a mask or transparency", training=TrainingConfig(masked=True))


def test_without_a_store_the_plan_is_the_same(store: FolderStore) -> None:
    assert plan(None) == plan(store)


def test_the_class_word_changes_how_it_is_judged_but_not_what_is_trained(store: FolderStore) -> None:
    monster = plan(store, initializer="monster")
    robot = plan(store, initializer="monster", class_word="robot")
    assert monster.train_key == robot.train_key
    assert monster.protocol_digest != robot.protocol_digest
    assert monster.judge_key != robot.judge_key


def test_judging_differently_trains_nothing_anew(store: FolderStore) -> None:
    other = plan(store, evaluation=EvaluationConfig(seeds=2))
    assert other.train_key == plan(store).train_key
    assert other.judge_key != plan(store).judge_key
    assert (len(other.protocol.select.seeds), len(other.protocol.report.seeds)) == (2, 4)


def test_an_unknown_class_word_is_told_with_a_suggestion(store: FolderStore) -> None:
    refused(store, "Unknown class word", "'monsterr'", "monster", class_word="monsterr")
    refused(store, "Unknown class word", "'xyzzy'", class_word="big xyzzy")


@pytest.mark.parametrize("name", ["/no/such/model", "./model", "nothing", "a/b/c"])
def test_an_unknown_base_model_is_told(store: FolderStore, name: str) -> None:
    refused(store, name, base_model=name)


def test_a_hub_name_that_is_not_to_be_had_is_told(store: FolderStore) -> None:
    refused(store, "owner/model", "neither a folder here nor to be had", base_model="owner/model")


@pytest.mark.parametrize(
    "part", ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder/config.json", "vae"]
)
def test_a_base_model_with_a_part_missing_is_told(store: FolderStore, tmp_path: Path, part: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MINIATURE / "mini-sd", folder)
    shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).unlink()
    refused(store, "not complete", part, base_model=str(folder))


def test_cut_weights_are_told(store: FolderStore, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MINIATURE / "mini-sd", folder)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(store, str(weights), "damaged or cut short", base_model=str(folder))


def test_too_rare_checkpoints_are_told(store: FolderStore) -> None:
    refused(store, "Checkpoint every 30", "20 steps", training=TrainingConfig(steps=20, checkpoint_every=30))
    training = TrainingConfig(steps=25, checkpoint_every=10)
    assert plan(None, training=training, rule=SelectionRule(step=25)).rule.step == 25
    refused(store, "no checkpoint of step 15", "every 10", "25", training=training, rule=SelectionRule(step=15))
    plan(store, training=TrainingConfig(steps=20, checkpoint_every=20))


def test_a_folder_is_an_sd_and_judged_by_the_papers_clip(store: FolderStore, sd_folder: Path) -> None:
    made = plan(store, base_model=str(sd_folder))
    assert (made.base.kind, made.base.slug) == ("sd1", "my-sd-1-5")
    assert made.judge.location == "ViT-B-32/openai"
    assert made.training == TrainingConfig().resolved("sd1", 64)
    assert made.evaluation == EvaluationConfig().resolved("sd1")
    assert made.base.digest == plan(store).base.digest  # the same files


def test_the_judge_can_be_chosen(store: FolderStore, sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = plan(store, base_model=str(sd_folder))
    monkeypatch.setenv("PSEUDOWORD_CLIP", str(MINIATURE / "mini-clip"))
    chosen = plan(store, base_model=str(sd_folder))
    assert chosen.judge.location == f"local-dir:{MINIATURE / 'mini-clip'}"
    assert chosen.train_key == default.train_key and chosen.judge_key != default.judge_key
    monkeypatch.setenv("PSEUDOWORD_CLIP", "/no/clip")
    with pytest.raises(InputError, match="/no/clip is no CLIP"):
        plan(store)


def test_the_settings_base_model_serves_where_none_is_named(
    store: FolderStore, sd_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOWORD_BASE_MODEL", str(sd_folder))
    assert plan(store).base.slug == "my-sd-1-5"
    assert plan(store, base_model="miniature").base.slug == "miniature"


def test_a_run_may_not_look_through_the_disk_for_a_model(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(Path.cwd()))
    refused(store, "outside the folders", "PSEUDOWORD_ALLOWED_ROOTS", base_model=str(tmp_path))
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    refused(store, "outside the folders", base_model=str(file))
    made = plan(None)
    with pytest.raises(InputError, match="outside the folders"):
        replan(made, made.evaluation, made.rule, str(tmp_path), Settings())


def test_links_lead_no_run_out_of_the_allowed_folders(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside / "configuration"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{MOSS.parent}:{inside}")
    (outside / "model.safetensors").write_bytes(b"")
    (inside / "linked.safetensors").symlink_to(outside / "model.safetensors")
    refused(store, "outside the folders", base_model=str(inside / "linked.safetensors"))
    # A single file's configuration lies beside it.
    (inside / "model.safetensors").write_bytes(b"")
    (inside / "model").symlink_to(outside / "configuration")
    refused(store, "outside the folders", base_model=str(inside / "model.safetensors"))
    (inside / "clip").symlink_to(outside)
    made = plan(None)
    with pytest.raises(InputError, match="outside the folders"):
        replan(made, EvaluationConfig(), SelectionRule(), str(inside / "clip"), Settings())
    with pytest.raises(InputError, match="outside the folders"):
        generate("a toy", tmp_path / "a.png", [0], EvaluationConfig(), str(outside), Settings())


def test_judging_again_keeps_what_is_not_given() -> None:
    rule = SelectionRule(name="fidelity", confidence=0.9, resamples=200, floor=0.3)
    old = make_plan(
        ConceptSpec(name="moss", pictures=str(MOSS), class_word="monster"), TrainingConfig(),
        EvaluationConfig(halving=True, guidance=3.0), rule, "", Settings(), None,
    )  # fmt: skip

    def again(evaluation: EvaluationConfig = EvaluationConfig(), rule: SelectionRule = SelectionRule()) -> Plan:
        return replan(old, evaluation, rule, "", Settings())

    assert again().judge_key == old.judge_key
    whole = again(EvaluationConfig(halving=False))
    assert (whole.evaluation.halving, whole.evaluation.guidance, whole.rule) == (False, 3.0, rule)
    assert whole.judge_key != old.judge_key
    named = again(EvaluationConfig(protocol="quick"))
    assert named.evaluation.halving and named.evaluation.guidance != 3.0
    other = again(rule=SelectionRule(name="editability"))
    assert other.rule == rule.model_copy(update={"name": "editability"})
    # A field that was given, though as its default, is given.
    assert again(rule=SelectionRule(confidence=0.95)).rule.confidence == 0.95


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (TrainingConfig(norm_limit=2.0), ("norm limit of 2", "free norm", "leave the limit out")),
        (TrainingConfig(warmup=5), ("warm-up of 5 steps", "constant learning rate", "leave the warm-up out")),
    ],
)
def test_an_option_that_does_nothing_is_refused(
    store: FolderStore, training: TrainingConfig, words: tuple[str, ...]
) -> None:
    refused(store, *words, training=training)


def test_a_short_run_has_one_checkpoint_at_its_end(store: FolderStore) -> None:
    config = plan(store, training=TrainingConfig(steps=15)).training
    assert (config.steps, config.checkpoint_every) == (15, 15)
