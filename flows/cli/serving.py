"""`ti up`, `ti down`, `ti doctor`: the servers of one machine, and what is wrong with them."""

import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.ending import Code
from flows.cli.starting import interruptible, settings_of
from flows.options import WHERE, BaseModel, Json, Only, options_of
from flows.options import Home as DataHome
from flows.serving.stack import Options

if TYPE_CHECKING:
    from flows.serving.running import Up

Home = Annotated[Path, typer.Option("--home", help="Folder of the servers: data, keys, logs.", rich_help_panel=WHERE)]
SERVERS = Path("servers")
COLOURS = {"ok": "green", "warn": "yellow", "fault": "red"}


@options_of()
def up(
    *,
    asked: Annotated[Options, Only(tuple(Options.model_fields), "Servers")],
    home: Home = SERVERS,
) -> int:
    """Start the servers of this machine in the background: store, MLflow, Prefect, workers. What runs already stays;
    what was chosen once is kept. The environment of this command is the workers'."""
    from flows.serving.running import bring_up

    settings_of(None)
    with interruptible():
        done = bring_up(home.absolute(), asked, lambda words: typer.echo(f"  {words}", err=True))
    _say(done, home)
    return Code.DONE


def down(
    drain: Annotated[
        bool,
        typer.Option("--drain", help="Take no new runs, finish the present ones, then stop.", rich_help_panel=WHERE),
    ] = False,
    home: Home = SERVERS,
) -> int:
    """Stop the servers that `ti up` started: workers first, the store last. Their data stay."""
    from flows.serving.running import take_down

    settings_of(None)
    with interruptible():
        was_up = take_down(home.absolute(), drain, lambda words: typer.echo(f"  {words}", err=True))
    typer.echo("The servers are stopped." if was_up else "The servers were not running.")
    return Code.DONE


def doctor(base_model: BaseModel = "", home: DataHome = None, as_json: Json = False) -> int:
    """Check what the line needs here: store, MLflow, Prefect, workers, versions, clock, room, card, base model."""
    from flows.serving.doctor import THREAD, examine

    findings = examine(settings_of(home), base_model)
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            level = typer.style(f"{finding.level:5}", fg=COLOURS[finding.level])
            advice = f": {finding.advice}" if finding.advice else ""
            typer.echo(f"{level}  {finding.name:12} {finding.said}{advice}")
    code = Code.FAILED if any(finding.level == "fault" for finding in findings) else Code.DONE
    if any(
        thread.name.startswith(THREAD) for thread in threading.enumerate()
    ):  # a check hangs, in the middle of an import perhaps
        sys.stdout.flush()
        os._exit(code)
    return code


def _say(done: "Up", home: Path) -> None:
    stack = done.stack
    store = f"{stack.s3_url} (SeaweedFS)" if stack.own_store else stack.store
    typer.echo("The servers are up already." if done.already else "The servers are up.")
    typer.echo(f"""
  Prefect   {stack.prefect_url}   forms, schedule, progress
  MLflow    {stack.mlflow_url}   runs, curves, versions
  Store     {store}
  Pictures  {stack.pictures}   trained every night at 02:00 UTC
  Inbox     s3://{stack.bucket}/inbox   folders that are put there are trained at once
  Workers   {len(done.cards)}{"" if done.cards[0] else ", without a card"}
""")
    typer.echo(f"In every terminal:  . {home}/env.sh")
    typer.echo("Then, for example:  ti train my-pictures --name cat-toy --class-word toy")
    typer.echo(f"What is wrong:      ti doctor     Logs: {home}/logs     Stop: ti down")
    if stack.auth:
        typer.echo(f"Name and password of Prefect and MLflow stand in {home}/env.sh.")
