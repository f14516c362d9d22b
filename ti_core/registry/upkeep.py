"""Looking after what MLflow has: runs that are there twice or were left open, versions made twice, words to forget.

What is deleted here MLflow only marks and hides; `mlflow gc` on its server removes it. This module does not know the
store.
"""

import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.exceptions import MlflowException

_MOST = 1000  # runs in one search
STALE_DAYS = 7
"""A run without an outcome that began so long ago counts as left behind. Closing it harms nobody: a later attempt at
the same work takes it up again."""


def models_of(client: MlflowClient, experiment: str, run_id: str) -> list[LoggedModel]:
    """The logged models of a run."""
    found: list[LoggedModel] = []
    token = ""
    while token is not None:
        page = client.search_logged_models([experiment], f"source_run_id = '{run_id}'", page_token=token or None)
        found += page
        token = page.token
    return found


def versions(client: MlflowClient, name: str, judge_key: str) -> list[int]:
    """MLflow's own numbers of a judge_key's versions."""
    found = client.search_model_versions(f"name = '{name}' and tag.judge_key = '{judge_key}'")
    return [int(version.version) for version in found]


def doubled(
    client: MlflowClient,
    experiment: str,
    name: str,
    concept: str,
    base: str,
    ended: Mapping[str, str],
    repair: bool,
) -> list[str]:
    """What is there of a word twice, or open although it `ended` (tracking run by judge_key), a sentence each; `name`
    is that of its registered model. With `repair` the surplus is deleted and what is open is closed."""
    found, where = [], f"{concept} on {base}"
    runs = _runs(client, experiment, concept, base)
    long_ago = (time.time() - STALE_DAYS * 86_400) * 1000
    for run in runs:
        if (
            run.info.status == "RUNNING"
            and run.data.tags.get("judge_key") not in ended
            and run.info.start_time < long_ago
        ):
            found.append(f"MLflow's run {run.info.run_id} of {where} was left open over {STALE_DAYS} days ago.")
            if repair:
                client.set_terminated(run.info.run_id, "KILLED")
    for judge_key, told in ended.items():
        mine = [run for run in runs if run.data.tags.get("judge_key") == judge_key]
        # The run that the outcome names, or else the oldest, is the one that stays.
        mine.sort(key=lambda run: run.info.run_id != told)
        for run in mine[1:]:
            found.append(f"MLflow has a run of {where} twice: {run.info.run_id} is the second.")
            if repair:
                _delete(client, experiment, run.info.run_id)
        for run in mine[:1]:
            if run.info.status != "FINISHED":
                found.append(f"MLflow's run {run.info.run_id} of {where} has ended and is not closed.")
                if repair:
                    client.set_terminated(run.info.run_id, "FINISHED")
        first, *more = sorted(versions(client, name, judge_key)) or [0]
        for number in more:
            found.append(f"MLflow has a run of {where} as versions {first} and {number}.")
            if repair:
                client.delete_model_version(name, str(number))
    return found


def forget(client: MlflowClient, experiment: str, name: str, concept: str, base: str) -> None:
    """Delete all runs, logged models and versions of a word, whose registered model is called `name`."""
    while runs := _runs(client, experiment, concept, base):
        for run in runs:
            _delete(client, experiment, run.info.run_id)
    try:
        client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _runs(client: MlflowClient, experiment: str, concept: str, base: str) -> list[Run]:
    same = f"tags.concept = '{concept}' and tags.base = '{base}'"
    return list(client.search_runs([experiment], same, max_results=_MOST, order_by=["attributes.start_time ASC"]))


def _delete(client: MlflowClient, experiment: str, run_id: str) -> None:
    for model in models_of(client, experiment, run_id):
        client.delete_logged_model(model.model_id)
    client.delete_run(run_id)
