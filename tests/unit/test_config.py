"""What a user can say, and what a form shows of it."""

import pytest
from pydantic import BaseModel, ValidationError

from ti_core.config import (
    DEFAULTS,
    BackboneKind,
    ConceptSpec,
    EvaluationConfig,
    OwnPrompts,
    Packing,
    Prompts,
    SelectionRule,
    TrainingConfig,
    base_slug,
    check_slug,
    preset_of,
)
from ti_core.errors import InputError


def concept(**given: object) -> ConceptSpec:
    return ConceptSpec.model_validate({"name": "cat-toy", "pictures": "pictures", "class_word": "toy"} | given)


@pytest.mark.parametrize("name", ["a", "cat-toy", "r2-d2", "2025", "a" * 64])
def test_good_names_are_taken_unchanged(name: str) -> None:
    assert check_slug(name) == name
    assert concept(name=name).placeholder == f"<{name}>"


BAD = ["", "-a", "a-", "a--b", "Cat", "cat toy", "cat_toy", "../cat", "a/b", "<cat>", "katze\n", "café", "a" * 65]


@pytest.mark.parametrize("name", BAD)
def test_bad_names_are_refused_with_the_name_and_an_example(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_slug(name)
    assert repr(name) in str(caught.value) and "cat-toy" in str(caught.value)
    with pytest.raises(ValidationError, match="cannot name a concept"):
        concept(name=name)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("miniature", "miniature"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5"),
        ("/models/My Model_v2/", "my-model-v2"),
        ("./sd15.fp16", "sd15-fp16"),
        ("models/v1-5.safetensors", "v1-5"),
    ],
)
def test_base_models_are_named_by_their_last_part(name: str, slug: str) -> None:
    assert base_slug(name) == slug


def test_a_base_model_without_a_name_is_refused() -> None:
    with pytest.raises(InputError):
        base_slug("///")


def test_vectors_start_from_the_class_word_unless_told() -> None:
    assert concept().start_phrase == "toy"
    assert concept(initializer="red cat").start_phrase == "red cat"


@pytest.mark.parametrize(
    "wrong",
    [{"vectors": 0}, {"vectors": 65}, {"kind": "mood"}, {"pictures": " "}, {"class_word": ""}, {"colour": "red"}],
)
def test_impossible_concepts_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        concept(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1}, {"batch_size": 257}, {"learning_rate": 1.5}, {"learning_rate": float("nan")},
        {"resolution": 100}, {"seed": 2**31}, {"checkpoint_every": -1},
    ],
)  # fmt: skip
def test_impossible_training_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate(wrong)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_zeros_become_the_defaults_of_the_kind(kind: str) -> None:
    training = TrainingConfig().resolved(kind, 512)
    off = {"accumulation": 1, "schedule": "constant", "warmup": 0, "norm": "free", "norm_limit": 1.0, "masked": False,
           "stop_early": False, "crop": "auto"}  # fmt: skip
    assert training.model_dump() == DEFAULTS[kind]["training"] | {"resolution": 512, "mirror": True, "seed": 0} | off
    evaluation = EvaluationConfig().resolved(kind)
    others = {"halving": False, "protocol": "standard", "data": "", "prompts": OwnPrompts().model_dump()}
    assert evaluation.model_dump() == others | DEFAULTS[kind]["evaluation"]
    assert evaluation.seeds > 0 and evaluation.sampler_steps > 0 and evaluation.guidance > 0 and evaluation.sampler
    assert all(value > 0 for name, value in training if name in DEFAULTS[kind]["training"])


@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_was_said_is_kept(kind: str) -> None:
    said = TrainingConfig(
        steps=7, batch_size=3, learning_rate=1e-4, checkpoint_every=5, resolution=64, mirror=False, seed=9
    )
    assert said.resolved(kind, 512) == said
    judging = EvaluationConfig(seeds=1, sampler="ddim", sampler_steps=2, guidance=3.5, halving=False, protocol="quick")
    assert judging.resolved(kind) == judging
    assert EvaluationConfig(protocol="textual-inversion-paper", guidance=3.5).resolved(kind) == EvaluationConfig(
        protocol="textual-inversion-paper",
        guidance=3.5,
        seeds=64,
        sampler="ddim",
        sampler_steps=50,
        halving=kind == "sdxl",
    )


