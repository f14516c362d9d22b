"""`ti check`: what is to be said of pictures before they are trained on. Nothing is trained, published or loaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.ending import Code
from flows.cli.starting import settings_of
from flows.options import OUTPUT, BaseModel, Home, Json, Only, options_of
from ti_core.config import TrainingConfig
from ti_core.errors import InputError

if TYPE_CHECKING:
    from ti_core.images.ingest import Wanted
    from ti_core.reporting.checking import Checked
    from ti_core.settings import Settings


@options_of()
def check(
    *,
    source: Annotated[
        str, typer.Argument(help="Pictures of one concept, or a batch: a folder of such folders, a prefix or a table.")
    ],
    html: Annotated[
        Path | None, typer.Option("--html", help="Page to write, with the pictures.", rich_help_panel=OUTPUT)
    ] = None,
    training: Annotated[TrainingConfig, Only(("resolution", "crop", "mirror"), "Pictures")],
    base_model: BaseModel = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Look at pictures as training would, and say what is wrong with them; nothing is trained."""
    from flows import console
    from ti_core.backbone.folder import find_base
    from ti_core.planning.plan import wanted_of
    from ti_core.reporting.checking import check_page

    settings = settings_of(home)
    base = find_base(base_model or settings.base_model)
    wanted = wanted_of(training.resolved(base.kind, base.resolution))
    checked = list(_checked(source, wanted, settings))
    if html is not None:
        try:
            html.write_bytes(check_page(checked))
        except OSError as error:
            raise InputError(f"The page {html} cannot be written: {error.strerror}.") from None
    if as_json:
        said = [
            {"name": one.name, "error": one.error}
            | one.images.model_dump(mode="json", include={"pictures", "findings"})
            for one in checked
        ]
        typer.echo(json.dumps(said))
    else:
        console.show_checked(checked)
    return Code.FAILED if any(one.error for one in checked) else Code.DONE


def _checked(source: str, wanted: "Wanted", settings: "Settings") -> "Iterator[Checked]":
    """What is found at a source that holds one concept, or at each one of a batch."""
    from ti_core.images.ingest import look
    from ti_core.planning.batch import is_batch, read_batch
    from ti_core.records import ImageSet
    from ti_core.reporting.checking import Checked

    if not is_batch(source, settings):
        yield Checked(source, *look(source, wanted, settings))
        return
    for item in read_batch(source, "object", settings):
        try:
            if item.spec is None:
                raise InputError(item.reason)
            yield Checked(item.name, *look(item.spec.pictures, wanted, settings))
        except InputError as error:
            yield Checked(item.name, ImageSet(pictures=()), {}, str(error))
