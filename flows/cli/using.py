"""`ti generate`, `fetch`, `sync`, `list` and `show`: use and look at what is published. All but the first need the
store alone."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.ending import Code
from flows.cli.starting import quiet_libraries, settings_of
from flows.options import OUTPUT, BaseModel, Home, Json, OfBase, Only, OnlyBase, UsageError, options_of
from ti_core.config import EvaluationConfig
from ti_core.errors import NotFoundError
from ti_core.records import Format

Layout_ = Annotated[Format, typer.Option("--format", help="Layout of the files.", rich_help_panel=OUTPUT)]


@options_of()
def generate(
    *,
    prompt: Annotated[str, typer.Argument(help="Any prompt; words are written as <name>, several may be used.")],
    out: Annotated[
        Path, typer.Option("--out", help="PNG to write; with --count, out-1.png, …", rich_help_panel=OUTPUT)
    ],
    count: Annotated[int, typer.Option(min=1, max=64, help="Pictures to make.", rich_help_panel=OUTPUT)] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first picture; the next ones count up.", rich_help_panel=OUTPUT)
    ] = 0,
    sampling: Annotated[EvaluationConfig, Only(("sampler_steps", "guidance", "sampler"), OUTPUT)],
    base_model: BaseModel = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Make pictures from a prompt that uses published words."""
    from ti_core.sampling.generate import generate as make

    settings = settings_of(home)
    seeds = list(range(seed, seed + count))
    quiet_libraries()
    paths = make(prompt, out, seeds, sampling, base_model, settings)
    typer.echo(json.dumps([str(path) for path in paths]) if as_json else "\n".join(map(str, paths)))
    return Code.DONE


def fetch(
    concepts: Annotated[list[str] | None, typer.Argument(help="Names of concepts.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All published words (of the base model).", rich_help_panel=OUTPUT)
    ] = False,
    layout: Layout_ = "diffusers",
    out: Annotated[
        Path, typer.Option("--out", help="Folder; each base model has one of its own in it.", rich_help_panel=OUTPUT)
    ] = Path("."),
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail where the best version is damaged, instead of taking the one before it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Ask no store: verify the copy that lies in the folder.", rich_help_panel=OUTPUT
        ),
    ] = False,
    kind: Annotated[
        Literal["file", "hub"],
        typer.Option("--as", help="hub: a folder that `hf upload` takes, with a card.", rich_help_panel=OUTPUT),
    ] = "file",
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Fetch the best versions of words, verified, ready to load."""
    from ti_core import client
    from ti_core.errors import PseudowordError

    settings = settings_of(home)
    if bool(concepts) == everything:
        raise UsageError("Name the words to fetch, or --all of them.")
    how = {"layout": layout, "out": out, "settings": settings, "strict": strict, "offline": offline}
    if kind == "hub" and (everything or len(concepts or ()) != 1):
        raise UsageError("--as hub takes one word.")
    if concepts and len(concepts) == 1:
        if kind == "hub":
            path = client.hub_folder(concepts[0], base_model or None, out, settings, strict)
        else:
            path = client.get(concepts[0], base=base_model or None, **how)
        typer.echo(json.dumps({"path": str(path)}) if as_json else str(path))
        return Code.DONE
    wanted = [(one, base_model or None) for one in concepts or ()]
    if everything:
        wanted = [(row.concept, row.base) for row in client.words(base_model or None, settings=settings)]
    made = client.get_many(wanted, **how)
    return _told(
        [
            {"concept": name, "base": base, "path": str(one)}
            for (name, base), one in made.items()
            if isinstance(one, Path)
        ],
        [str(one) for one in made.values() if isinstance(one, PseudowordError)],
        as_json,
    )


def sync(
    out: Annotated[Path, typer.Argument(help="Folder; each base model has one of its own in it.")],
    layout: Layout_ = "diffusers",
    base_model: OnlyBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Bring a folder up to date with what is published: fetch what is new or changed, remove what is withdrawn."""
    from ti_core import client

    done = client.sync(out, base_model or None, layout, settings_of(home))
    if as_json:
        fields = {"fetched": list(map(str, done.fetched)), "removed": list(map(str, done.removed))}
        typer.echo(json.dumps(fields | {"failed": done.failed, "there": done.there}))
    else:
        for path in done.fetched:
            typer.echo(f"fetched {path}")
        for path in done.removed:
            typer.echo(f"removed {path}")
        for reason in done.failed.values():
            typer.secho(f"Error: {reason}", fg="red", err=True)
        typer.echo(f"{done.there} words in {out}: {len(done.fetched)} fetched, {len(done.removed)} removed.")
    return Code.FAILED if done.failed else Code.DONE


