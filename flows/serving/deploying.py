"""`python -m flows.serving.deploying`: create the work pool, its queues and the automations on a Prefect server, and
register the deployments. May be run again after every change; what is there is updated.

What there is to register stands in deployments/prefect.yaml and deployments/automations.yaml alone. `ti up` calls
`register`; deployments/setup.sh is the same for servers that were started another way.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_core.errors import InputError, PseudowordError, ServiceError

_PACKAGE = Path(__file__).parents[1]
DEPLOYMENTS = next(
    (folder for folder in (_PACKAGE.parent / "deployments", _PACKAGE / "deployments") if folder.is_dir()),
    _PACKAGE / "deployments",
)
"""Beside the package in a checkout, within it in a wheel."""
BLOCK = "block_document_id"
"""An action with this place waits for the notification block that is to hear of things."""
OURS = "pseudoword-"
"""How the names of all our automations begin."""


@dataclass(frozen=True)
class Queue:
    """A work queue of prefect.yaml."""

    name: str

    @property
    def cpu(self) -> bool:
        """Whether its runs need no card: they mostly wait for others."""
        return self.name.startswith("cpu")

    @property
    def priority(self) -> int:
        """A worker with a free place takes from the queue with the lowest number first: people before the batch."""
        return 10 if self.name.endswith("batch") else 1


def queues(folder: Path = DEPLOYMENTS) -> list[Queue]:
    """The queues that the deployments name, each once, in their order."""
    deployments = _yaml(folder / "prefect.yaml")["deployments"]
    return list(dict.fromkeys(Queue(deployment["work_pool"]["work_queue_name"]) for deployment in deployments))


def pool(folder: Path = DEPLOYMENTS) -> str:
    """The one work pool of the deployments."""
    return str(_yaml(folder / "prefect.yaml")["deployments"][0]["work_pool"]["name"])


def automations(alerts: str | None, folder: Path = DEPLOYMENTS) -> list[dict[str, Any]]:
    """The automations; those that tell somebody only where `alerts` is the id of a notification block."""
    kept = []
    for automation in _yaml(folder / "automations.yaml")["automations"]:
        telling = [action for action in automation["actions"] if BLOCK in action]
        for action in telling:
            action[BLOCK] = alerts
        if alerts or not telling:
            kept.append(automation)
    return kept


@contextmanager
def prefect_client() -> Iterator[Any]:
    """A client of the server that PREFECT_API_URL names. What it raises in the body for a server that does not answer,
    refuses, or has lost what was registered, becomes a ServiceError."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        answer = getattr(error, "response", None)
        reason = str(error).splitlines()[0] if answer is None else f"it answers with {answer.status_code}"
        raise ServiceError(f"Prefect at {os.environ.get('PREFECT_API_URL')} does not do it: {reason}.") from None
    except ObjectNotFound:
        raise ServiceError(
            f"Prefect at {os.environ.get('PREFECT_API_URL')} does not know the pool {pool()} any more: ti down and "
            "ti up, or deployments/setup.sh, registers it again."
        ) from None


def register(source: str, alerts: str = "") -> None:
    """Register everything with the server that PREFECT_API_URL names. `source` is what the nightly batch trains,
    `alerts` a notification block such as slack-webhook/words.

    Raises InputError where there is no such block, ServiceError where Prefect refuses.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    automate(alerts)
    with prefect_client() as client:
        with suppress(ObjectAlreadyExists):  # of whatever type: it may be Kubernetes's
            client.create_work_pool(WorkPoolCreate(name=pool(), type="process"))
        for queue in queues():
            try:
                client.create_work_queue(queue.name, priority=queue.priority, work_pool_name=pool())
            except ObjectAlreadyExists:
                there = client.read_work_queue_by_name(queue.name, pool())
                client.update_work_queue(there.id, priority=queue.priority)
    _deploy(source)


def automate(alerts: str) -> None:
    """Make the automations, those that tell somebody where `alerts` names a block. One that is there keeps its id and
    history, and stays paused where a person has paused it; one that is not wanted any more is removed. Raises
    InputError where there is no such block."""
    from prefect.events.schemas.automations import AutomationCore
    from prefect.exceptions import ObjectNotFound

    with prefect_client() as client:
        block = None
        if alerts:
            try:
                slug, _, name = alerts.partition("/")
                block = str(client.read_block_document_by_name(name, slug).id)
            except ObjectNotFound:
                raise InputError(
                    f"There is no notification block {alerts}: make it in Prefect's UI under Blocks, or name another."
                ) from None
        wanted = {one["name"]: AutomationCore.model_validate(one) for one in automations(block)}
        for there in client.read_automations():
            if not there.name.startswith(OURS):
                continue
            if not (automation := wanted.pop(there.name, None)):
                client.delete_automation(there.id)
                continue
            automation.enabled = there.enabled
            if automation != AutomationCore.model_validate(there.model_dump()):
                client.update_automation(there.id, automation)
        for automation in wanted.values():
            client.create_automation(automation)


def _deploy(source: str) -> None:
    """Prefect reads prefect.yaml in its command alone."""
    done = subprocess.run(  # noqa: S603 (our own words)
        [sys.executable, "-m", "prefect", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS / "prefect.yaml")],
        env=os.environ | {"PSEUDOWORD_SOURCE": source, "PREFECT_CLI_PROMPT": "false"},
        cwd=DEPLOYMENTS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ServiceError(f"Prefect did not take the deployments: {(done.stderr or done.stdout).strip()[-300:]}")


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(file.read_text()))


def main() -> None:
    """Register with the server and the source that the environment names."""
    server, source = os.environ.get("PREFECT_API_URL"), os.environ.get("PSEUDOWORD_SOURCE")
    try:
        if not server:
            raise InputError("PREFECT_API_URL is not set: name the server, for example http://127.0.0.1:4200/api.")
        if not source:
            raise InputError(
                "PSEUDOWORD_SOURCE is not set: name what the nightly batch trains, s3://words/pictures say."
            )
        register(source, os.environ.get("PSEUDOWORD_ALERTS", ""))
    except PseudowordError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
