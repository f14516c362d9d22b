"""Where does the time of a batch go, and what does one cost in which all is done? Real servers: S3, Prefect, MLflow.

    python benchmarks/batch.py                      # 8 concepts, then 30 that are done; 23 minutes on two slow cores
    python benchmarks/batch.py --concepts 3 --done 5

One batch of one pack on a worker, at the miniature's defaults, its wall time from being asked for to its end. `load`: the
start of both runs and the station that loads the base model; `train` and `judge`: those stations, as Prefect timed
them; `rest`: everything else. What a second worker gains: `benchmarks/workers.py`. The same batch again shows what a batch costs in which all is known. Then, without
servers, `ti batch` with `--done` concepts: done once with the least work, and timed when it is asked for again, with what that
process imported. Prints one Markdown table; it measures this code alone, beside nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun

from benchmarks.deployed import ROOT, packs_of, registered, run_batch
from tests.servers import mlflow_server, prefect_server, prefect_worker, seaweedfs

EXAMPLES = sorted((ROOT / "examples" / "concepts").iterdir())
LEAST = [
    "--steps",
    "10",
    "--checkpoint-every",
    "10",
    "--batch-size",
    "2",
    "--protocol",
    "quick",
    "--sampler-steps",
    "2",
]
AGAIN = """
import json, sys, time
from flows.cli import main
began = time.perf_counter()
try:
    main()
except SystemExit:
    pass
heavy = sorted({"torch", "diffusers", "open_clip", "prefect", "mlflow", "pandas"} & sys.modules.keys())
print(json.dumps(heavy), file=sys.stderr)
"""


def main() -> None:
    """Run both parts and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--concepts", type=int, default=8)
    options.add_argument("--done", type=int, default=30)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = on_servers(Path(folder), given.concepts) + without_servers(Path(folder) / "local", given.done)
    print("| what | s |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in rows))


def on_servers(folder: Path, concepts: int) -> list[tuple[str, str]]:
    """A batch on real servers, and the same batch again."""
    with (
        seaweedfs(folder / "s3") as s3,
        prefect_server(folder / "prefect") as api,
        mlflow_server(folder / "mlflow") as tracking,
    ):
        client = s3.client()
        for concept in EXAMPLES[:concepts]:
            for file in concept.iterdir():
                client.put_object(Bucket=s3.bucket, Key=f"pictures/{concept.name}/{file.name}", Body=file.read_bytes())
        source = f"s3://{s3.bucket}/pictures"
        people = registered(folder, api, source)
        work = people | s3.environment | {
            "PSEUDOWORD_STORE": f"s3://{s3.bucket}/store",
            "PSEUDOWORD_TRACKING_URI": tracking,
            "PSEUDOWORD_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        with (
            prefect_worker(folder / "coordinator", api, "pseudoword", work, ["cpu"], 4),
            prefect_worker(folder / "worker", api, "pseudoword", work),
        ):
            server = SyncPrefectClient(api)
            first, second = (run_batch(server, {"source": source, "packing": {"pack_size": 1024}}) for _ in range(2))
            shares = _shares(server, first)
            tasks = len(_tasks(server, first))
    wall = _wall(first)
    return [
        (
            f"batch of {concepts} on real servers, wall time ({first.state.message if first.state else ''})",
            f"{wall:.0f}",
        ),
        *((f"— {name}", f"{seconds:.0f} ({seconds / wall:.0%})") for name, seconds in shares.items()),
        ("Prefect task runs a concept", f"{tasks / concepts:.1f} ({tasks} in all)"),
        ("the same batch again, all known", f"{_wall(second):.0f}"),
    ]


def without_servers(folder: Path, concepts: int) -> list[tuple[str, str]]:
    """`ti batch` in which all is done."""
    source = folder / "pictures"
    source.mkdir(parents=True)
    for concept in EXAMPLES[:concepts]:
        (source / concept.name).symlink_to(concept)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "PSEUDOWORD_ALLOWED_ROOTS": f"{folder}:{ROOT}", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", AGAIN, "batch", source, "--home", folder / "home", *LEAST, "--json"]
    subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    rows = json.loads(done.stdout)
    known = sum(row["status"] == "skipped" for row in rows)
    imported = ", ".join(json.loads(done.stderr.splitlines()[-1])) or "none"
    return [(f"ti batch of {len(rows)}, {known} of them done (heavy imports: {imported})", f"{seconds:.1f}")]


def _wall(run: FlowRun) -> float:
    assert run.end_time and run.created  # noqa: S101  # for the type checker: the run has ended
    return float((run.end_time - run.created).total_seconds())


def _tasks(server: SyncPrefectClient, run: FlowRun) -> list[Any]:
    """Those of a batch and of its packs."""
    runs = [run.id, *(pack.id for pack in packs_of(server, run.id))]
    found = server.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=runs)))
    return [task for task in found if not task.name.startswith("train-pack")]  # it stands for the pack's own


def _shares(server: SyncPrefectClient, run: FlowRun) -> dict[str, float]:
    tasks = _tasks(server, run)
    spent = dict.fromkeys(("train", "judge", "load"), 0.0)
    for task in tasks:
        kind = {"train": "train", "evaluate": "judge", "preprocess": "load"}.get(task.name.split()[0])
        if kind:
            spent[kind] += task.total_run_time.total_seconds()
    spent["load"] += (min(task.start_time for task in tasks) - run.created).total_seconds()
    return spent | {"rest": _wall(run) - sum(spent.values())}


if __name__ == "__main__":
    main()
