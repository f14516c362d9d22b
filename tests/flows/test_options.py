"""One table of options: what a field of the configuration says is what commands and forms show and take."""

from typing import Annotated, Any

import pytest
import typer.main
import typer.rich_utils
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from flows.approve import approve
from flows.cli import app
from flows.options import AS_IT_IS, NAMES, Only, asked_of, options_of
from flows.reevaluate import reevaluate
from flows.train_batch import train_batch
from flows.train_concept import train_concept
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig

MODELS: dict[str, list[type[BaseModel]]] = {
    "train": [ConceptSpec, TrainingConfig, Packing, EvaluationConfig, SelectionRule],
    "batch": [TrainingConfig, Packing, EvaluationConfig, SelectionRule],
    "judge": [EvaluationConfig, SelectionRule],
}
FLOWS: dict[str, Any] = {"train": train_concept, "batch": train_batch, "judge": reevaluate, "approve": approve}
COMMANDS: Any = typer.main.get_command(app)
FIRST = train_concept.parameters.model_dump()
"""What the form of one concept shows first."""


@pytest.mark.parametrize("command", MODELS)
def test_every_field_is_in_the_command_and_in_the_form_in_the_same_words(command: str) -> None:
    options = {one.name: one for one in COMMANDS.commands[command].params}
    forms = FLOWS[command].parameters.model_dump()["definitions"]
    for model in MODELS[command]:
        for name, field in model.model_fields.items():
            option = options[NAMES.get((model, name), name)]
            assert str(option.help).startswith(str(field.description))
            first = model is ConceptSpec and field.is_required()
            group = FIRST if first else forms["ConceptDetails" if model is ConceptSpec else model.__name__]
            assert group["properties"][name]["description"] == field.description


@pytest.mark.parametrize(("command", "flow"), FLOWS.items())
def test_what_no_model_holds_is_in_both_in_the_same_words(command: str, flow: Any) -> None:
    options = {one.name: one for one in COMMANDS.commands[command].params}
    shown = flow.parameters.model_dump()["properties"]
    both = {name for name in shown.keys() & options if "anyOf" not in shown[name]} - {"concept", "source"}
    assert both >= (
        {"base_model"} if command in {"judge", "approve"} else {"base_model", "preset", "class_word", "renew"}
    )
    assert all(shown[name]["description"] == options[name].help for name in both)


def test_the_form_of_one_concept_shows_what_must_be_said_first_and_is_under_a_dozen_fields_long() -> None:
    """The others are groups, which stay closed and are not given until somebody opens them."""
    names = list(FIRST["properties"])
    groups = [name for name in names if "anyOf" in FIRST["properties"][name]]
    single = [name for name in names if name not in groups]
    assert single == ["name", "pictures", "class_word", "preset", "base_model", "renew", "approval"]
    assert names == [*single[:5], *groups, *single[5:]]
    assert FIRST["required"] == names[:3]
    for name in groups:
        closed, group = FIRST["properties"][name]["anyOf"]
        assert closed["const"] == FIRST["properties"][name]["default"] == AS_IT_IS and "$ref" in group, name
    assert not any(one.get("type") == "object" for one in FIRST["properties"].values())


def test_of_a_concept_the_form_is_given_what_was_set() -> None:
    concept = ConceptSpec(name="cat", pictures="p", class_word="cat", tags="a, b", show_pictures=True)
    first = {"name": "cat", "pictures": "p", "class_word": "cat"}
    assert asked_of(concept) == first | {"details": {"tags": "a, b", "show_pictures": True}}
    assert asked_of(ConceptSpec(**first)) == first


def test_one_word_means_one_thing() -> None:
    """An option that several commands have says the same in each, and the base model is called so in all."""
    said: dict[str, set[str]] = {}
    for name, command in COMMANDS.commands.items():
        for option in command.params:
            said.setdefault(option.opts[0], set()).add(str(option.help))
        assert name in {"audit", "gc", "up", "down"} or "base_model" in {one.name for one in command.params}, name
    # The model that a run uses, that a word is of, and a filter; data or servers; where pictures begin to differ; what
    # an upload's folder says already.
    assert {flag for flag, texts in said.items() if flag.startswith("--") and len(texts) > 1} == {
        "--base-model", "--class-word", "--home", "--name", "--out", "--seed"
    }  # fmt: skip


@pytest.mark.parametrize("command", [*COMMANDS.commands])
def test_options_are_grouped(command: str) -> None:
    loose = {one.name for one in COMMANDS.commands[command].params if one.opts[0].startswith("--")
             and not one.rich_help_panel}  # fmt: skip
    assert loose <= {"help"}


class Model(BaseModel):
    many: int = Field(3, description="How many.", ge=1, le=9)
    share: float = Field(0.5, description="Which share.", gt=0.0, lt=1.0)
    quick: bool = Field(False, description="Whether quickly.")


class Unshown(BaseModel):
    taken: str = Field("", description="Taken.")
    left: str = Field("", description="Left.")


def run(*arguments: str) -> tuple[int, list[Any], str]:
    """Exit code, what a command was given, and what it printed."""
    made = typer.Typer()
    given: list[Any] = []

    @made.command()
    @options_of()
    def command(*, model: Annotated[Model, Only(("many", "share", "quick"), "All")],
                other: Annotated[Unshown, Only(("taken",), "All")]) -> int:  # fmt: skip
        given.extend([model, other])
        return 0

    done = CliRunner().invoke(made, list(arguments))
    return done.exit_code, given, f"{done.output}{done.exception}"


def test_a_model_is_given_what_was_typed_and_nothing_else() -> None:
    _, (model, other), _ = run("--no-quick", "--share", "0.25")
    assert model.model_dump(exclude_unset=True) == {"quick": False, "share": 0.25}
    assert (model.many, other.model_fields_set) == (3, set())
    assert run("--quick", "--taken", "x")[1][0].quick is True


def test_ranges_and_defaults_are_shown_as_the_field_states_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", 200)
    shown = run("--help")[2]
    assert "How many. (1 to 9) [default: 3]" in shown and "Which share. (above 0 to below 1)" in shown
    assert "--no-quick" in shown and "--taken" in shown and "--left" not in shown


def test_a_value_out_of_range_is_told_by_its_option() -> None:
    code, given, said = run("--many", "12")
    assert code == 1 and not given
    assert "--many is 12: Input should be less than or equal to 9." in said
