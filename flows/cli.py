"""`ti`: train, judge, publish and use new words from the command line.

Answers `--help` without torch or Prefect; `fetch` and `show` need neither. Every error meant for a person is one
sentence on stderr and exit code 1; `--json` prints one JSON value on stdout instead of words.
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ti_core import __version__
from ti_core.errors import InputError, NotFoundError, PseudowordError

if TYPE_CHECKING:
    from ti_core.config import ConceptSpec, EvaluationConfig, Packing, TrainingConfig
    from ti_core.planning.batch import BatchItem
    from ti_core.records import Outcome
    from ti_core.settings import Settings
    from ti_core.works import Asked, Work

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Teach a frozen Stable Diffusion one new word from three to five pictures.",
)

Home = Annotated[Path | None, typer.Option("--home", help="Data folder of this run (default: ./pseudoword-data).")]
Base = Annotated[
    str, typer.Option("--base-model", help="miniature, a diffusers folder, a .safetensors file, or a hub name.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Steps = Annotated[int, typer.Option(help="Optimizer steps; 0 is the base model's default.")]
Rate = Annotated[float, typer.Option("--learning-rate", help="0 is the base model's default.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Samples per step; 0 is the base model's default.")]
Every = Annotated[int, typer.Option("--checkpoint-every", help="Steps; 0 is the base model's default.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]
Mirror = Annotated[bool, typer.Option(help="Train on mirrored pictures too; off for lettering.")]
Accumulation = Annotated[int, typer.Option(help="Passes per step: more samples in the same memory.")]
Schedule = Annotated[
    Literal["constant", "constant_with_warmup", "linear", "cosine"], typer.Option(help="Of the learning rate.")
]
Warmup = Annotated[int, typer.Option(help="Steps in which the learning rate rises from 0.")]
Norm = Annotated[
    Literal["free", "clamp", "direction"], typer.Option(help="Norm of the vectors: free, bounded, or fixed.")
]
NormLimit = Annotated[float, typer.Option("--norm-limit", help="In units of the vocabulary's mean norm.")]
Masked = Annotated[bool, typer.Option(help="Learn only what alpha or a -masklabel.png beside a picture shows.")]
StopEarly = Annotated[bool, typer.Option(help="End when the loss on a fixed batch has come to rest (DVAR).")]
Slots = Annotated[str, typer.Option(help="Concepts trained at the same time: a number, or auto: what memory allows.")]
KeepShape = Annotated[bool, typer.Option(help="Bit-identical vectors in any company, slower at a batch's end.")]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile the U-Net: slow to start, faster after.")]
Minutes = Annotated[float, typer.Option(help="Time for training, after which it pauses; 0 is no limit.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Pictures per prompt when judging; 0 is the protocol's default.")]
Protocol = Annotated[
    Literal["", "standard", "quick", "textual-inversion-paper", "dreambench"],
    typer.Option("--protocol", help="How checkpoints are judged (default: standard)."),
]
Data = Annotated[str, typer.Option("--data", help="dreambench: folder of the DreamBooth data set, with its prompts.")]
Halving = Annotated[bool, typer.Option("--halving", help="Judge only the better steps on all seeds.")]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompts", help="TOML file with tables select and report, each plain = […], edit = […]."),
]


def main() -> None:
    """Run the command line; the entry point of `ti`."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries tell developers; ours are sentences of their own
    try:
        app()
    except PseudowordError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "flows", "tasks", "ti_core"}:
            raise
        advice = "install all that it needs with pip install 'pseudoword[train]'"
        typer.secho(f"Error: This command needs {package}, which is not installed here: {advice}.", fg="red", err=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def train(
    pictures: Annotated[str, typer.Argument(help="Folder, .zip file or s3://bucket/prefix with the pictures.")],
    name: Annotated[str, typer.Option(help="Name of the concept: lower case, digits, hyphens. The word is <name>.")],
    class_word: Annotated[str, typer.Option("--class-word", help="What kind of thing it is: toy, dog, vase.")],
    kind: Annotated[Literal["object", "style"], typer.Option(help="What is to be learned.")] = "object",
    init: Annotated[str, typer.Option("--init", help="Word or phrase to start from (default: the class word).")] = "",
    vectors: Annotated[int, typer.Option(help="Vectors of the word, 1 to 16.")] = 1,
    show_pictures: Annotated[bool, typer.Option(help="Show the training pictures on pages.")] = True,
    steps: Steps = 0,
    learning_rate: Rate = 0.0,
    batch_size: BatchSize = 0,
    checkpoint_every: Every = 0,
    seed: Seed = 0,
    mirror: Mirror = True,
    accumulation: Accumulation = 1,
    schedule: Schedule = "constant",
    warmup: Warmup = 0,
    norm: Norm = "free",
    norm_limit: NormLimit = 1.0,
    masked: Masked = False,
    stop_early: StopEarly = False,
    compile_unet: Compile = False,
    minutes: Minutes = 0.0,
    seeds: Seeds = 0,
    protocol: Protocol = "",
    data: Data = "",
    prompts: PromptFile = None,
    halving: Halving = False,
    base_model: Base = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train, judge and publish one new word."""
    from ti_core.planning.batch import BatchItem
    from ti_core.works import Asked

    settings = _settings(home)
    concept = _concept(
        name=name,
        pictures=pictures,
        class_word=class_word,
        kind=kind,
        initializer=init,
        vectors=vectors,
        show_pictures=show_pictures,
    )
    training = _training(
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        checkpoint_every=checkpoint_every,
        seed=seed,
        mirror=mirror,
        accumulation=accumulation,
        schedule=schedule,
        warmup=warmup,
        norm=norm,
        norm_limit=norm_limit,
        masked=masked,
        stop_early=stop_early,
    )
    evaluation = _evaluation(prompts, seeds=seeds, protocol=protocol, data=data, halving=halving)
    packing = _packing("1", False, compile_unet, minutes)
    asked = Asked(training, evaluation, base_model=base_model)
    (work,) = works = _planned([BatchItem(concept.name, concept)], asked, settings)
    if work.error:
        raise work.error
    outcome = work.outcome
    if outcome is None:
        with _interruptible():
            _start_services(settings)
            from flows import console
            from flows.train_concept import train_concept
            from ti_core.stations import planned_already

            with console.live(quiet=as_json), planned_already(works):
                outcome = train_concept(concept, training, evaluation, base_model=base_model, packing=packing)
    _tell(outcome, settings, as_json)
    if outcome.status != "published":
        raise typer.Exit({"rejected": 3, "undecided": 4}.get(outcome.status, 1))


@app.command()
def batch(
    source: Annotated[str, typer.Argument(help="Folder or s3:// prefix with a sub-folder per concept, or a table.")],
    class_word: Annotated[str, typer.Option("--class-word", help="For concepts that name none.")] = "object",
    steps: Steps = 0,
    learning_rate: Rate = 0.0,
    batch_size: BatchSize = 0,
    checkpoint_every: Every = 0,
    seed: Seed = 0,
    mirror: Mirror = True,
    accumulation: Accumulation = 1,
    schedule: Schedule = "constant",
    warmup: Warmup = 0,
    norm: Norm = "free",
    norm_limit: NormLimit = 1.0,
    masked: Masked = False,
    stop_early: StopEarly = False,
    slots: Slots = "auto",
    keep_shape: KeepShape = False,
    compile_unet: Compile = False,
    minutes: Minutes = 0.0,
    seeds: Seeds = 0,
    protocol: Protocol = "",
    data: Data = "",
    prompts: PromptFile = None,
    halving: Halving = False,
    base_model: Base = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train many concepts together; what fails stops nobody, what is done is skipped. Exit code 1 if any failed."""
    from ti_core.planning.batch import read_batch
    from ti_core.planning.protocols import with_data
    from ti_core.store import open_store
    from ti_core.summary import rows_of, write_summary
    from ti_core.works import Asked

    settings = _settings(home)
    items = read_batch(source, class_word, settings)  # a wrong source is told before any server starts
    training = _training(
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        checkpoint_every=checkpoint_every,
        seed=seed,
        mirror=mirror,
        accumulation=accumulation,
        schedule=schedule,
        warmup=warmup,
        norm=norm,
        norm_limit=norm_limit,
        masked=masked,
        stop_early=stop_early,
    )
    evaluation = _evaluation(prompts, seeds=seeds, protocol=protocol, data=data, halving=halving)
    evaluation = with_data(evaluation, source, settings)
    packing = _packing(slots, keep_shape, compile_unet, minutes)
    works = _planned(items, Asked(training, evaluation, base_model=base_model), settings)
    from flows import console

    if any(work.open for work in works):
        with _interruptible():
            _start_services(settings)
            from flows.train_batch import train_batch
            from ti_core.stations import planned_already

            how: dict[str, Any] = {"base_model": base_model, "packing": packing, "return_state": True}
            with console.live(quiet=as_json), planned_already(works):
                state = train_batch(source, class_word, training, evaluation, **how)
        rows = state.result(raise_on_failure=False)
        if isinstance(rows, BaseException):
            raise rows
    else:  # nothing to do: no server is started and nothing heavy imported for that
        store = open_store(settings)
        rows = rows_of(works, settings, store)
        write_summary(rows, f"Batch {source}", settings, store)
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows]))
    else:
        console.show_batch(rows, settings.home.absolute() / "pages" / "batch.html")
    if any(row.status == "failed" for row in rows):
        raise typer.Exit(1)


