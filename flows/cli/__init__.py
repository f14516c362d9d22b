"""`ti`: train, judge, publish and use new words from the command line.

Answers `--help` without torch or Prefect; what reads or changes what is published needs neither. A file has one kind of
command; options come from `flows.options`, endings from `flows.cli.ending`.
"""

import sys
import warnings
from functools import partial
from typing import Annotated

import typer

from flows.cli import approving, checking, ending, importing, judging, keeping, serving, training, uploading, using

app = typer.Typer(
    pretty_exceptions_enable=False,
    help="Teach a frozen Stable Diffusion one new word from three to five pictures.",
)
app.command(epilog=ending.CODES)(training.train)
app.command(epilog=ending.OF_BATCH)(training.batch)
app.command("import", epilog=ending.CODES)(importing.import_)
app.command(epilog=ending.CODES)(judging.judge)
app.command(epilog=ending.CODES)(approving.approve)
app.command(epilog=ending.PLAIN)(approving.decline)
app.command(epilog=ending.PLAIN)(checking.check)
app.command(epilog=ending.PLAIN)(uploading.upload)
app.command(epilog=ending.PLAIN)(using.generate)
app.command(epilog=ending.PLAIN)(using.fetch)
app.command(epilog=ending.PLAIN)(using.sync)
app.command("list", epilog=ending.PLAIN)(using.list_)
app.command(epilog=ending.PLAIN)(using.show)
app.command(epilog=ending.PLAIN)(keeping.rollback)
app.command(epilog=ending.PLAIN)(keeping.pin)
app.command(epilog=ending.PLAIN)(keeping.withdraw)
app.command(epilog=ending.PLAIN)(keeping.forget)
app.command(epilog=ending.AUDIT)(keeping.audit)
app.command(epilog=ending.PLAIN)(keeping.gc)
app.command(epilog=ending.PLAIN)(serving.up)
app.command(epilog=ending.PLAIN)(serving.down)
app.command(epilog=ending.DOCTOR)(serving.doctor)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from ti_core import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; the entry point of `ti`."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries tell developers; ours are sentences of their own
    sys.exit(ending.ended(partial(app, standalone_mode=False), as_json="--json" in sys.argv))
