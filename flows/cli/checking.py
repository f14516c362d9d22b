"""`ti check`: what is to be said of pictures before they are trained on. Nothing is trained or published, and no model
loaded unless the judge is asked for."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.ending import Code
from flows.cli.starting import settings_of
from flows.options import OUTPUT, BaseModel, Home, Json, Only, options_of
from ti_core.config import BackboneKind, TrainingConfig
from ti_core.errors import InputError, PseudowordError

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
    judge: Annotated[
        bool,
        typer.Option(
            "--judge", help="Load the judge and ask it which picture is unlike the others.", rich_help_panel="Pictures"
        ),
    ] = False,
    base_model: BaseModel = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Look at pictures as training would, and say what is wrong with them; nothing is trained."""
    from flows import console
    from ti_core.backbone.folder import find_base
    from ti_core.planning.plan import wanted_of

    settings = settings_of(home)
    base = find_base(base_model or settings.base_model)

    def wanted(of_concept: TrainingConfig) -> "Wanted":
        return wanted_of(of_concept.resolved(base.kind, base.resolution))

    found = _checked(source, training, wanted, settings, showing=html is not None or judge)
    if judge:
        found = _judged(found, base.kind, settings)
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
    return Code.FAILED if any(one.error for one in checked) else Code.DONE


def _judged(found: "Iterable[Checked]", kind: "BackboneKind", settings: "Settings") -> "Iterator[Checked]":
    """What is found, with what the judge of a base model's kind says."""
    from ti_core.backbone.folder import find_judge
    from ti_core.backbone.resident import choose_device
    from ti_core.judging.clip import Clip
    from ti_core.judging.unlike import unlike

    clip = Clip(find_judge(settings.clip, kind), choose_device(settings.device))
    for one in found:
        squares = [one.made[picture.sha256].square for picture in one.images.pictures]
        odd = unlike(clip.image_features(squares), one.images) if squares else ()
        yield replace(one, images=one.images.with_findings(odd))


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


def _checked(
    source: str, training: TrainingConfig, wanted: "Callable[[TrainingConfig], Wanted]", settings: "Settings", *,
    showing: bool,
) -> "Iterator[Checked]":  # fmt: skip
    """What is found at a source that holds one concept, or at each one of a batch; with its pictures if they are to be
    shown."""
    from ti_core.images.ingest import ingest, look
    from ti_core.planning.batch import is_batch, read_batch
    from ti_core.records import ImageSet
    from ti_core.reporting.checking import Checked

    def of(name: str, pictures: str, how: "Wanted") -> Checked:
        if showing:
            return Checked(name, *look(pictures, how, settings))
        return Checked(name, ingest(pictures, how, settings), {})

    if not is_batch(source, settings):
        yield of(source, source, wanted(training))
        return
    for item in read_batch(source, "object", settings):
        try:
            if item.spec is None:
                raise InputError(item.reason)
            yield of(item.name, item.spec.pictures, wanted(item.training(training)))
        except PseudowordError as error:
            yield Checked(item.name, ImageSet(pictures=()), {}, str(error))
