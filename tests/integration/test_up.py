"""From nothing to a word with the guide's first commands; then everything answers, secrets stay where they belong, what
is killed comes back, and `ti down` leaves no process."""

import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from flows.serving.life import end, leftovers
from flows.serving.programs import GRPC
from flows.serving.stack import Stack, kept
from flows.serving.supervising import Supervisor, answers, taken
from tests.chromium import chromium
from tests.servers import free_ports, free_row, plain_environment

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/guides/servers.md"
LITTLE = {"training": {"steps": 30, "checkpoint_every": 15, "batch_size": 8},
          "evaluation": {"seeds": 2, "sampler_steps": 4}}  # fmt: skip
SMALL = "--steps 30 --checkpoint-every 15 --batch-size 8 --seeds 2 --sampler-steps 4"
"""The least that gives words which are surely closer to their pictures than the class word is; as a form has it and as
a command."""
RUN = """
import json, sys
from prefect.deployments import run_deployment
name, pictures, little, *at_once = sys.argv[1:]
run = run_deployment("train-concept/train-concept", timeout=0 if at_once else None, poll_interval=1, parameters={
    "name": name, "pictures": pictures, "class_word": "robot"} | json.loads(little))
print(run.state.name, run.state.message)
"""
"""What the form does: a run by a worker, to its end where nothing more is said."""
BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
CustomWebhookNotificationBlock(
    name="words", url=sys.argv[1] + "/{{token}}", secrets={"token": sys.argv[2]}, json_data={"body": "{{body}}"}
).save("words")
"""
WAITING = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(*(run.id for run in client.read_flow_runs() if run.state.is_paused()))
"""
"""The run that waits for an answer."""
TRACKED = """
import os, mlflow
mlflow.set_tracking_uri(os.environ["PSEUDOWORD_TRACKING_URI"])
client, (experiment,) = mlflow.MlflowClient(), mlflow.search_experiments(filter_string="name = 'pseudoword'")
(run,) = client.search_runs([experiment.experiment_id], "tags.concept = 'moss'")
print(f"{experiment.experiment_id}/runs/{run.info.run_id}")
"""
PATIENCE = 600.0
"""Seconds until a command counts as stuck. An idle machine needs a fifth of it."""

TOKEN = secrets.token_hex(16)
"""What the address of the alerts keeps secret."""
TELL = """
import os, mlflow
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    for one in [*client.read_flow_runs(), *client.read_logs(limit=200), *client.read_artifacts()]:
        print(one.model_dump_json())
mlflow.set_tracking_uri(os.environ["PSEUDOWORD_TRACKING_URI"])
for run in mlflow.MlflowClient().search_runs([one.experiment_id for one in mlflow.search_experiments()]):
    print(run.to_dictionary())
"""
"""What Prefect and MLflow tell of runs: parameters, logs, tables, tags."""


@dataclass
class Refusing:
    """A server that refuses every note, and what it was asked."""

    url: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.asked.append(self.path)
            self.send_error(500)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Refusing(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def do(folder: Path, script: str, *words: str | Path) -> str:
    """What a script says, in a terminal that has read env.sh if it is there. `words` are its "$@"."""
    script = f"[ ! -f servers/env.sh ] || . servers/env.sh; {script}"
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "",
            "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"]}  # fmt: skip
    done = subprocess.run(
        ["sh", "-euc", script, "sh", *words], cwd=folder, check=False, capture_output=True, text=True,
        timeout=PATIENCE, env=plain_environment(folder) | here | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ti(folder: Path, *words: str) -> str:
    """What the command says."""
    return do(folder, 'ti "$@"', *words)


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.3)


