"""What a stack needs before anything of it is started: a host to listen on, ports, databases, a store of one's own."""

import socket

from flows.serving import doctor
from flows.serving.programs import Program, database
from flows.serving.stack import Stack
from flows.serving.supervising import taken
from ti_core.errors import InputError
from ti_core.settings import load_settings
from ti_core.store import open_store


def check_host(host: str) -> None:
    """Raise InputError for a host on which no server of this machine can listen."""
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except (OSError, UnicodeError) as error:  # the latter for what can be no name
        reason = getattr(error, "strerror", error)
        raise InputError(
            f"Nothing can listen on --host {host} ({reason}): name an IPv4 address of this machine, or 0.0.0.0 for all "
            "that it has."
        ) from None


def check_places(stack: Stack, them: list[Program]) -> None:
    """Raise InputError for a port that somebody else has, with who it is and the option that names another, and for a
    database or a store of one's own that cannot be used."""
    for program in them:
        host = "127.0.0.1" if program.name == "store" else stack.host
        for port in program.ports:
            if who := taken(host, port):
                raise InputError(
                    f"Port {port}, which {program.name} needs, is taken by {who}: stop that, or name another with "
                    f"{program.option}."
                )
    if stack.postgres:
        _check_databases(stack)
    if not stack.own_store:
        _check_store()


def _check_store() -> None:
    """Raise InputError where the store cannot be listed and written as the line has to, ServiceError where it refuses
    or does not answer."""
    found = doctor.store(open_store(load_settings()))
    if found.level == "fault":
        raise InputError(f"{found.said}: {found.advice}.")


def _check_databases(stack: Stack) -> None:
    """Raise InputError where a database cannot be entered: sooner than two servers have tried it for minutes."""
    import psycopg

    for name in ("mlflow", "prefect"):
        try:
            psycopg.connect(database(stack, name), connect_timeout=10).close()
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"The database {name} of --postgres cannot be used ({reason}): start the server, make both databases "
                "(createdb mlflow; createdb prefect), or correct the URL."
            ) from None