@app.command()
def judge(
    concept: Annotated[str, typer.Argument(help="Name of the concept.")],
    run: Annotated[str, typer.Option("--run", help="Beginning of a judge key (default: the champion's).")] = "",
    clip: Annotated[str, typer.Option("--clip", help="A folder, or ARCHITECTURE/PRETRAINED (default: the same).")] = "",
    rule: Annotated[
        Literal["balanced", "fidelity", "editability"], typer.Option("--rule", help="How the step is chosen.")
    ] = "balanced",
    floor: Annotated[float, typer.Option("--floor", help="Least scaled value of the score not ranked by.")] = 0.5,
    protocol: Annotated[
        Literal["", "standard", "quick", "textual-inversion-paper", "dreambench"],
        typer.Option("--protocol", help="Another protocol, with its own numbers and judge (default: the same)."),
    ] = "",
    data: Data = "",
    prompts: PromptFile = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Pictures per prompt; 0 as before, or as --protocol says.")] = 0,
    sampler: Annotated[
        Literal["", "ddim", "dpmsolver++"], typer.Option("--sampler", help="Another sampler (default: the same).")
    ] = "",
    sampler_steps: Annotated[
        int, typer.Option("--sampler-steps", help="Sampler steps; 0 as before, or as --protocol says.")
    ] = 0,
    guidance: Annotated[float, typer.Option("--guidance", help="Guidance; 0 as before, or as --protocol says.")] = 0.0,
    halving: Halving = False,
    base: Annotated[str, typer.Option("--base", help="Base model of the word.")] = "miniature",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Judge stored checkpoints again with another CLIP, protocol, prompts or rule; nothing is trained or published."""
    settings = _settings(home)
    from ti_core.config import SelectionRule
    from ti_core.planning.plan import replan
    from ti_core.publishing.catalogue import find
    from ti_core.store import open_store

    evaluation = _evaluation(
        prompts, seeds=seeds, sampler=sampler, sampler_steps=sampler_steps, guidance=guidance, halving=halving,
        protocol=protocol, data=data,
    )  # fmt: skip
    chosen_rule = _validated(SelectionRule, {"name": rule, "floor": floor})
    old = find(concept, base, run, open_store(settings))
    replan(old.plan, evaluation, chosen_rule, clip, settings)  # what is wrong is told before any server starts
    with _interruptible():
        from flows.embedded import prepare_prefect

        prepare_prefect(settings.home)
        _quiet_libraries()
        from flows import console
        from flows.reevaluate import reevaluate

        with console.live(quiet=as_json):
            made = reevaluate(concept, base, old.plan.judge_key, clip, evaluation, chosen_rule)
    from ti_core.reporting.pages import page_path

    page = page_path(settings, concept, made.plan.base.slug, made.plan.judge_key)
    console.show_rejudged(old, made, str(page), as_json)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="Any prompt; words are written as <name>, several may be used.")],
    out: Annotated[Path, typer.Option("--out", help="PNG to write; with --count, out-1.png, out-2.png, …")],
    count: Annotated[int, typer.Option(min=1, max=64, help="Pictures to make.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture; the next ones count up.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Sampler steps; 0 is the base model's default.")] = 0,
    guidance: Annotated[float, typer.Option(min=0.0, help="Guidance; 0 is the base model's default.")] = 0.0,
    base_model: Base = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make pictures from a prompt that uses published words."""
    settings = _settings(home)
    from ti_core.config import EvaluationConfig
    from ti_core.sampling.generate import generate as make
    from ti_core.store import open_store

    config = EvaluationConfig(sampler_steps=steps, guidance=guidance)
    seeds = list(range(seed, seed + count))
    _quiet_libraries()
    paths = make(prompt, out, seeds, config, base_model or settings.base_model, settings, open_store(settings))
    typer.echo(json.dumps([str(path) for path in paths]) if as_json else "\n".join(map(str, paths)))


@app.command()
def fetch(
    concept: Annotated[str, typer.Argument(help="Name of the concept.")],
    layout: Annotated[
        Literal["diffusers", "a1111"], typer.Option("--format", help="Layout of the file.")
    ] = "diffusers",
    out: Annotated[Path, typer.Option("--out", help="Folder to write into.")] = Path("."),
    base: Annotated[str, typer.Option("--base", help="Base model of the word, where there are several.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Fetch the best version of a word, verified, ready to load."""
    from ti_core import client

    path = client.get(concept, base=base or None, layout=layout, out=out, settings=_settings(home))
    typer.echo(json.dumps({"path": str(path)}) if as_json else str(path))


@app.command()
def show(
    concept: Annotated[str, typer.Argument(help="Name of the concept; none lists all.")] = "",
    base: Annotated[str, typer.Option("--base", help="Base model of the word, where there are several.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show versions, scores by step, the chosen step and where files are; without a name, all published words."""
    from flows import console
    from ti_core import client
    from ti_core.config import base_slug, check_slug
    from ti_core.publishing import catalogue
    from ti_core.store import open_store

    store = open_store(_settings(home))
    if not concept:
        console.show_concepts([catalogue.champion_of(store, *one) for one in client.concepts(store)], as_json)
        return
    check_slug(concept)
    bases = [base_slug(base)] if base else catalogue.bases_of(store, concept)
    ended = {one: catalogue.outcomes_of(store, concept, one) for one in bases}
    if not any(ended.values()):
        raise NotFoundError(f"No run of {concept} has ended in {store.uri}; `ti show` lists what there is.")
    told = []
    for one, outcomes in ended.items():
        if outcomes:
            current = catalogue.champion_of(store, concept, one)
            manifest = catalogue.manifest_at(store, current.manifest if current else outcomes[-1].manifest)
            told.append((outcomes, current, manifest))
    console.show_concept(store, told, as_json)


# --- shared by the commands -------------------------------------------------------------------------------------------


def _settings(home: Path | None) -> "Settings":
    """The settings, with `--home` passed on through the environment so that tasks read the same ones."""
    if home is not None:
        os.environ["PSEUDOWORD_HOME"] = str(home)
    from flows.embedded import spare_loopback
    from ti_core.settings import load_settings

    spare_loopback()
    return load_settings()


def _concept(**given: Any) -> "ConceptSpec":
    from ti_core.config import ConceptSpec

    return _validated(ConceptSpec, given)


def _training(**given: Any) -> "TrainingConfig":
    from ti_core.config import TrainingConfig

    return _validated(TrainingConfig, given)


def _evaluation(prompts: Path | None, **given: Any) -> "EvaluationConfig":
    """How to judge; `prompts` is a TOML file with prompts of the user's own."""
    import tomllib

    from ti_core.config import EvaluationConfig

    if prompts is not None:
        try:
            given["prompts"] = tomllib.loads(prompts.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The prompts {prompts} cannot be read: {error.strerror}.") from None
        except ValueError as error:  # no TOML, or no UTF-8
            raise InputError(f"The prompts {prompts} are damaged: {error}.") from None
    return _validated(EvaluationConfig, given)


def _packing(slots: str, keep_shape: bool, compile_unet: bool, minutes: float) -> "Packing":
    from ti_core.config import Packing

    given = {"keep_shape": keep_shape, "compile": compile_unet, "minutes": minutes}
    return _validated(Packing, given | {"slots": 0 if slots == "auto" else slots})


def _validated(model: Any, given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        reason = first["msg"].removeprefix("Value error, ")
        if where.startswith("prompts"):
            place = where.removeprefix("prompts").removeprefix(".") or "the file"
            raise InputError(f"--prompts, {place}: {reason}.") from None
        raise InputError(reason if where == "name" else f"--{where} is {first['input']!r}: {reason}.") from None


def _planned(items: "Sequence[BatchItem]", asked: "Asked", settings: "Settings") -> "list[Work]":
    """Check every request before any server starts or anything is written, and find what is known already."""
    from ti_core.stations import plan
    from ti_core.store import open_store

    works = plan(items, asked, settings, open_store(settings))
    for work in works:
        for warning in work.plan.images.warnings if work.plan else ():
            told = f"{work.name}: {warning}" if len(works) > 1 else warning
            typer.secho(f"Warning: {told}", fg="yellow", err=True)
    return works


def _start_services(settings: "Settings") -> None:
    """Make sure that what a run will need answers, before it works for minutes."""
    from flows.embedded import check_tracking, prepare_prefect

    check_tracking(settings.mlflow_uri)
    prepare_prefect(settings.home)
    _quiet_libraries()
    from ti_core.registry import Registry

    Registry(settings).check()


@contextmanager
def _interruptible() -> Iterator[None]:
    """End a run that is stopped by Ctrl-C or SIGTERM with a sentence and the shell's exit code for it."""
    stopped_by = signal.SIGINT

    def terminate(_number: int, _frame: object) -> None:
        nonlocal stopped_by
        stopped_by = signal.SIGTERM
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        typer.secho("Stopped. The same command goes on from where it was.", fg="yellow", err=True)
        raise typer.Exit(128 + stopped_by) from None


def _quiet_libraries() -> None:
    """Keep the bars and notices of the libraries off the terminal; ours say what happens."""
    for name, value in {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}.items():
        os.environ.setdefault(name, value)


def _tell(outcome: "Outcome", settings: "Settings", as_json: bool) -> None:
    from ti_core.publishing.catalogue import manifest_at
    from ti_core.reporting.pages import page_path, write_page
    from ti_core.store import get_blob, open_store

    store = open_store(settings)
    manifest = manifest_at(store, outcome.manifest)
    page = page_path(settings, outcome.concept, outcome.base, outcome.judge_key)
    if not page.is_file():
        write_page(settings, outcome.concept, outcome.base, outcome.judge_key, get_blob(store, manifest.page))
    if as_json:
        typer.echo(json.dumps(outcome.model_dump(mode="json") | {"page": str(page)}))
        return
    from flows import console

    console.show_outcome(outcome, manifest, str(page))


if __name__ == "__main__":
    main()