def rows(folder: Path, query: str) -> list[tuple[str, ...]]:
    """What Prefect's database has."""
    with closing(sqlite3.connect(folder / "servers/prefect/prefect.db", timeout=60)) as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the guide's first commands were typed, on ports that are free, for a small word and with
    passwords."""
    # The path of a socket in it is longer than a socket's may be.
    folder = tmp_path_factory.mktemp("up") / "a name that is longer than it has to be, by far" / "and another one"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "examples/concepts", folder / "examples/concepts")
    mlflow, prefect = free_ports(2)
    up = f"ti up --auth --s3-port {free_row(5, GRPC)} --mlflow-port {mlflow} --prefect-port {prefect}"
    (commands,) = re.findall(r"^## 1\..*?```bash\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL | re.MULTILINE)
    first, second = commands.strip().splitlines()
    assert first.startswith("ti up ") and second.startswith("ti train ")
    try:
        said = do(folder, f"{first.replace('ti up', up)}\n{second} {SMALL}")
        assert ". servers/env.sh" in said and f"http://127.0.0.1:{prefect}" in said
        yield folder
    finally:
        end(list(leftovers(str(folder / "servers"))))


def stack_of(folder: Path) -> Stack:
    stack = kept(folder / "servers")
    assert stack is not None
    return stack


def test_again_is_told_and_starts_nothing(folder: Path) -> None:
    before = Supervisor(folder / "servers").pids()
    assert "up already" in ti(folder, "up")
    assert Supervisor(folder / "servers").pids() == before


def test_the_doctor_finds_nothing_wrong(folder: Path) -> None:
    found = {one["name"]: one for one in json.loads(ti(folder, "doctor", "--json"))}
    assert [one for one in found.values() if one["level"] == "fault"] == []
    assert {found[name]["level"] for name in ("store", "clock", "mlflow", "prefect", "workers")} == {"ok"}
    assert "gpu-0" in found["workers"]["said"]


def secrets_of(stack: Stack) -> re.Pattern[bytes]:
    """Keys and passwords of the stack and of its alerts, and the login as HTTP carries it."""
    plain = [stack.secret_key, stack.reader_secret_key, stack.password, TOKEN]
    return re.compile(b"|".join([b64encode(f"words:{stack.password}".encode()), *(one.encode() for one in plain)]))


@contextmanager
def arguments(home: Path) -> Iterator[set[str]]:
    """The command lines of all processes of the stack that are seen during the block, as `ps` shows them."""
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            for process in leftovers(str(home)):
                with suppress(psutil.Error):
                    seen.add(" ".join(process.cmdline()))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield seen
    finally:
        done.set()
        watching.join()


def client_of(stack: Stack, access_key: str, secret_key: str) -> Any:
    return boto3.session.Session().client(
        "s3", endpoint_url=stack.s3_url, region_name="us-east-1", aws_access_key_id=access_key,
        aws_secret_access_key=secret_key, config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip


def test_secrets_are_in_nothing_that_processes_and_servers_tell(folder: Path, refusing: Refusing) -> None:
    """After a word that was made in a terminal, a run of a worker, and an alert that could not be sent."""
    stack = stack_of(folder)
    do(folder, 'python -c "$@"', BLOCK, refusing.url, TOKEN)
    assert "up already" in ti(folder, "up", "--alerts", "custom-webhook/words")
    with arguments(folder / "servers") as words:
        assert "Failed" in do(folder, 'python -c "$@"', RUN, "nobody", folder / "nothing", json.dumps(LITTLE))
    wait(lambda: f"/{TOKEN}" in refusing.asked)
    told = do(folder, 'python -c "$@"', TELL).encode()
    client = client_of(stack, stack.access_key, stack.secret_key)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="words")
    keys = [one["Key"] for page in pages for one in page["Contents"]]
    objects = [client.get_object(Bucket="words", Key=key)["Body"].read() for key in keys]
    secret = secrets_of(stack)
    for what in (told, *objects, *(one.encode() for one in words)):
        assert not secret.search(what), what[:300]
    # It looks where things are.
    assert b"goldie" in told and b"nobody" in told and any(b"goldie" in data for data in objects)
    assert all(any(program in one for one in words) for program in ("weed", "mlflow", "prefect server", "engine"))


def test_the_reader_s_key_reads_and_does_not_write(folder: Path) -> None:
    stack = stack_of(folder)
    client = client_of(stack, stack.reader_access_key, stack.reader_secret_key)
    client.list_objects_v2(Bucket="words")
    (folder / "reader").mkdir()
    assert "goldie" in do(folder / "reader", ". ../servers/reader.env; ti show")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.put_object(Bucket="words", Key="store/concepts/cat/champion.json", Body=b"{}")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket="words", Key="store/concepts/cat/champion.json")


def test_a_word_from_the_form_to_its_approval_in_a_browser(folder: Path, tmp_path: Path) -> None:
    """Pictures are uploaded, the form is opened filled in, Approval switched on; the run is watched until it waits for
    a person, who looks at the contact sheet and approves; MLflow shows the run. What is seen is kept in `tmp_path`."""
    stack = stack_of(folder)
    told = json.loads(ti(folder, "upload", "examples/concepts/moss", "--json"))
    form, _, _ = told["form"].partition("?")
    filled = quote(json.dumps(told["parameters"] | LITTLE), safe="")
    with chromium(tmp_path / "profile") as browser:
        tab = browser.new_page()
        tab.set_default_timeout(PATIENCE * 1000)

        def keep(name: str) -> None:
            tab.screenshot(path=tmp_path / f"{name}.png")

        def field(label: str) -> "Locator":
            return tab.locator(".p-label").filter(has=tab.get_by_text(label, exact=True)).last

        tab.goto(f"{form}?parameters={filled}")
        tab.locator("input").first.fill(f"words:{stack.password}")
        tab.get_by_role("button", name="Login").click()
        tab.get_by_role("button", name="Submit").wait_for()
        tab.reload()  # Prefect tells that it was not logged in before
        seen = [field(name).locator("textarea").input_value() for name in ("Name", "Pictures", "Class word")]
        assert seen == ["moss", "s3://words/pictures/moss", "monster"]
        keep("form")
        field("Approval (Optional)").get_by_role("switch").click()
        tab.get_by_role("button", name="Submit").click()
        tab.get_by_role("button", name="View run").last.click()
        tab.get_by_text(re.compile("^moss: [a-z]")).first.wait_for()  # one line in ten seconds: which, no test knows
        keep("watched")
        tab.get_by_text("Awaiting approval", exact=True).first.wait_for()

        wait(lambda: bool(do(folder, 'python -c "$@"', WAITING).strip()))
        waiting = do(folder, 'python -c "$@"', WAITING).strip()
        tab.goto(f"{stack.prefect_url}/runs/flow-run/{waiting}")
        tab.get_by_text("Artifacts", exact=True).first.click()
        tab.get_by_text("sheet-moss").first.click()
        sheet = tab.locator("img[src^='data:image/png']")
        sheet.wait_for()
        assert sheet.evaluate("image => image.naturalWidth") > 500
        keep("sheet")
        tab.go_back()
        tab.get_by_role("button", name="Resume").click()
        asked = tab.locator(".p-modal, [role=dialog]").last
        asked.get_by_text("<moss>", exact=True).wait_for()
        field("Who decides").locator("textarea").fill("Ann")
        field("Decision").locator(".p-select-button__control").press("ArrowDown")
        tab.locator(".p-select-option").get_by_text("approve", exact=True).click()
        keep("approval")
        asked.get_by_role("button", name="Submit").click()
        tab.get_by_text("Completed", exact=True).first.wait_for()
        assert "approved on" in ti(folder, "show", "moss", "--json")

        run = do(folder, 'python -c "$@"', TRACKED).strip()
        tab.goto(stack.mlflow_url.replace("://", f"://words:{stack.password}@"))  # its pages ask nobody after that
        tab.goto(f"{stack.mlflow_url}/#/experiments/{run}")
        tab.get_by_text("moss.miniature").first.wait_for()
        keep("mlflow")


def test_a_server_that_is_killed_comes_back(folder: Path) -> None:
    """MLflow's own child outlives it and holds the port."""
    supervisor, url = Supervisor(folder / "servers"), f"{stack_of(folder).mlflow_url}/health"
    before = supervisor.pids()["mlflow"]
    os.kill(before, signal.SIGKILL)
    wait(lambda: supervisor.pids().get("mlflow", before) != before)
    wait(lambda: answers(url) and supervisor.states()["mlflow"] == "RUNNING")


