"""The programs of a stack: their commands, ports and environments, in the order in which they start; they stop in the
other. As SeaweedFS's, MLflow's, Prefect's and supervisor's manuals have it.

This module starts nothing. Commands run in the stack's folder, and their paths are relative to it.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flows.serving.stack import BUCKET, Stack
from flows.serving.worker import GRACE_SECONDS, command
from ti_core.errors import InputError

GRPC = 10_000
"""Every part of SeaweedFS opens a second port so far above its own."""


@dataclass(frozen=True)
class Program:
    """One program of the stack."""

    name: str
    command: list[str]
    ports: tuple[int, ...] = ()
    option: str = ""
    """The option of `ti up` that names another port."""
    environment: dict[str, str] = field(default_factory=dict)
    """Beside what all of them have."""
    worker: bool = False


def programs(stack: Stack, cards: Sequence[str]) -> list[Program]:
    """The programs of a stack, servers first. `cards` has the CUDA_VISIBLE_DEVICES of each GPU worker; "" sets none.

    Raises InputError where a program is not installed.
    """
    servers = [*([_seaweedfs(stack)] if stack.own_store else []), _mlflow(stack), _prefect(stack)]
    return servers + _workers(cards)


def _seaweedfs(stack: Stack) -> Program:
    s3, master, volume, filer, admin = ports = tuple(range(stack.s3_port, stack.s3_port + 5))
    words = [
        *(_installed("weed", "SeaweedFS", "or name a store of your own with --store s3://bucket/prefix"), "mini"),
        *("-dir=s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}", "-s3.config=s3.json"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
        *(f"-admin.port={admin}", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false", "-master.telemetry=false"),
        *("-s3.localSocket=s3/s3.sock", "-filer.localSocket=s3/filer.sock"),  # relative: their paths are short by law
    ]
    return Program("store", words, (*ports, *(port + GRPC for port in ports)), "--s3-port")


def _mlflow(stack: Stack) -> Program:
    words = [
        *(_installed("mlflow", "MLflow"), "server", "--host", stack.host, "--port", str(stack.mlflow_port)),
        # One process: each more takes 300 MB, and the line's own traffic is small.
        *("--workers", "1", "--artifacts-destination", "mlflow/artifacts"),
    ]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": database(stack, "mlflow") or "sqlite:///mlflow/mlflow.db",
        # Its job queue would start nine more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if stack.auth:
        words += ["--app-name", "basic-auth"]
        environment |= {"MLFLOW_AUTH_CONFIG_PATH": "mlflow/auth.ini", "MLFLOW_FLASK_SERVER_SECRET_KEY": stack.password}
    return Program("mlflow", words, (stack.mlflow_port,), "--mlflow-port", environment)


def mlflow_accounts(stack: Stack) -> str:
    """The file that MLflow's basic-auth reads: who may do all, where accounts are kept, and what others may."""
    return (
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///mlflow/accounts.db\n"
        f"admin_username = {BUCKET}\nadmin_password = {stack.password}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )


def _prefect(stack: Stack) -> Program:
    words = [_installed("prefect", "Prefect"), "server", "start"]
    environment = {
        # Else a restart of the server ends runs under a concurrency limit: it kept their leases in memory.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Else its log tells the addresses of notification blocks. So Prefect calls its item `formatters.standard.()`.
        "PREFECT_LOGGING_FORMATTERS_STANDARD_": "flows.serving.discreet.Formatter",
        "PREFECT_UI_API_URL": "/api",  # also through a proxy, under whatever name
    }
    if url := database(stack, "prefect"):
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = url.replace("postgresql", "postgresql+asyncpg", 1)
    if stack.auth:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = f"{BUCKET}:{stack.password}"
    words += ["--host", stack.host, "--port", str(stack.prefect_port)]
    return Program("prefect", words, (stack.prefect_port,), "--prefect-port", environment)


def database(stack: Stack, name: str) -> str:
    """The URL of a database on the stack's PostgreSQL; "" without one."""
    return urlsplit(stack.postgres)._replace(path=f"/{name}").geturl() if stack.postgres else ""


def _workers(cards: Sequence[str]) -> list[Program]:
    """One worker for each card, and one that needs none where a deployment has a queue for it."""
    made = []
    for name, kind, card in [(f"gpu-{number}", "gpu", card) for number, card in enumerate(cards)] + [
        ("cpu", "cpu", "")
    ]:
        if command(kind, name):
            words = [sys.executable, "-m", "flows.serving.worker", kind, name]
            environment = {"CUDA_VISIBLE_DEVICES": card} if card or kind == "cpu" else {}
            made.append(Program(name, words, environment=environment, worker=True))
    return made


def cards_of(stack: Stack) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each GPU worker: the cards that there are, as many as the stack may have; [""] on a
    machine without one. Asks the driver's own program, not torch, which takes seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = [card for card in visible.split(",") if card]
    else:
        try:
            asked = subprocess.run(
                ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],  # noqa: S607 (of the driver's)
                capture_output=True, text=True, timeout=20, check=True,
            )  # fmt: skip
            found = asked.stdout.split()
        except (OSError, subprocess.SubprocessError):
            found = []
    most = stack.workers or (len(found) if stack.postgres else 1)
    if stack.workers > max(len(found), 1):
        raise InputError(f"{stack.workers} GPU workers need {stack.workers} cards, and there are {len(found)}.")
    return found[:most] or [""]


def _installed(program: str, what: str, otherwise: str = "") -> str:
    """The program beside this Python, or on the path."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if not found:
        advice = f", {otherwise}" if otherwise else ""
        raise InputError(f"{what} is not installed here: pip install 'pseudoword[train,serve]'{advice}.")
    return found


def configuration(them: Sequence[Program]) -> str:
    """The supervisor's configuration for these programs, to be read in the stack's folder."""
    lines = [
        # supervisord makes paths whole, and that of a socket may have no more than a hundred characters.
        "[unix_http_server]", "file=/proc/self/cwd/supervisor.sock", "chmod=0700",
        "[supervisord]", "logfile=logs/supervisor.log", "pidfile=supervisor.pid", "umask=077", "silent=true",
        "[rpcinterface:supervisor]", "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]  # fmt: skip
    for place, program in enumerate(them):
        words = shlex.join([sys.executable, "-m", "flows.serving.life", *program.command])
        given = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
        lines += [
            f"[program:{program.name}]",
            f"command={words}".replace("%", "%%"),
            f"environment={given}".replace("%", "%%"),
            f"priority={place}",
            "autostart=false",
            "autorestart=true",
            "startsecs=3",
            "startretries=10",
            # A worker ends its run, which writes its state first; a server closes its connections.
            f"stopwaitsecs={GRACE_SECONDS + 10 if program.worker else 30}",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile=logs/{program.name}.log",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=2",
        ]
    return "\n".join([*lines, ""])
