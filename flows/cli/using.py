"""`ti generate`, `ti fetch` and `ti show`: use and look at what is published. The last two need the store alone."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.ending import Code
from flows.cli.starting import quiet_libraries, settings_of
from flows.options import OUTPUT, WHERE, BaseModel, Home, Json, OfBase, Only, options_of
from ti_core.config import EvaluationConfig
from ti_core.errors import NotFoundError
from ti_core.records import Layout

Name = Annotated[str, typer.Argument(help="Name of the concept.")]


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
    from ti_core.store import open_store

    settings = settings_of(home)
    seeds = list(range(seed, seed + count))
    quiet_libraries()
    paths = make(prompt, out, seeds, sampling, base_model, settings, open_store(settings))
    typer.echo(json.dumps([str(path) for path in paths]) if as_json else "\n".join(map(str, paths)))
    return Code.DONE


def fetch(
    concept: Name,
    layout: Annotated[
        Layout, typer.Option("--format", help="Layout of the file.", rich_help_panel=OUTPUT)
    ] = "diffusers",
    out: Annotated[Path, typer.Option("--out", help="Folder to write into.", rich_help_panel=OUTPUT)] = Path("."),
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Fetch the best version of a word, verified, ready to load."""
    from ti_core import client

    path = client.get(concept, base=base_model or None, layout=layout, out=out, settings=settings_of(home))
    typer.echo(json.dumps({"path": str(path)}) if as_json else str(path))
    return Code.DONE


def show(
    concept: Annotated[str, typer.Argument(help="Name of the concept; none lists all.")] = "",
    base_model: Annotated[
        str, typer.Option("--base-model", help="Only the words of this one (default: of all).", rich_help_panel=WHERE)
    ] = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Show versions, scores by step, the chosen step and where files are; without a name, all published words."""
    from flows import console
    from ti_core import client
    from ti_core.config import base_slug, check_slug
    from ti_core.publishing import catalogue
    from ti_core.store import open_store

    store = open_store(settings_of(home))
    only = base_slug(base_model) if base_model else ""
    if not concept:
        there = [one for one in client.concepts(store) if only in ("", one[1])]
        console.show_concepts([catalogue.champion_of(store, *one) for one in there], as_json)
        return Code.DONE
    check_slug(concept)
    bases = [only] if only else catalogue.bases_of(store, concept)
    ended = {one: catalogue.outcomes_of(store, concept, one) for one in bases}
    if not any(ended.values()):
        where = f" on {only}" if only else ""
        raise NotFoundError(f"No run of {concept}{where} has ended in {store.uri}; `ti show` lists what there is.")
    runs = []
    for one, outcomes in ended.items():
        if outcomes:
            current = catalogue.champion_of(store, concept, one)
            manifest = catalogue.manifest_at(store, current.manifest if current else outcomes[-1].manifest)
            runs.append((outcomes, current, manifest))
    console.show_concept(store, runs, as_json)
    return Code.DONE
