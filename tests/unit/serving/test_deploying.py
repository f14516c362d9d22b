"""What is registered with Prefect, and the files for containers, units and clusters, as far as a schema can tell."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.serving.deploying import BLOCK, DEPLOYMENTS, automations, pool, queues
from flows.serving.worker import GRACE_SECONDS, command

WORKER_UNIT = "systemd/pseudoword-worker@.service"


def test_alerts_are_made_only_where_somebody_is_told() -> None:
    assert [one["name"] for one in automations(None)] == ["pseudoword-dead-runs", "pseudoword-again"]
    told = automations("the-block")
    assert len(told) == 6
    assert {action[BLOCK] for one in told for action in one["actions"] if BLOCK in action} == {"the-block"}


def test_every_queue_has_exactly_one_kind_of_worker_and_people_come_before_the_batch() -> None:
    served = {kind: set(re.findall(r"--work-queue (\S+)", " ".join(command(kind, "w")))) for kind in ("gpu", "cpu")}
    assert served["gpu"] | served["cpu"] == {queue.name for queue in queues()}
    assert not served["gpu"] & served["cpu"]
    assert ["--pool", pool()] == command("gpu", "w")[5:7]
    priorities = {queue.name: queue.priority for queue in queues() if not queue.cpu}
    assert max(priorities, key=lambda name: priorities[name]).endswith("batch")


def test_the_wheel_carries_what_is_registered() -> None:
    included = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    for name in ("prefect.yaml", "automations.yaml"):
        assert f'"deployments/{name}" = "flows/deployments/{name}"' in included
        assert (DEPLOYMENTS / name).is_file()


def test_compose_file_fits_the_schema_and_opens_loopback_alone() -> None:
    file = DEPLOYMENTS / "compose.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    services = yaml.safe_load(file.read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    volumes = set(yaml.safe_load(file.read_text())["volumes"])
    assert {one.split(":")[0] for service in services.values() for one in service.get("volumes", [])} == volumes
    assert {name for service in services.values() for name in service.get("depends_on", {})} <= set(services)


def test_whoever_stops_a_worker_waits_longer_than_its_runs_may_take() -> None:
    services = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())["services"].values()
    waits = [one["stop_grace_period"] for one in services if "flows.serving.worker" in one.get("command", "")]
    waits += re.findall(r"^TimeoutStopSec=(\w+)in", (DEPLOYMENTS / WORKER_UNIT).read_text(), flags=re.MULTILINE)
    assert len(waits) == 3
    assert all(int(wait.removesuffix("m")) * 60 > GRACE_SECONDS for wait in waits)


def test_image_copies_what_the_package_is_built_from() -> None:
    text = (DEPLOYMENTS / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE):
        assert all((DEPLOYMENTS.parent / name).exists() for name in line.split()), line
    assert {"ti_core", "tasks", "flows", "deployments"} <= set(re.findall(r"^COPY (\w+) ", text, flags=re.MULTILINE))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here to verify its units")
@pytest.mark.parametrize("name", ["pseudoword.service", "pseudoword-worker@.service"])
def test_units_pass_systemd_s_own_look(name: str, tmp_path: Path) -> None:
    programs = str(Path(sys.executable).parent)
    (tmp_path / name).write_text(
        (DEPLOYMENTS / "systemd" / name).read_text().replace("/opt/pseudoword/.venv/bin", programs)
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, name in done.stderr) == (0, False), done.stderr


def test_kubernetes_template_uses_its_variables_and_gives_a_run_time_to_save() -> None:
    template = json.loads((DEPLOYMENTS / "kubernetes-job.json").read_text())
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    properties = template["variables"]["properties"]
    assert used == set(properties)
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "{{ gpus }}"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert properties["grace_seconds"]["default"] >= 60


def test_kubernetes_pods_run_as_the_image_s_user_who_may_write_the_volume() -> None:
    """A claim's volume belongs to root, unless the pod names a group."""
    template = json.loads((DEPLOYMENTS / "kubernetes-job.json").read_text())
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (user,) = re.findall(r"useradd .*--uid (\d+)", (DEPLOYMENTS / "Dockerfile").read_text())
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and (context["runAsUser"], context["fsGroup"]) == (int(user), int(user))
    (container,) = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
