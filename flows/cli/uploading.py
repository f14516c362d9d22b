"""`ti upload`: bring pictures to where workers read them, and tell how to start."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import forms
from flows.cli.ending import Code
from flows.cli.starting import settings_of
from flows.embedded import named_server
from flows.options import OUTPUT, BaseModel, Home, Json, Preset, options_of, typed
from ti_core.config import ConceptDetails
from ti_core.errors import InputError, NotFoundError, ServiceError

if TYPE_CHECKING:
    from ti_core.uploading import Brought


@options_of()
def upload(
    *,
    source: Annotated[
        str, typer.Argument(metavar="DIR", help="A folder, .zip or .tar file with the pictures of one concept.")
    ],
    name: Annotated[
        str, typer.Option("--name", help="Of the concept. Empty: the folder's.", rich_help_panel="Concept")
    ] = "",
    class_word: Annotated[
        str,
        typer.Option(
            "--class-word", help="What kind of thing it is. Empty: as its concept.toml says.", rich_help_panel="Concept"
        ),
    ] = "",
    details: ConceptDetails,
    preset: Preset = "standard",
    base_model: BaseModel = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove what else lies at its place.", rich_help_panel=OUTPUT)
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Check pictures, put them where workers read them (PSEUDOWORD_PICTURES), and print the link to the filled-in form;
    nothing is started."""
    from flows import console
    from ti_core.checking import check, meant, times
    from ti_core.config import TrainingConfig, check_slug
    from ti_core.planning.batch import for_bases, is_batch
    from ti_core.uploading import bring, described

    settings = settings_of(home)
    named_server()  # a wrong address is told before anything is sent
    said: dict[str, Any] = details.model_dump(exclude_unset=True)
    item = described(
        source, check_slug(name or _named(source)), said | ({"class_word": class_word} if class_word else {}), settings
    )
    if is_batch(source, settings):
        raise InputError(f"{source} holds folders of several concepts: upload them one by one.")
    item = dataclasses.replace(item, base_model=base_model or item.base_model)
    if len(bases := for_bases([item], [""], settings)) > 1:
        names = ", ".join(one.base_model for one in bases)
        raise InputError(f"{item.name} is for several base models ({names}): name one of them with --base-model.")
    base_model = item.base_model
    base = meant(base_model, settings)
    checked = list(check(source, item.training(TrainingConfig()), base, settings, showing=False))
    if not as_json:
        console.show_checked(checked)
    brought = bring(item, settings, replace)
    given = forms.parameters(brought.item, preset)
    link = _link(given)
    if link:
        from tasks.asking import of_namespace

        start = forms.command(given, of_namespace())
        link = "" if settings.namespace else link  # a run from the form is of the worker's own namespace
    else:
        start = _command(brought, preset, base_model, home)
    if as_json:
        found = [one.model_dump(mode="json") for one in checked[0].images.findings]
        told = {"pictures": given["pictures"], "sent": brought.sent, "known": brought.known, "findings": found}
        typer.echo(json.dumps(told | {"parameters": given, "form": link, "command": start}))
        return Code.DONE
    for sentence in times(base, settings):
        typer.echo(sentence)
    typer.echo(f"{given['pictures']}: {brought.sent} files sent, {brought.known} were there.")
    if link:
        typer.echo(f"The form, filled in:  {link}")
    typer.echo(f"{'Or from a terminal:  ' if link else 'To start:  '}{start}")
    return Code.DONE


def _named(source: str) -> str:
    """The name of a folder or archive."""
    return Path(source).resolve().name.partition(".")[0]


def _link(given: dict[str, Any]) -> str:
    """Where the form is; "" without a server. Of one that cannot tell it is warned: the pictures are there all the
    same."""
    if not named_server():
        return ""
    try:
        return forms.form_link(given)
    except (NotFoundError, ServiceError) as error:
        typer.secho(f"Warning: {error}", fg="yellow", err=True)
        return ""


def _command(brought: "Brought", preset: str, base_model: str, home: Path | None) -> str:
    """What trains the concept here."""
    assert brought.item.spec is not None  # noqa: S101  # for the type checker
    words = ["ti", "train", *typed(brought.item.spec), *typed(brought.item.own)]
    options = {
        "--preset": preset if preset != "standard" else "",
        "--base-model": base_model,
        "--home": str(home or ""),
    }
    return shlex.join(words + [word for option, value in options.items() if value for word in (option, value)])
