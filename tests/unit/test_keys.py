"""Keys change with everything that matters and with nothing else."""

import pytest

from tests.judged_run import JudgedRun
from ti_core import keys
from ti_core.config import ConceptSpec, SelectionRule, TrainingConfig
from ti_core.records import Finding, ImageSet, Picture, PromptSet, Protocol

CONCEPT = ConceptSpec(name="cat-toy", pictures="pictures", class_word="toy")
TRAINING = TrainingConfig(steps=120, batch_size=8, learning_rate=2e-3, checkpoint_every=20, resolution=64)
PROTOCOL = Protocol(
    base_digest="b" * 64,
    clip="mini-clip",
    clip_digest="c" * 64,
    references=("1" * 64, "2" * 64),
    preprocessing="prep",
    class_word="toy",
    sampler_steps=16,
    guidance=4.0,
    resolution=64,
    select=PromptSet(plain=("a {}",), edit=("a red {}",), seeds=(1, 2)),
    report=PromptSet(plain=("the {}",), edit=("a blue {}",), seeds=(3, 4)),
    version=1,
)

SMALL = Finding(severity="warning", kind="small", file="b.png", text="b.png is small.")


def images(*digests: str, name: str = "1.png", findings: tuple[Finding, ...] = ()) -> ImageSet:
    pictures = tuple(Picture(name=name, sha256=digest * 64, width=64, height=64) for digest in digests)
    return ImageSet(pictures=pictures, findings=findings)


def train_key(
    concept: ConceptSpec = CONCEPT,
    pictures: ImageSet = images("1", "2"),
    training: TrainingConfig = TRAINING,
    base: str = "b" * 64,
) -> str:
    return keys.train_key(concept, pictures, training, base)


def test_golden_values() -> None:
    """These change only on purpose: whoever changes them makes all work done so far be done again."""
    assert keys.digest({"b": [1, 2.5, "é"], "a": None}) == "d4e7b7ea1f785bcaf2af5af23dddc104"
    assert train_key() == "546e69f54f48afd4d749f71440405f06"
    assert keys.protocol_digest(PROTOCOL) == "625fac923a04f0f2de95f48a475a0627"
    assert keys.judge_key("t" * 32, "p" * 32, SelectionRule()) == "1c725ecafa71ed863fcdca8cdfcdc942"


@pytest.mark.parametrize(
    ("masked", "train", "judge"),
    [
        (False, "4aedfa36dd9b02128b3f0c7ad307ddde", "a530e0037ffea8e3acc3e464b8382a3a"),
        (True, "884e46d62d37868f00b64029ab12d2da", "12e1acb8778f3cd3fb25a437384d3aa8"),
    ],
)
def test_keys_of_before_the_crops_stay_known(masked: bool, train: str, judge: str) -> None:
    """As that version computed them for this plan."""
    plan = JudgedRun(plain=("a photo of a {}",), edit=("a {} on a hill",), side=16).manifest.plan
    if masked:
        pictures = tuple(one.model_copy(update={"mask": "f" * 64}) for one in plan.images.pictures)
        plan = plan.model_copy(update={"images": plan.images.model_copy(update={"pictures": pictures})})
    training = plan.training.model_copy(update={"masked": masked, "warmup": 3})
    plan = plan.model_copy(update={"training": training})
    assert keys.older(plan)[0] == (train, judge)
    assert (train, judge) not in keys.older(
        plan.model_copy(update={"training": training.model_copy(update={"crop": "pad"})})
    )


