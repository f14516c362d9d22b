"""The alerts of deployments/automations.yaml on a real Prefect server: who is told what, and of what nobody is told."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import Automation

from tests.servers import plain_environment, prefect_server

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BLOCK = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock
CustomWebhookNotificationBlock(
    name="words", url="{url}", json_data={{"subject": "{{{{subject}}}}", "body": "{{{{body}}}}"}}
).save("words")
"""
# Pool, queues and deployments are tried in test_real_servers.py; here they would only take time.
AUTOMATE = "from flows.serving.deploying import automate; automate('{}')"
# Runs that end in every way, without any work: what counts here is what the server hears.
RUNS = """
from prefect import flow
from prefect.states import Completed, Failed
from tasks.artifacts import Artifacts
from ti_core import progress
from ti_core.records import Outcome

def ended(status):
    outcome = Outcome(judge_key="j", train_key="t", concept=f"a-{status}", base="miniature", status=status,
                      reason=f"Why {status}.", step=20, score=0.5, version=None, champion=False, run_id="",
                      manifest="m")
    Artifacts()(progress.Ended(outcome.concept, outcome, "http://page"))

def run(name, state, *statuses):
    @flow(name=name, flow_run_name=f"run-{state.name}", persist_result=False)
    def made():
        for status in statuses:
            ended(status)
        return state
    made(return_state=True)

run("train-batch", Failed(name="Partly failed: 1 of 4", message="failed 1: z"), "published", "rejected", "undecided")
run("train-batch", Completed(name="Rejected 1, published 2", message="told of by its words"))
run("train-concept", Failed(message="No usable picture."))
run("train-concept", Failed(name="Paused", message="paused at step 3"))
run("train-concept", Completed(name="Known", message="Known already"))
run("another-flow", Failed(message="not ours"))
"""


@dataclass
class Heard:
    """What was posted to the notification block's address: subject and body."""

    notes: list[tuple[str, str]] = field(default_factory=list)

    def wait_for(self, count: int, seconds: float = 120.0) -> dict[str, str]:
        """The notes by subject, once there are `count` of them and some seconds more have passed."""
        until = time.monotonic() + seconds
        while len(self.notes) < count and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(5)
        assert len(dict(self.notes)) == len(self.notes), self.notes
        return dict(self.notes)


@pytest.fixture
def heard() -> Iterator[tuple[Heard, str]]:
    """What arrives, and the address where it does."""
    taken = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            note = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            taken.notes.append((note["subject"], note["body"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield taken, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def automations(api: str) -> dict[str, Automation]:
    with SyncPrefectClient(api) as client:
        found = client.read_automations()
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def do(folder: Path, environment: dict[str, str], *command: str) -> None:
    done = subprocess.run(
        command, env=environment, cwd=folder, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_failed_runs_and_words_that_were_not_published_are_told_once_each_and_what_is_paused_stays_so(
    heard: tuple[Heard, str], tmp_path: Path
) -> None:
    taken, url = heard
    with prefect_server(tmp_path / "prefect") as api:
        environment = plain_environment(tmp_path) | {
            "PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "client"), "PYTHONPATH": str(ROOT)
        }  # fmt: skip
        do(tmp_path, environment, sys.executable, "-c", BLOCK.format(url=url))
        alerts = AUTOMATE.format("custom-webhook/words")
        do(tmp_path, environment, sys.executable, "-c", alerts)
        first = automations(api)
        with SyncPrefectClient(api) as client:  # as a person does in the UI
            client.pause_automation(first["pseudoword-again"].id)
        do(tmp_path, environment, sys.executable, "-c", alerts)  # nothing is there twice
        do(tmp_path, environment, sys.executable, "-c", RUNS)
        notes = taken.wait_for(4)
        do(tmp_path, environment, sys.executable, "-c", AUTOMATE.format(""))
        last = automations(api)
    assert {name for name, one in last.items() if not one.enabled} == {"pseudoword-again"}
    assert {name: one.id for name, one in last.items()} == {
        name: one.id for name, one in first.items() if name in {"pseudoword-dead-runs", "pseudoword-again"}
    }
    assert set(notes) == {
        "train-batch run-Partly failed: 1 of 4: Partly failed: 1 of 4", "train-concept run-Failed: Failed",
        "a-rejected on miniature was rejected", "a-undecided on miniature is undecided",
    }  # fmt: skip
    assert notes["a-undecided on miniature is undecided"] == "Why undecided. http://page"
    assert notes["train-batch run-Partly failed: 1 of 4: Partly failed: 1 of 4"].strip() == "failed 1: z"
