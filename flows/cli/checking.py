"""`ti check`: what is to be said of pictures before they are trained on. Nothing is trained or published, and no model
loaded unless the judge is asked for."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.ending import Code
from flows.cli.starting import settings_of
from flows.options import OUTPUT, TO_CHECK, AskJudge, BaseModel, Home, Json, Only, options_of
from ti_core.config import TrainingConfig
from ti_core.errors import InputError

if TYPE_CHECKING:
    from ti_core.reporting.checking import Checked


@options_of()
def check(
    *,
    source: Annotated[str, typer.Argument(help=TO_CHECK)],
    html: Annotated[
        Path | None, typer.Option("--html", help="Page to write, with the pictures.", rich_help_panel=OUTPUT)
    ] = None,
    training: Annotated[TrainingConfig, Only(("resolution", "crop", "mirror"), "Pictures")],
    judge: AskJudge = False,
    base_model: BaseModel = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Look at pictures as training would, and say what is wrong with them; nothing is trained."""
    from flows import console
    from ti_core.checking import check as looked_at
    from ti_core.checking import meant, times

    settings = settings_of(home)
    base = meant(base_model, settings)
    found = looked_at(source, training, base, settings, showing=html is not None, judge=judge)
    checked = [replace(one, made={}) for one in found] if html is None else _written(html, found)
    if as_json:
        said = [
            {"name": one.name, "error": one.error}
            | one.images.model_dump(mode="json", include={"pictures", "findings"})
            for one in checked
        ]
        typer.echo(json.dumps(said))
    else:
        console.show_checked(checked)
        for sentence in times(base, settings):
            typer.echo(sentence)
    return Code.FAILED if any(one.error for one in checked) else Code.DONE


def _written(html: Path, found: "Iterable[Checked]") -> "list[Checked]":
    """Write the page of what is found, one concept after the other, and return that without its pictures. Nothing is
    left of a page that does not come to its end."""
    from ti_core.reporting.checking import check_page

    kept = list["Checked"]()

    def told() -> "Iterator[Checked]":
        for one in found:
            kept.append(replace(one, made={}))
            yield one

    if html.is_dir():
        raise InputError(f"The page {html} cannot be written: it is a folder; name a file.")
    partial = html.with_name(f".{html.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(check_page(told()))
        partial.replace(html)
    except OSError as error:
        raise InputError(f"The page {html} cannot be written: {error.strerror}.") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return kept
