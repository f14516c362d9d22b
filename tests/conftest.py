"""What all tests share: nothing leaves this machine, and no setting of the developer's leaks in."""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# Tests start processes that share few cores: threads that wait must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if name.startswith("PSEUDOWORD_")]:
        monkeypatch.delenv(name)
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{base}:{os.getcwd()}")
