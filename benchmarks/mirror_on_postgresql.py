"""The mirror on PostgreSQL: four processes tell an MLflow server of the same runs, and it is killed meanwhile.

    pip install 'psycopg[binary]'
    .venv/bin/python benchmarks/mirror_on_postgresql.py --user postgres

Needs the programs `initdb` and `postgres` on the path, and as root somebody else to run them (`--user`). Prints what the
four processes said, what was left in the outbox, what the audit found after the server was back, and the counts in MLflow.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg
from mlflow import MlflowClient

from tests.builders import done, judged
from tests.servers import answers, free_ports, plain_environment, running
from ti_core.publishing.audit import words_of
from ti_core.publishing.mirroring import compare, drain
from ti_core.registry import Registry
from ti_core.settings import load_settings
from ti_core.store import open_store

ROOT = Path(__file__).parents[1]
WORDS = ("cat-toy", "dog")
TELL = """
from ti_core.errors import ServiceError
from ti_core.publishing.mirroring import drain
from ti_core.registry import Registry
from ti_core.settings import load_settings
from ti_core.store import open_store

settings = load_settings()
try:
    print("told of", drain(open_store(settings), Registry(settings)))
except ServiceError as error:
    print(error)
"""


@contextmanager
def postgresql(folder: Path, user: str) -> Iterator[str]:
    """Run a PostgreSQL server in `folder`; yields MLflow's URI of it."""
    (port,) = free_ports(1)
    data = folder / "data"
    folder.chmod(0o755)
    data.mkdir()
    other = []
    if user:
        shutil.chown(folder, user)
        shutil.chown(data, user)
        other = ["setpriv", f"--reuid={user}", "--clear-groups"]
    subprocess.run([*other, "initdb", "-D", data, "-A", "trust", "-U", "words"], check=True, cwd=folder,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    command = [*other, "postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
    ready = partial(_accepts, port)
    with running(command, {"PATH": os.environ["PATH"]}, folder / "postgres.log", ready, seconds=60):
        yield f"postgresql://words@127.0.0.1:{port}/postgres"


def _accepts(port: int) -> bool:
    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=words dbname=postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def tracking(folder: Path, database: str, port: int) -> object:
    """An MLflow server on that database, as a context manager that yields its process."""
    command = [
        *(str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = plain_environment(folder) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    health = partial(answers, f"http://127.0.0.1:{port}/health")
    return running(command, environment, folder / "mlflow.log", health, seconds=240)


def main() -> None:
    """Run it, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--user", default="", help="Who runs PostgreSQL; needed as root.")
    parser.add_argument("--seconds", type=float, default=20.0, help="After which the server is killed.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as database_folder:
        folder, (port,) = Path(name), free_ports(1)
        url = f"http://127.0.0.1:{port}"
        os.environ |= {"PSEUDOWORD_HOME": str(folder / "home"), "PSEUDOWORD_TRACKING_URI": url, "PYTHONPATH": str(ROOT)}
        store = open_store(load_settings())
        for word in WORDS:
            for seed, score in enumerate((0.4, 0.6)):
                done(store, judged(store, name=word, seed=seed, score=score))
        with postgresql(Path(database_folder), arguments.user) as database:
            with tracking(folder, database, port) as server:
                four = [
                    subprocess.Popen([sys.executable, "-c", TELL], stdout=subprocess.PIPE, text=True) for _ in "1234"
                ]
                time.sleep(arguments.seconds)
                os.killpg(server.pid, signal.SIGKILL)
            print("said:", [one.communicate()[0].strip() for one in four])
            print("left in the outbox:", len(list(store.keys("outbox/"))))
            with tracking(folder, database, port):
                registry = Registry(load_settings())
                print("told afterwards:", drain(store, registry))
                for turn in ("found", "found again"):
                    print(f"{turn}:", [one.what for one in compare(store, registry, words_of(store), repair=True)])
                count(url)


def count(url: str) -> None:
    """What MLflow holds: one run, two logged models and one version for each judged run, and the alias."""
    client = MlflowClient(url, url)
    experiment = client.get_experiment_by_name("pseudoword").experiment_id
    runs, versions = client.search_runs([experiment]), client.search_model_versions()
    print(f"{len(runs)} runs, {sum(one.info.status == 'FINISHED' for one in runs)} finished")
    print(f"{len(client.search_logged_models([experiment]))} logged models, {len(versions)} versions")
    for word in WORDS:
        leads = client.get_model_version_by_alias(f"{word}.miniature", "champion").tags["store_version"]
        print(f"the alias of {word} names the store's version {leads}")


if __name__ == "__main__":
    main()
