"""The forms of the Prefect server, filled in: links for a browser, and the same as a command."""

import json
import shlex
from typing import Any
from urllib.parse import quote

from flows.options import asked_of
from ti_core.planning.batch import BatchItem

DEPLOYMENT = "train-concept/train-concept"


def parameters(item: BatchItem, preset: str) -> dict[str, Any]:
    """What the flow of one concept is given for a concept of a batch: what says something and no default."""
    assert item.spec is not None  # noqa: S101  # for the type checker
    training = item.own.model_dump(mode="json", exclude_unset=True)
    said = {"training": training, "preset": "" if preset == "standard" else preset, "base_model": item.base_model}
    return asked_of(item.spec) | {name: value for name, value in said.items() if value}


def form_link(given: dict[str, Any]) -> str:
    """Where a browser finds the form of one concept with these parameters in it.

    Raises NotFoundError where the server does not have the deployment, ServiceError where it does not answer.
    """
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.urls import url_for

    from flows.serving.deploying import prefect_client
    from tasks.asking import not_registered

    with prefect_client() as client:
        try:
            found = client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise not_registered(DEPLOYMENT) from None
    # One of Prefect's two interfaces decodes the value twice: a percent sign is written as JSON may write it.
    filled = json.dumps(given).replace("%", "\\u0025")
    return f"{url_for('deployment', obj_id=found.id)}/run?parameters={quote(filled, safe='')}"


def command(given: dict[str, Any], job_variables: dict[str, Any]) -> str:
    """What starts the same run on a worker from a terminal."""
    words = ["prefect", "deployment", "run", DEPLOYMENT, "--params", json.dumps(given, ensure_ascii=False)]
    for name, value in job_variables.items():
        words += ["--job-variable", f"{name}={json.dumps(value)}"]
    return shlex.join(words)
