"""How a command ends: its exit code, and errors in one sentence, or as JSON where `--json` was typed.

    0 done · 1 failed · 2 wrong usage · 3 rejected · 4 undecided · 5 paused · 130, 143 stopped by a signal

It knows no command.
"""

import json
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any

import typer

from flows.options import UsageError
from ti_core.errors import PausedError, PseudowordError


class Code(IntEnum):
    """The exit codes, with what they mean in the order in which a batch takes the first that any concept has."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REJECTED = 3
    UNDECIDED = 4
    PAUSED = 5


CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 rejected (it learned nothing worth having) or declined "
    "by a person, 4 undecided (too few pictures to tell), 5 paused; 130 or 143 stopped by a signal. After 5, 130 and "
    "143 the same command goes on."
)
OF_BATCH = f"{CODES} Of a batch: the first of failed, paused, undecided, rejected that any of its concepts is."
PLAIN = "Exit codes: 0 done, 1 failed, 2 wrong usage."
DOCTOR = "Exit codes: 0 no fault, 1 a fault, 2 wrong usage."
AUDIT = "Exit codes: 0 all is well or was mended, 1 something is left to be done, 2 wrong usage."
"""Ends of `--help`."""

_OF_STATUS = {
    "failed": Code.FAILED, "paused": Code.PAUSED, "undecided": Code.UNDECIDED, "rejected": Code.REJECTED,
    "declined": Code.REJECTED,
}  # fmt: skip
"""What asks for a hand comes first: mend it, run it again, judge it with more prompts, or leave it."""
_USAGE: type[Exception] = typer.BadParameter.__mro__[1]
"""typer's error for a wrong command line, which it does not name in public."""


class StoppedError(PseudowordError):
    """A signal has ended the command."""

    def __init__(self, signal: int) -> None:
        super().__init__("Stopped. The same command goes on from where it was.")
        self.signal = signal


def code_of(statuses: Iterable[str]) -> Code:
    """The exit code of concepts that ended so: of the first in the order above, else 0."""
    there = set(statuses)
    return next((code for status, code in _OF_STATUS.items() if status in there), Code.DONE)


def ended(command: Callable[[], Any], as_json: bool) -> int:
    """Run a command line and return its exit code. What goes wrong is told on stderr in a sentence, or as the one JSON
    value on stdout: {"error": {"kind": …, "message": …, "exit_code": …}}."""
    try:
        return int(command() or Code.DONE)
    except StoppedError as error:
        return _tell(error, 128 + error.signal, as_json, "yellow")
    except PausedError as error:
        return _tell(error, Code.PAUSED, as_json, "yellow")
    except PseudowordError as error:
        return _tell(error, Code.USAGE if isinstance(error, UsageError) else Code.FAILED, as_json)
    except _USAGE as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "ti"
        reason = _sentence(error.format_message())  # type: ignore[attr-defined]  # of that class
        return _tell(UsageError(f"{reason} `{where} --help` lists what there is."), Code.USAGE, as_json)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "flows", "tasks", "ti_core"}:
            raise
        extra = "train,serve" if package in {"psycopg", "supervisor"} else "train"
        advice = f"install all that it needs with pip install 'pseudoword[{extra}]'"
        missing = PseudowordError(f"This command needs {package}, which is not installed here: {advice}.")
        return _tell(missing, Code.FAILED, as_json)
    except Exception as error:  # a fault of ours: the traceback is for its report, the value for the script
        if as_json:
            _print(error, Code.FAILED)
        raise


def _tell(error: Exception, code: int, as_json: bool, colour: str = "red") -> int:
    if as_json:
        _print(error, code)
    else:
        typer.secho(f"Error: {error}" if colour == "red" else str(error), fg=colour, err=True)
    return code


def _print(error: Exception, code: int) -> None:
    fields = {"kind": type(error).__name__, "message": str(error), "exit_code": int(code)}
    sys.stdout.write(json.dumps({"error": fields}) + "\n")


def _sentence(text: str) -> str:
    """typer breaks its messages into lines, ends some with a full stop, and tells who found the fault."""
    return " ".join(text.replace("Value error, ", "").split()).rstrip(".") + "."