def test_a_digest_does_not_depend_on_the_order_of_names() -> None:
    assert keys.digest({"a": 1, "b": 2}) == keys.digest({"b": 2, "a": 1})
    assert keys.digest([1, 2]) != keys.digest([2, 1])
    assert len(keys.digest({})) == 32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_has_no_digest(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        keys.digest(value)


def test_names_paths_sizes_and_the_order_of_pictures_do_not_matter() -> None:
    elsewhere = CONCEPT.model_copy(update={"name": "other", "pictures": "s3://bucket/other"})
    assert train_key(concept=elsewhere) == train_key()
    assert train_key(pictures=images("2", "1", name="b.png", findings=(SMALL,))) == train_key()
    assert train_key(concept=CONCEPT.model_copy(update={"class_word": "dog", "initializer": "toy"})) == train_key()


def test_masks_are_other_work_for_a_masked_loss_and_where_they_choose_the_square() -> None:
    pictures = images("1", "2")
    masked, swapped = (
        ImageSet(
            pictures=tuple(
                one.model_copy(update={"mask": mask * 64}) for one, mask in zip(pictures.pictures, order, strict=True)
            )
        )
        for order in ("89", "98")
    )
    assert train_key(pictures=masked) != train_key(pictures=pictures)  # they decide which square it is
    plain = TRAINING.model_copy(update={"crop": "centre"})
    assert train_key(pictures=masked, training=plain) == train_key(pictures=pictures, training=plain)
    training = plain.model_copy(update={"masked": True})
    assert train_key(pictures=masked, training=training) != train_key(pictures=pictures, training=training)
    assert train_key(pictures=masked, training=training) != train_key(pictures=swapped, training=training)


@pytest.mark.parametrize("pictures", [images("1"), images("1", "3"), images("1", "2", "3")])
def test_other_pictures_are_other_work(pictures: ImageSet) -> None:
    assert train_key(pictures=pictures) != train_key()


OTHER_TRAINING = {
    "steps": 121, "batch_size": 9, "learning_rate": 2.1e-3, "checkpoint_every": 21, "resolution": 72, "mirror": False,
    "seed": 1, "accumulation": 2, "schedule": "cosine", "warmup": 3, "norm": "clamp", "norm_limit": 1.5, "masked": True,
    "stop_early": True, "crop": "pad",
}  # fmt: skip


@pytest.mark.parametrize("field", TrainingConfig.model_fields)
def test_every_training_field_makes_other_work(field: str) -> None:
    reading = TRAINING.model_copy(update={"norm": "direction", "schedule": "linear"})
    other = reading.model_copy(update={field: OTHER_TRAINING[field]})
    assert train_key(training=other) != train_key(training=reading)


@pytest.mark.parametrize("change", [{"warmup": 3}, {"norm_limit": 1.5}])
def test_a_field_that_the_chosen_options_do_not_read_makes_no_other_work(change: dict[str, object]) -> None:
    assert train_key(training=TRAINING.model_copy(update=change)) == train_key()


@pytest.mark.parametrize("change", [{"class_word": "dog"}, {"initializer": "dog"}, {"kind": "style"}, {"vectors": 2}])
def test_the_concept_makes_other_work(change: dict[str, object]) -> None:
    assert train_key(concept=CONCEPT.model_copy(update=change)) != train_key()


def test_another_base_model_is_other_work() -> None:
    assert train_key(base="a" * 64) != train_key()


@pytest.mark.parametrize("version", ["PREPROCESS_VERSION", "NUMERICS_VERSION"])
def test_bumped_versions_make_other_work(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = train_key()
    monkeypatch.setattr(keys, version, 1_000)
    assert train_key() != before


OTHER_PROTOCOL = {
    "dino": "vit", "dino_digest": "f" * 64,
    "base_digest": "a" * 64, "clip": "other", "clip_digest": "d" * 64, "references": ("1" * 64,),
    "preprocessing": "other", "class_word": "dog", "pairing": "other", "placeholder_policy": "other",
    "sampler": "other", "sampler_steps": 17, "guidance": 4.5, "resolution": 72,
    "select": PROTOCOL.select.model_copy(update={"seeds": (1, 3)}),
    "report": PROTOCOL.report.model_copy(update={"plain": ("this {}",)}), "version": 2,
}  # fmt: skip


@pytest.mark.parametrize("field", ["clip", "dino"])
def test_what_a_judge_is_called_and_where_it_lies_does_not_matter(field: str) -> None:
    other = PROTOCOL.model_copy(update={field: OTHER_PROTOCOL[field]})
    assert keys.protocol_digest(other) == keys.protocol_digest(PROTOCOL)


@pytest.mark.parametrize("field", sorted(Protocol.model_fields.keys() - {"clip", "dino"}))
def test_every_other_field_of_the_protocol_makes_scores_incomparable(field: str) -> None:
    other = PROTOCOL.model_copy(update={field: OTHER_PROTOCOL[field]})
    assert keys.protocol_digest(other) != keys.protocol_digest(PROTOCOL)


OTHER_RULE = {"name": "editability", "confidence": 0.9, "resamples": 999, "least_range": 0.03, "floor": 0.4,
              "step": 20}  # fmt: skip


@pytest.mark.parametrize("field", SelectionRule.model_fields)
def test_every_field_of_the_rule_makes_another_decision(field: str) -> None:
    rule = SelectionRule(name="fidelity")
    other = rule.model_copy(update={field: OTHER_RULE[field]})
    assert keys.judge_key("t", "p", other) != keys.judge_key("t", "p", rule)


def test_no_earlier_version_took_a_step_that_was_asked_for() -> None:
    plan = JudgedRun(side=16).manifest.plan
    assert keys.older(plan)
    assert not keys.older(plan.model_copy(update={"rule": SelectionRule(step=80)}))


def test_a_floor_that_the_rule_does_not_read_makes_no_other_decision() -> None:
    assert keys.judge_key("t", "p", SelectionRule(floor=0.4)) == keys.judge_key("t", "p", SelectionRule())


def test_halving_makes_another_decision_and_its_absence_none() -> None:
    assert keys.judge_key("t", "p", SelectionRule(), halving=True) != keys.judge_key("t", "p", SelectionRule())


def test_a_judge_key_changes_with_training_and_protocol() -> None:
    assert len({keys.judge_key(train, protocol, SelectionRule()) for train in "ab" for protocol in "ab"}) == 4


def test_the_resolution_decides_the_preprocessing() -> None:
    assert keys.preprocess_key(64, "auto") != keys.preprocess_key(512, "auto")
    assert keys.preprocess_key(64, "auto") == keys.preprocess_key(64, "auto") != keys.preprocess_key(64, "pad")