def list_(
    base_model: OnlyBase = "",
    min_score: Annotated[
        float,
        typer.Option("--min-score", min=0, max=1, help="Only words of at least this score.", rich_help_panel=OUTPUT),
    ] = 0,
    tag: Annotated[str, typer.Option("--tag", help="Only words with this tag.", rich_help_panel=OUTPUT)] = "",
    awaiting: Annotated[
        bool, typer.Option("--awaiting", help="Instead, what awaits approval.", rich_help_panel=OUTPUT)
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> int:
    """List published words with version, step and score."""
    from flows import console
    from ti_core import client
    from ti_core.config import base_slug
    from ti_core.publishing.approving import awaiting as waiting
    from ti_core.publishing.approving import page_of
    from ti_core.store import open_store

    settings = settings_of(home)
    if awaiting and (min_score or tag):
        raise UsageError("--awaiting lists what is not published yet: leave --min-score and --tag out.")
    if not awaiting:
        console.show_words(client.words(base_model or None, min_score, settings, tag=tag), as_json)
    if awaiting or not as_json:
        store = open_store(settings)
        there = waiting(store)
        there = [one for one in there if not base_model or one.base == base_slug(base_model)]
        if there or awaiting:
            console.show_awaiting([(one, page_of(store, one)) for one in there], as_json)
    return Code.DONE


def _told(paths: list[dict[str, str | None]], reasons: list[str], as_json: bool) -> int:
    if as_json:
        typer.echo(json.dumps({"fetched": paths, "failed": reasons}))
    else:
        for one in paths:
            typer.echo(one["path"])
        for reason in reasons:
            typer.secho(f"Error: {reason}", fg="red", err=True)
    return Code.FAILED if reasons else Code.DONE


def show(
    concept: Annotated[
        str, typer.Argument(help="Name of the concept, or a .safetensors file of one; none lists all.")
    ] = "",
    base_model: OnlyBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Show versions, scores by step, the chosen step and where files are; without a name, all published words. Of a
    file: what it says about itself."""
    from flows import console
    from ti_core.config import base_slug, check_slug
    from ti_core.publishing import catalogue
    from ti_core.store import open_store

    if concept.endswith(".safetensors"):
        return _show_file(Path(concept), as_json)
    if not concept:
        return list_(base_model, 0, "", False, home, as_json)
    store = open_store(settings_of(home))
    only = base_slug(base_model) if base_model else ""
    check_slug(concept)
    bases = [only] if only else catalogue.bases_of(store, concept)
    ended = {one: catalogue.outcomes_of(store, concept, one) for one in bases}
    if not any(ended.values()):
        where = f" on {only}" if only else ""
        raise NotFoundError(f"No run of {concept}{where} has ended in {store.uri}; `ti show` lists what there is.")
    runs = []
    for one, outcomes in ended.items():
        if outcomes:
            pointer = catalogue.pointer_of(store, concept, one)
            named = pointer and pointer.judge_key and pointer.manifest
            runs.append((outcomes, pointer, catalogue.run_at(store, named or outcomes[-1].manifest)))
    console.show_concept(store, runs, as_json)
    return Code.DONE


def _show_file(path: Path, as_json: bool) -> int:
    """What a published file says about itself."""
    from ti_core import formats
    from ti_core.errors import InputError
    from ti_core.quoting import escaped

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    told = formats.about(data, str(path))
    if as_json:
        typer.echo(json.dumps(told))
        return Code.DONE
    for name, text in told.items():
        short = text if len(text) < 400 else f"{text[:60]}… ({len(text)} characters)"
        typer.echo("\n".join(map(escaped, f"{name}: {short}".split("\n"))))
    return Code.DONE
