"""`ti approve` and `ti decline`: a person says whether readers get what a run with `--approval` has made. No server is
needed; only where another step is to be judged, or a champion that came meanwhile, is anything heavy imported."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.ending import Code, code_of
from flows.cli.keeping import MustSay, Name, Reason, Who, tell_tracking, who_decides
from flows.cli.starting import interruptible, quiet_libraries, settings_of
from flows.options import OUTPUT, Home, Json, OfBase, Run

if TYPE_CHECKING:
    from ti_core.records import Outcome
    from ti_core.settings import Settings
    from ti_core.store import Store


def approve(
    concept: Name,
    step: Annotated[
        int,
        typer.Option(
            "--step",
            min=0,
            help="Publish this step in place of the chosen one; it is judged first.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    reason: Reason = "",
    who: Who = "",
    run: Run = "",
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Publish a word that awaits approval. Where the best version is another one than when it was judged, they meet
    first."""
    from flows import console
    from ti_core.approval import approve as publish

    settings, store, waiting = _waiting(concept, base_model, run, home)
    with interruptible():
        quiet_libraries()
        with console.live(quiet=as_json):
            outcome = publish(waiting, step, who_decides(who), reason, settings, store)
    tell_tracking(settings, store)
    typer.echo(outcome.model_dump_json() if as_json else f"{outcome.status}: {outcome.reason}")
    return code_of([outcome.status])


def decline(
    concept: Name,
    reason: MustSay,
    who: Who = "",
    run: Run = "",
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Do not publish a word that awaits approval: readers keep what they have, and no batch asks again."""
    from ti_core.publishing import approving

    settings, store, waiting = _waiting(concept, base_model, run, home)
    outcome = approving.decline(store, waiting, who_decides(who), reason)
    tell_tracking(settings, store)
    typer.echo(outcome.model_dump_json() if as_json else f"{outcome.status}: {outcome.reason}")
    return Code.DONE


def _waiting(concept: str, base_model: str, run: str, home: Path | None) -> "tuple[Settings, Store, Outcome]":
    from ti_core.publishing.approving import find_awaiting
    from ti_core.store import open_store

    settings = settings_of(home)
    store = open_store(settings)
    return settings, store, find_awaiting(store, settings, concept, base_model, run)
