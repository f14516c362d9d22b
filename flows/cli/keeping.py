"""`ti rollback`, `pin`, `withdraw`, `forget`, `audit`, `gc`: people change their mind, and the store is looked after.

What readers get changes at once, in the store alone. The tracking server is told where it answers, else at a later run.
"""

import getpass
import json
import logging
import os
import re
import socket
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.ending import Code
from flows.cli.starting import quiet_libraries, settings_of
from flows.options import OUTPUT, Home, Json, OfBase, OnlyBase, UsageError
from ti_core.errors import InputError, ServiceError

if TYPE_CHECKING:
    from ti_core.records import Champion, Fault
    from ti_core.settings import Settings
    from ti_core.store import Store

log = logging.getLogger(__name__)

WHY = "Why: it is kept with the decision, and readers of what is withdrawn are told."


def _said_why(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("say why in a few words")
    return reason


Name = Annotated[str, typer.Argument(help="Name of the concept.")]
Reason = Annotated[str, typer.Option("--reason", help=WHY, rich_help_panel=OUTPUT)]
MustSay = Annotated[str, typer.Option("--reason", help=WHY, rich_help_panel=OUTPUT, callback=_said_why)]
Who = Annotated[str, typer.Option("--who", help="Who decides (default: user@machine).", rich_help_panel=OUTPUT)]


def rollback(
    concept: Name,
    to: Annotated[
        int, typer.Option("--to", min=0, help="Version to go to (default: the one before).", rich_help_panel=OUTPUT)
    ] = 0,
    reason: Reason = "",
    who: Who = "",
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Let readers get an earlier version again. The present one stays published; it does not come back by itself."""
    from ti_core.publishing.pointer import rollback as roll

    settings, store, base = _word(concept, base_model, home)
    return _said(roll(store, concept, base, to or None, who_decides(who), reason), settings, store, as_json)


def pin(
    concept: Name,
    off: Annotated[bool, typer.Option("--off", help="Let newcomers compete again.", rich_help_panel=OUTPUT)] = False,
    reason: Reason = "",
    who: Who = "",
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Hold the present version in its place, however good the newcomers are."""
    from ti_core.publishing.pointer import pin as hold

    settings, store, base = _word(concept, base_model, home)
    return _said(hold(store, concept, base, who_decides(who), reason, off), settings, store, as_json)


def withdraw(
    concept: Name,
    reason: MustSay,
    version: Annotated[
        int,
        typer.Option("--version", min=0, help="Of which version (default: what readers get).", rich_help_panel=OUTPUT),
    ] = 0,
    who: Who = "",
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Withdraw a version for good: the one before it takes its place, or readers are told that there is none."""
    from ti_core.publishing.pointer import withdraw as take_back

    settings, store, base = _word(concept, base_model, home)
    return _said(take_back(store, concept, base, version or None, who_decides(who), reason), settings, store, as_json)


def forget(
    concept: Name,
    reason: Reason = "",
    allow_again: Annotated[
        bool, typer.Option("--allow-again", help="Let a forgotten word be trained again.", rich_help_panel=OUTPUT)
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.", rich_help_panel=OUTPUT)] = False,
    who: Who = "",
    base_model: OnlyBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Remove a word with its pictures, checkpoints and pages for good; its name stays taken, so that no batch makes it
    again."""
    from ti_core.config import base_slug, check_slug
    from ti_core.errors import NotFoundError
    from ti_core.publishing import forgetting
    from ti_core.publishing.catalogue import bases_of, manifests_of
    from ti_core.publishing.index import published
    from ti_core.store import open_store

    settings = settings_of(home)
    store = open_store(settings)
    check_slug(concept)
    if allow_again:
        there = [(concept, base_slug(base_model))] if base_model else published(store, concept)
        bases = [base for _, base in forgetting.forgotten_words(store, there)]
        if not bases:
            raise NotFoundError(f"{concept} was not forgotten{f' on {base_model}' if base_model else ''}.")
        for base in bases:
            forgetting.allow(store, concept, base, who_decides(who), reason)
        typer.echo(json.dumps({"allowed": bases}) if as_json else f"{concept} may be trained again.")
        return Code.DONE
    bases = [base_slug(base_model)] if base_model else bases_of(store, concept)
    if not bases:
        raise NotFoundError(f"The store {store.uri} holds nothing of {concept}.")
    if not yes:
        if as_json:
            raise UsageError("What is forgotten cannot be had again: say --yes.")
        if not _confirmed(f"Remove all of {concept} on {', '.join(bases)} for good?"):
            raise InputError(f"Nothing of {concept} was removed: nobody has confirmed it. With --yes nobody is asked.")
    cached = [Path(one.prepared.latents) for base in bases for one in manifests_of(store, concept, base)]
    done = {base: forgetting.forget(store, concept, base, who_decides(who), reason) for base in bases}
    _clear(settings, concept, bases, cached)
    tell_tracking(settings, store)
    if as_json:
        typer.echo(json.dumps({base: asdict(one) for base, one in done.items()}))
        return Code.DONE
    for base, one in done.items():
        typer.echo(
            f"{concept} on {base} is forgotten: {one.objects} documents and {one.blobs} blobs are gone, {one.shared} "
            "blobs stay because other words have them too."
        )
    typer.echo(
        "Still to be removed by hand: the folder that its pictures came from; copies in readers' folders go with their "
        "next fetch or sync; MLflow's copies are deleted and leave its disk with `mlflow gc` on its server."
    )
    return Code.DONE


def audit(
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; may be done again.", rich_help_panel=OUTPUT)
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Look through the store and its mirror for what is damaged, missing, torn off or stale."""
    from ti_core.publishing.audit import audit as look
    from ti_core.store import open_store

    settings = settings_of(home)
    store = open_store(settings)
    if repair:
        tell_tracking(settings, store)
    found = [*look(store, repair), *_of_mirror(settings, store, repair)]
    if as_json:
        typer.echo(json.dumps([one.model_dump() for one in found]))
    else:
        for one in found:
            typer.echo(f"{'repaired: ' if one.repaired else ''}{one.what}")
        typer.echo(f"{len(found)} findings, {sum(one.repaired for one in found)} repaired.")
    harmless = {"unnamed", "untold"}
    return Code.FAILED if any(not one.repaired and one.kind not in harmless for one in found) else Code.DONE


def gc(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", help="Time of grace, as 14d or 36h; longer than any run takes.", rich_help_panel=OUTPUT
        ),
    ] = "14d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.", rich_help_panel=OUTPUT)] = False,
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Remove blobs that nothing names: first they are put aside, and after as long again removed."""
    from ti_core.publishing.audit import words_of
    from ti_core.publishing.collecting import collect
    from ti_core.publishing.forgetting import forgotten_words, sweep
    from ti_core.store import open_store

    match = re.fullmatch(r"([0-9]{1,5})([dh])", older_than)  # the calendar ends before 999999 days
    grace = timedelta(hours=int(match[1]) * (24 if match[2] == "d" else 1)) if match else timedelta(0)
    if grace < timedelta(hours=1):
        raise UsageError(f"--older-than is {older_than!r}: write 14d or 36h, from 1h to 99999d.")
    store = open_store(settings_of(home))
    if not dry_run:
        for word in forgotten_words(store, words_of(store)):
            sweep(store, *word)
    done = collect(store, grace, dry_run)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
    else:
        typer.echo(
            f"{done.aside} blobs put aside, {done.removed} removed ({done.freed / 2**20:.1f} MiB), {done.brought_back} "
            f"brought back{' (nothing was done)' if dry_run else ''}."
        )
    return Code.DONE


def _word(concept: str, base_model: str, home: Path | None) -> "tuple[Settings, Store, str]":
    from ti_core.config import check_slug
    from ti_core.publishing.catalogue import base_for
    from ti_core.publishing.forgetting import forgotten_words
    from ti_core.publishing.index import published
    from ti_core.store import open_store

    settings = settings_of(home)
    store = open_store(settings)
    there = published(store, check_slug(concept))
    gone = forgotten_words(store, there)
    return settings, store, base_for(base_model, settings, [one[1] for one in there if one not in gone])


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:  # Ctrl-C, or nobody is there to answer
        typer.echo(err=True)
        return False


def _clear(settings: "Settings", concept: str, bases: list[str], latents: list[Path]) -> None:
    """Remove what this machine's data folder has of a forgotten word: pages, copies, and latents, which are made anew
    where another word has the same pictures."""
    own = settings.shown_in.absolute()
    found = [path for base in bases for path in (own / "pages").glob(f"{concept}.{base}.*.html")]
    found += [path for base in bases for path in (own / "words").glob(f"*/{base}/*{concept}.*")
              if path.name in {f"{concept}.safetensors", f".{concept}.json"}]  # fmt: skip
    found += [path for path in latents if path.is_relative_to(settings.home.absolute() / "cache")]
    for path in [*found, own / "pages" / "batch.html"]:  # it shows a training picture of each concept
        path.unlink(missing_ok=True)


def who_decides(given: str) -> str:
    """The name that a decision is kept under."""
    if given:
        return given
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user without a name, as in a container
        return f"user {os.getuid()}@{socket.gethostname()}"


def _said(pointer: "Champion", settings: "Settings", store: "Store", as_json: bool) -> int:
    tell_tracking(settings, store)
    if as_json:
        typer.echo(pointer.model_dump_json())
        return Code.DONE
    where = f"{pointer.concept} on {pointer.base}"
    if pointer.vacant:
        typer.echo(f"Readers of {where} are told that it was withdrawn: no version stands.")
    else:
        pinned, how = ", pinned" if pointer.pin else "", f"step {pointer.step}, score {pointer.score:.3f}"
        typer.echo(f"Readers of {where} get version {pointer.version}{pinned} ({how}).")
    return Code.DONE


def tell_tracking(settings: "Settings", store: "Store") -> None:
    """Let the tracking server follow now, where it is installed and answers."""
    from ti_core import outbox

    quiet_libraries()
    outbox.tell(settings, store)


def _of_mirror(settings: "Settings", store: "Store", repair: bool) -> "list[Fault]":
    """What is wrong with the mirror; one finding where it does not answer."""
    from ti_core.publishing.audit import words_of
    from ti_core.publishing.mirroring import compare
    from ti_core.records import Fault
    from ti_core.registry import Registry

    try:
        return compare(store, Registry(settings), words_of(store), repair)
    except ServiceError as error:
        return [Fault(kind="mirror", what=str(error))]
