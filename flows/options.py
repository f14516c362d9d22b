"""The options of the commands, made of the models of `ti_core.config`: names, words, ranges and defaults stand there,
once, for the commands and for the forms of the flows.

A command asks for a whole model (`training: TrainingConfig`) and gets one option for each of its fields; what was
typed, and nothing else, is given to the model. What no model holds is here: `BaseModel`, `Renew`, …, each one
declaration for command and form. This module knows no command and no flow.
"""

import inspect
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic
import typer
from pydantic.fields import FieldInfo

from ti_core.config import (
    ConceptDetails,
    ConceptSpec,
    EvaluationConfig,
    ImportSpec,
    Packing,
    PresetName,
    SelectionRule,
    TrainingConfig,
)
from ti_core.errors import InputError

PANELS: dict[type[pydantic.BaseModel], str] = {
    ConceptSpec: "Concept",
    ConceptDetails: "Concept",
    ImportSpec: "Concept",
    TrainingConfig: "Training",
    Packing: "Training",
    EvaluationConfig: "Judging",
    SelectionRule: "Judging",
}
"""Where `--help` lists the options of a model."""
WHERE, OUTPUT = "Where", "Output"
ARGUMENTS = {(ConceptSpec, "pictures"), (ImportSpec, "file")}
"""Fields that are typed without a name."""
NAMES = {(SelectionRule, "name"): "rule", (SelectionRule, "step"): "take_step"}
"""Options that are not called as their field, whose name says too little beside other models'."""


class UsageError(InputError):
    """The command line itself is wrong: an option's value that no run can take."""


@dataclass(frozen=True)
class Only:
    """In an `Annotated` parameter: take only these fields of the model, and list them in this panel."""

    fields: tuple[str, ...]
    panel: str


def field(title: str, description: str) -> Any:
    """Title and description of a flow's parameter in the form, for use within `Annotated`.

    Prefect 3 titles every parameter with its Python name and describes it from the docstring alone, whatever `Field`
    says; what stands in `json_schema_extra` is merged last and wins. Their order is the signature's.
    """
    return pydantic.Field(json_schema_extra={"title": title, "description": description})


AS_IT_IS = "as it is"
"""In the form, a group of fields that was not opened: none of them is given."""


def folded(model: type[pydantic.BaseModel], title: str, description: str) -> Any:
    """A group of fields of a flow's form that is closed at first. The parameter's default is `AS_IT_IS`.

    Prefect's form shows a nested model with all its fields, and sends all of them, set or not. A choice between a
    constant and the model shows the constant alone, and sends that.
    """
    closed = Annotated[Literal["as it is"], pydantic.Field(title="As it is")]
    return Annotated[closed | Annotated[model, pydantic.Field(title="Set here")], field(title, description)]


def opened(given: Any, model: Any) -> Any:
    """What was given of a folded group."""
    return model() if given == AS_IT_IS else given


def of_concept(name: str) -> Any:
    """A parameter of a flow that is a field of a concept, in the same words and limits."""
    one = ConceptSpec.model_fields[name]
    return Annotated[one.annotation, *one.metadata, field(str(one.title), str(one.description))]


def typed(given: pydantic.BaseModel) -> list[str]:
    """What was set of a model, as a command is given it."""
    words, model = list[str](), type(given)
    for name, value in given.model_dump(mode="json", exclude_unset=True).items():
        flag = NAMES.get((model, name), name)
        if (model, name) in ARGUMENTS:
            words.insert(0, str(value))
        elif isinstance(value, bool):
            words.append(_flag(flag if value else f"no_{flag}"))
        else:
            words += [_flag(flag), str(value)]
    return words


def asked_of(concept: ConceptSpec) -> dict[str, Any]:
    """What the flow of one concept is given to say the concept, as JSON has it: no more than was set."""
    said = concept.model_dump(mode="json", exclude_unset=True)
    details = {name: said.pop(name) for name in ConceptDetails.model_fields if name in said}
    return said | ({"details": details} if details else {})


def _both(kind: Any, flag: str, title: str, description: str, panel: str) -> Any:
    """A parameter of a flow that is an option of a command too."""
    return Annotated[kind, field(title, description), typer.Option(flag, help=description, rich_help_panel=panel)]