def test_the_run_of_a_stopped_worker_goes_on_and_a_drain_waits_for_it(folder: Path) -> None:
    """A run whose worker was killed is missed after two and a half minutes; one that was stopped says so itself."""
    stack, supervisor = stack_of(folder), Supervisor(folder / "servers")
    log = folder / "servers/logs/gpu-0.log"
    more = LITTLE | {"training": {"steps": 90, "checkpoint_every": 45, "batch_size": 8}}
    do(folder, 'python -c "$@"', RUN, "hook", folder / "examples/concepts/hook", json.dumps(more), "at once")
    wait(lambda: rows(folder, "SELECT 1 FROM task_run WHERE name = 'train' AND state_type = 'RUNNING'") != [])
    time.sleep(3)  # some steps
    os.kill(supervisor.pids()["gpu-0"], signal.SIGTERM)
    stopped = time.monotonic()
    states = """SELECT 1 FROM flow_run_state JOIN flow_run ON flow_run.id = flow_run_id
        WHERE flow_run.name = 'hook' AND type = 'CRASHED'"""
    wait(lambda: rows(folder, states) != [])
    assert time.monotonic() - stopped < 120
    wait(lambda: "Training of hook goes on from step" in log.read_text())
    assert "waiting for hook" in ti(folder, "down", "--drain")
    ((state,),) = rows(folder, "SELECT state_type FROM flow_run WHERE name = 'hook'")
    assert state == "COMPLETED"
    assert list(leftovers(str(folder / "servers"))) == []
    assert not any(taken("127.0.0.1", port) for port in (stack.s3_port, stack.mlflow_port, stack.prefect_port))
    assert "were not running" in ti(folder, "down")
    assert (folder / "servers/prefect/prefect.db").is_file()
    assert stack_of(folder) == stack


def test_secrets_stay_in_files_that_only_their_owner_reads(folder: Path) -> None:
    """After all of it: logs, databases, the store's data, what the workers keep."""
    home, secret = folder / "servers", secrets_of(stack_of(folder))
    files = {str(file.relative_to(home)): file.read_bytes() for file in home.rglob("*") if file.is_file()}
    holding = {name for name, data in files.items() if secret.search(data)}
    assert holding == {"stack.json", "env.sh", "reader.env", "s3.json", "supervisord.conf", "mlflow/auth.ini"}
    assert {name: oct((home / name).stat().st_mode & 0o077) for name in holding} == dict.fromkeys(holding, "0o0")
    there = {name for name, data in files.items() if b"hook" in data}
    assert {"logs/gpu-0.log", "mlflow/mlflow.db", "prefect/prefect.db"} <= there