OWN = {
    "select": {"plain": ["a {}"], "edit": ["a red {}", "a blue {}"]},
    "report": {"plain": ["one {}"], "edit": ["a green {}"]},
}


def test_own_prompts_are_whole_disjoint_and_hold_one_place_for_the_word() -> None:
    assert OwnPrompts.model_validate(OWN).given and not OwnPrompts().given
    wrong: list[tuple[dict[str, object], str]] = [
        ({"select": OWN["select"]}, "both for choosing and for reporting"),
        (OWN | {"report": {"plain": ["one {}"], "edit": ["a red {}"]}}, "'a red {}' is in the choosing and in the"),
        (OWN | {"report": {"plain": ["one cat"], "edit": ["a red {}"]}}, "'one cat' must hold one {}"),
        (OWN | {"report": {"plain": ["one {} {}"], "edit": ["a {0}"]}}, "must hold one {}"),
        (OWN | {"report": {"plain": ["one {}", "one {}"], "edit": ["a {}x"]}}, "twice"),
    ]
    for given, reason in wrong:
        with pytest.raises(ValidationError, match=reason.replace("{", r"\{")):
            OwnPrompts.model_validate(given)


def test_resolving_twice_changes_nothing() -> None:
    once = TrainingConfig(steps=7).resolved("sd1", 512)
    assert once.resolved("miniature", 64) == once


@pytest.mark.parametrize(
    "model", [ConceptSpec, TrainingConfig, EvaluationConfig, SelectionRule, Packing, OwnPrompts, Prompts]
)
def test_every_field_has_a_title_a_description_and_its_own_place(model: type[BaseModel]) -> None:
    properties = model.model_json_schema()["properties"]
    for name, shown in properties.items():
        assert shown.get("title") and shown.get("description"), name
    assert sorted(shown["position"] for shown in properties.values()) == list(range(len(properties)))


@pytest.mark.parametrize("model", [TrainingConfig, EvaluationConfig, SelectionRule, OwnPrompts])
def test_a_form_can_be_sent_as_it_is(model: type[BaseModel]) -> None:
    assert model.model_validate({}) == model()


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_standard_preset_is_the_defaults_themselves(kind: BackboneKind) -> None:
    """To the last number: else an upgrade would do anew what is known."""
    assert preset_of(kind, "standard") == DEFAULTS[kind]
    assert TrainingConfig().resolved(kind, 64) == TrainingConfig().resolved(kind, 64, "standard")
    assert EvaluationConfig().resolved(kind) == EvaluationConfig().resolved(kind, "standard")


@pytest.mark.parametrize("kind", DEFAULTS)
def test_a_longer_preset_goes_on_where_a_shorter_one_ended(kind: BackboneKind) -> None:
    quick, standard, careful = (TrainingConfig().resolved(kind, 64, name) for name in ("quick", "standard", "careful"))
    assert quick.steps < standard.steps < careful.steps
    assert quick.steps % quick.checkpoint_every == standard.steps % standard.checkpoint_every == 0
    for other in (quick, careful):
        assert other.model_copy(update={"steps": standard.steps}) == standard
    judged = [EvaluationConfig().resolved(kind, name) for name in ("quick", "standard", "careful")]
    assert 2 <= judged[0].seeds < judged[1].seeds < judged[2].seeds and judged[0].halving
    assert judged[1].halving == judged[2].halving


def test_what_is_set_goes_before_a_preset_and_so_does_a_protocol() -> None:
    training = TrainingConfig(steps=70, checkpoint_every=0).resolved("miniature", 64, "careful")
    assert (training.steps, training.checkpoint_every) == (70, 20)
    evaluation = EvaluationConfig(seeds=3, halving=False).resolved("sd1", "quick")
    assert (evaluation.seeds, evaluation.halving) == (3, False)
    assert EvaluationConfig(seeds=0).resolved("sd1", "careful").seeds == 8
    assert EvaluationConfig(protocol="textual-inversion-paper").resolved("sd1", "quick").seeds == 64
