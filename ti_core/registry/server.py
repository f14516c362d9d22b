"""The connection to MLflow: made at the first use, bounded in time, quiet, its errors put into sentences.

MLflow keeps its URI, its retries and its printing in globals and in the environment; this module is the one that sets
them, and what a user has set in the environment wins. It does not know what is logged.
"""

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from ti_core.errors import NotFoundError, ServiceError
from ti_core.settings import Settings, starting

_ENVIRONMENT = {
    # MLflow's own bounds (7 retries of up to 120 s) leave a person before a silent terminal for many minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# The HTTP client warns of each retry; what came of them is told in a sentence of ours.
_LOGGERS = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3.connectionpool": logging.ERROR}
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@")
_UNREACHABLE = re.compile(r"^API request to .* failed with (timeout )?exception", re.DOTALL)


def without_credentials(text: str) -> str:
    """`text` without the names and passwords in its URIs."""
    return _CREDENTIALS.sub("", text)


class Server:
    """MLflow's tracking and registry server, or its database file, at the settings' URI."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._lock = threading.Lock()

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        """A connected client for the body of the `with`.

        Raises NotFoundError for a run or a model that MLflow does not know, ServiceError for every other failure.
        """
        try:
            # Logged models are looked up at the global URI, whatever URI the client has.
            mlflow.set_tracking_uri(self._settings.mlflow_uri)
            yield self._connected()
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise NotFoundError(self._sentence(error.message, "has no such thing")) from error
            raise ServiceError(self._sentence(error.message)) from error
        except (OSError, SQLAlchemyError) as error:
            raise ServiceError(self._sentence(str(error))) from error

    @property
    def experiment(self) -> str:
        """Id of the settings' experiment. Known once `client` was entered."""
        return self._experiment

    def model(self, concept: str, base: str) -> str:
        """Name of the registered model of a word."""
        namespace = f"{self._settings.namespace}." if self._settings.namespace else ""
        return f"{namespace}{concept}.{base}"

    def run_url(self, run_id: str) -> str | None:
        """Where a browser finds the run; None without a server."""
        uri = without_credentials(self._settings.mlflow_uri)
        if urlsplit(uri).scheme not in {"http", "https"}:
            return None
        return f"{uri.rstrip('/')}/#/experiments/{self._experiment}/runs/{run_id}"

    def _connected(self) -> MlflowClient:
        with self._lock:
            if self._client is None:
                for name, value in _ENVIRONMENT.items():
                    os.environ.setdefault(name, value)
                if "MLFLOW_LOGGING_LEVEL" not in os.environ:
                    for name, level in _LOGGERS.items():
                        logging.getLogger(name).setLevel(level)
                with starting(self._settings.home):
                    client = MlflowClient(self._settings.mlflow_uri, self._settings.mlflow_uri)
                    self._experiment = self._find_experiment(client)
                self._client = client
            return self._client

    def _find_experiment(self, client: MlflowClient) -> str:
        name = self._settings.mlflow_experiment
        # A server decides where artifacts go; without one, MLflow would put them into the working folder.
        embedded = urlsplit(self._settings.mlflow_uri).scheme not in {"http", "https"}
        location = (self._settings.home.absolute() / "mlruns").as_uri() if embedded else None
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another worker was faster
        return str(found.experiment_id)

    def _sentence(self, message: str, trouble: str = "failed") -> str:
        uri = without_credentials(self._settings.mlflow_uri)
        if _UNREACHABLE.match(message):
            return f"The tracking server {uri} cannot be reached: start it, or correct PSEUDOWORD_TRACKING_URI."
        reason = without_credentials(message.strip().partition("\n")[0])[:300]
        return f"The tracking server {uri} {trouble}: {reason.removeprefix('RESOURCE_DOES_NOT_EXIST: ').rstrip('.')}."