_BASE_MODEL = (
    "A diffusers folder, a .safetensors file, or a hub name (owner/model, owner/model@revision). Empty: "
    "PSEUDOWORD_BASE_MODEL, or the miniature, which is a toy."
)
BaseModel = _both(str, "--base-model", "Base model", _BASE_MODEL, WHERE)
BaseModels = Annotated[
    list[str] | None, typer.Option("--base-model", help=_BASE_MODEL, rich_help_panel=WHERE, show_default=False)
]
OfBase = _both(
    str, "--base-model", "Base model",
    "Of the word: its name, folder or file. Empty: PSEUDOWORD_BASE_MODEL, or the only one that there is.", WHERE,
)  # fmt: skip
OnlyBase = Annotated[
    str, typer.Option("--base-model", help="Only the words of this one (default: of all).", rich_help_panel=WHERE)
]
Renew = _both(
    bool, "--renew", "Renew",
    "Do anew what an earlier version of Pseudoword did by its own rules; otherwise its outcome stays known.", OUTPUT,
)  # fmt: skip
Preset = _both(
    PresetName, "--preset", "Preset",
    "quick: half as long, judged on fewer pictures. careful: twice as long, judged on twice the pictures of twice the "
    "steps; two to three times the work. What is set beside it goes before it.",
    "Training",
)  # fmt: skip
Approval = _both(
    bool, "--approval", "Approval",
    "What would become what readers get waits for a person: `ti approve` or `ti decline`, or the form of its run.",
    OUTPUT,
)  # fmt: skip
ClassWord = _both(
    str, "--class-word", "Class word", "For concepts that name none in their concept.toml or table row.", "Concept"
)
Run = _both(
    str,
    "--run",
    "Run",
    "Beginning of a run's key, as its page shows it. Empty: the best version's, or the last one; to approve or "
    "decline, the one that waits.",
    "Judging",
)
Clip = _both(
    str, "--clip", "Judge",
    "A CLIP: a folder, or ARCHITECTURE/PRETRAINED. Empty: the run's, or that of a published protocol.", "Judging",
)  # fmt: skip
AskJudge = _both(
    bool, "--judge", "Ask the judge", "Load the judge and ask it which picture is unlike the others.", "Pictures"
)
TO_CHECK = "Pictures of one concept, or a batch: a folder of such folders, a prefix or a table."
Home = Annotated[
    Path | None, typer.Option("--home", help="Data folder (default: ./pseudoword-data).", rich_help_panel=WHERE)
]
PlanOnly = Annotated[
    bool,
    typer.Option("--plan", help="Tell what it will take, and do nothing: nothing is written.", rich_help_panel=OUTPUT),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON value on stdout, errors too.", rich_help_panel=OUTPUT)
]


def options_of(*, defaults: bool = True) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorate a command: every parameter that is a model becomes the options of its fields.

    `defaults` False shows no defaults in `--help`, for a command in which what is not typed stays as it was. The
    command then raises UsageError for a value that a field does not take.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(command).parameters.values()
        models = {one.name: _model(one.annotation) for one in own if _model(one.annotation)}
        shown = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
        for one in own:
            given = models.get(one.name)
            shown += _parameters(*given, defaults) if given else [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

        @wraps(command)
        def run(context: typer.Context, **values: Any) -> int:
            for name, (model, only) in models.items():
                typed = {}
                for key, _ in _fields(model, only):
                    value = values.pop(parameter := NAMES.get((model, key), key))
                    if _is_typed(context, parameter):
                        typed[key] = _read(value) if isinstance(value, Path) else value
                values[name] = validated(model, typed)
            return command(**values)

        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what typer reads
        run.__annotations__ = {one.name: one.annotation for one in shown}
        return run

    return decorate


def validated(model: Any, given: dict[str, Any]) -> Any:
    """`model` of what was typed. Raises UsageError, or InputError for what a file holds, in words for a person."""
    try:
        return model.model_validate(given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name, *inside = (str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if name == "prompts":
            raise InputError(f"--prompts, {'.'.join(inside) or 'the file'}: {reason}.") from None
        option = _flag(NAMES.get((model, name), name))
        raise UsageError(reason if name == "name" else f"{option} is {first['input']!r}: {reason}.") from None


def _model(annotation: Any) -> tuple[type[pydantic.BaseModel], Only | None] | None:
    """The model that a parameter asks for, and which of its fields."""
    kind, *rest = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    only = next((one for one in rest if isinstance(one, Only)), None)
    return (kind, only) if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) else None


def _fields(model: type[pydantic.BaseModel], only: Only | None) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, one) for name, one in model.model_fields.items() if only is None or name in only.fields)


def _parameters(model: type[pydantic.BaseModel], only: Only | None, defaults: bool) -> Iterator[inspect.Parameter]:
    panel = only.panel if only else PANELS[model]
    for key, one in _fields(model, only):
        name, kind, default = NAMES.get((model, key), key), one.annotation, one.default
        words = [str(one.description), _range(one)]
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):  # too much to be typed
            kind, default = Path | None, None
            words.append(_tables(one.annotation))
        text = " ".join(word for word in words if word)
        option = (
            typer.Argument(help=text)
            if (model, key) in ARGUMENTS
            else typer.Option(_flags(name, kind), help=text, rich_help_panel=panel, show_default=defaults)
        )
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option],
            default=inspect.Parameter.empty if one.is_required() else default,
        )  # fmt: skip


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _flags(name: str, kind: Any) -> str:
    return f"{_flag(name)}/{_flag(f'no_{name}')}" if kind is bool else _flag(name)


def _range(one: FieldInfo) -> str:
    """The numbers that a field takes, in words; "" for any."""
    words = {"ge": "", "gt": "above ", "le": "", "lt": "below "}
    said = {
        name: f"{word}{getattr(limit, name):g}"
        for limit in one.metadata
        for name, word in words.items()
        if hasattr(limit, name)
    }
    low, high = said.get("ge") or said.get("gt"), said.get("le") or said.get("lt")
    if low and high:
        return f"({low} to {high})"
    return f"({low} or more)" if low else ""


def _tables(model: Any) -> str:
    """How a file says a model whose fields are models with lists."""
    tables = model.model_fields
    lists = next(iter(tables.values())).annotation.model_fields
    return f"A TOML file with the tables {' and '.join(tables)}, each with the lists {' and '.join(lists)}."


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _read(file: Path) -> dict[str, Any]:
    """A model in a TOML file. Raises InputError when it cannot be read."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The prompts {file} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise InputError(f"The prompts {file} are damaged: {error}.") from None
