"""What does a second worker gain, and what does a night cost in which little is new? A real Prefect server and workers.

    python benchmarks/workers.py                                       # one worker, then two; each from nothing
    python benchmarks/workers.py --workers 2 --steps 2 --pack-size 8   # the path alone, on a busy machine

Each round starts a server, a worker for coordinators and so many that train, and runs `train-batch` three times: over
concepts of which some are broken; again, when nothing is new; and again, when one concept has got another picture. The
workers' machine must have a core (or a card) for each, or there is nothing to gain. Prints a Markdown table; times are of
the batch's flow run, from being asked for to its end, and of its packs: where they run at once, each may take longer.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun

from benchmarks.deployed import ROOT, at, gaps, packs_of, registered, run_batch
from tests.servers import prefect_server, prefect_worker

EXAMPLES = sorted(one for one in (ROOT / "examples" / "concepts").iterdir() if one.is_dir())


def main() -> None:
    """Run the rounds and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options.add_argument("--concepts", type=int, default=24)
    options.add_argument("--broken", type=int, default=3)
    options.add_argument("--steps", type=int, default=0, help="Of training; 0 takes the default, and judges in full.")
    options.add_argument("--pack-size", type=int, default=4)
    given = options.parse_args()
    rows = []
    for workers in given.workers:
        with tempfile.TemporaryDirectory() as folder:
            rows += one_round(Path(folder), workers, given)
    heads = ("workers", "batch", "s", "until a pack begins", "each pack", "between packs", "after the last",
             "packs by worker", "ended as")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


def one_round(folder: Path, workers: int, given: argparse.Namespace) -> list[list[str]]:
    """Three batches on so many workers that train."""
    source = pictures(folder / "pictures", given.concepts, given.broken)
    with ExitStack() as running:
        api = running.enter_context(prefect_server(folder / "prefect"))
        people = registered(folder, api, str(source))
        work = people | {
            "PSEUDOWORD_STORE": str(folder / "store"),
            "PSEUDOWORD_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "PSEUDOWORD_ALLOWED_ROOTS": str(folder),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        if "OMP_NUM_THREADS" in os.environ:
            work["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
        logs = dict[str, Path]()
        for name, queues, limit in [
            ("coordinators", ["cpu"], 4),
            *((f"worker-{number}", ["gpu-interactive", "gpu-batch"], 1) for number in range(workers)),
        ]:
            own = work | {"PSEUDOWORD_HOME": str(folder / name / "home")}
            log = running.enter_context(prefect_worker(folder / name, api, "pseudoword", own, queues, limit))
            logs[name] = log
        server, parameters = SyncPrefectClient(api), asked(given)
        batches = {"from nothing": run(server, parameters), "nothing new": run(server, parameters)}
        first = next(one for one in sorted(source.iterdir()) if (one / "concept.toml").exists())
        shutil.copy(next(EXAMPLES[-1].glob("*.png")), first / "new.png")
        batches["one picture new"] = run(server, parameters)
        return [[str(workers), name, *told(server, one, logs, workers)] for name, one in batches.items()]


def pictures(folder: Path, concepts: int, broken: int) -> Path:
    """Folders of concepts: the examples, the same with other pictures left out, and some that cannot be learned."""
    for number in range(concepts):
        place = folder / f"concept-{number:02}"
        if number < broken:
            place.mkdir(parents=True)
            (place / "01.png").write_bytes(b"no picture")
            continue
        shutil.copytree(EXAMPLES[number % len(EXAMPLES)], place)
        (place / "concept.toml").write_text('class_word = "monster"\n')
        for _ in range(number // len(EXAMPLES)):
            sorted(place.glob("*.png"))[0].unlink()
    return folder


def asked(given: argparse.Namespace) -> dict[str, Any]:
    """The parameters of a batch."""
    parameters: dict[str, Any] = {"packing": {"pack_size": given.pack_size}}
    if given.steps:
        parameters["training"] = {"steps": given.steps, "checkpoint_every": given.steps, "batch_size": 2}
        parameters["evaluation"] = {"protocol": "quick", "sampler_steps": 2}
    return parameters


def run(server: SyncPrefectClient, parameters: dict[str, Any]) -> FlowRun:
    """A batch, from being asked for to its end; what came of its concepts is printed."""
    flow_run = run_batch(server, parameters)
    rows = server.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
    )
    counts = Counter(row["outcome"] for one in rows if one.key == "batch" for row in json.loads(str(one.data)))
    print(dict(counts), file=sys.stderr)
    return flow_run


def told(server: SyncPrefectClient, flow_run: FlowRun, logs: dict[str, Path], workers: int) -> list[str]:
    """Wall time and where it went, in seconds, which worker did how many packs, and the final state."""
    packs = packs_of(server, flow_run.id)
    texts = {name: log.read_text(errors="replace") for name, log in logs.items()}
    where = Counter(name for pack in packs for name, text in texts.items() if str(pack.id) in text)
    split = ["", "", "", ""]
    if packs:
        first, last = min(at(one.start_time) for one in packs), max(at(one.end_time) for one in packs)
        split = [
            f"{first - at(flow_run.created):.0f}",
            ", ".join(f"{at(one.end_time) - at(one.start_time):.0f}" for one in packs),
            f"{gaps(packs, workers):.0f}",
            f"{at(flow_run.end_time) - last:.0f}",
        ]
    return [
        f"{at(flow_run.end_time) - at(flow_run.created):.0f}", *split,
        ", ".join(f"{name}: {n}" for name, n in sorted(where.items())), str(flow_run.state.name if flow_run.state else ""),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
