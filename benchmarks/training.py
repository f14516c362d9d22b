"""How fast is the trainer, beside the diffusers textual-inversion script, on the same folder, pictures and machine?

    python benchmarks/training.py --diffusers-script PATH/textual_inversion.py            # about 20 minutes on two idle cores
    python benchmarks/training.py --diffusers-script PATH/textual_inversion.py --quick    # does it run? a minute
    python benchmarks/training.py --full-size sd15 --diffusers-script PATH/textual_inversion.py --steps 0
    python benchmarks/training.py --full-size sdxl --diffusers-sdxl-script PATH/textual_inversion_sdxl.py --steps 0

Every measurement has a process of its own, and those to be compared take turns, so that a machine whose speed wanders
wanders for all. Writes a table, a plot and the raw figures to docs/benchmarks/ (`--out`). This process loads no torch:
a child's peak resident memory is counted from its parent's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.training_table import write  # noqa: E402  # found by the line above

CONCEPTS = ROOT / "examples" / "concepts"
JUDGED = ("disco", "moss", "tin", "hook", "prickle", "granny", "vanilla", "trio")
"""Concepts in the order in which they are taken."""
CLIP = ROOT / "miniature" / "package" / "pseudoword_miniature" / "mini-clip"


class Bench:
    """One run of the benchmark: starts children and keeps what they say."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.number = 0
        self.common = {
            "model": str(folder / "model"), "device": options.device, "precision": options.precision,
            "learning_rate": options.learning_rate, "base": options.base_model, "cached": False,
            "clip": str(CLIP), "script": str(options.script), "seconds": options.seconds, "words": str(folder),
        }  # fmt: skip

    def child(self, side: str, label: str, **task: Any) -> dict[str, Any]:
        """Measure one thing in a process of its own. Raises SystemExit with the end of its log when it fails."""
        self.number += 1
        home = self.folder / f"{self.number:03}"
        home.mkdir()
        result, log = home.with_suffix(".json"), home.with_suffix(".log")
        told = self.common | {"side": side, "home": str(home), "result": str(result), "began": time.time()} | task
        file = home.with_suffix(".task")
        file.write_text(json.dumps(told))
        with log.open("wb") as output:
            code = subprocess.run(
                [sys.executable, "-m", "benchmarks.sides", str(file)],
                cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
            ).returncode  # fmt: skip
        if code:
            raise SystemExit(f"{label} failed:\n{log.read_text(errors='replace')[-3000:]}")
        found: dict[str, Any] = json.loads(result.read_text())
        print(f"{time.strftime('%H:%M:%S')} {label}: {_brief(found)}", flush=True)
        return found


def main() -> None:
    """Run it."""
    options = _options()
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        bench = Bench(options, Path(temporary))
        names = [path.name for path in sorted(CONCEPTS.iterdir())]
        names = [*JUDGED, *(name for name in names if name not in JUDGED)]
        most = max([*options.slots, options.pack, options.concepts])
        if most > len(names):
            raise SystemExit(f"There are {len(names)} concepts in {CONCEPTS}; {most} are asked for.")
        ground = bench.child(
            "ground", "model and floor", size=options.full_size, names=names[:most], source=str(CONCEPTS),
            pictures=str(bench.folder / "pictures"),
        )  # fmt: skip
        bench.common |= {"resolution": ground["resolution"], "accumulation": 1}
        concepts = ground["concepts"]
        rates, ceilings = _rates(bench, concepts)
        runs = _runs(bench, concepts) if options.steps else []
        scores = {}
        if options.steps and options.judge:
            scores = bench.child(
                "judged", "judging", concepts={name: concepts[name] for name in names[: options.concepts]},
                steps=options.steps,
            )  # fmt: skip
    found = {
        # Of paths the names alone: where they lie is nobody's affair.
        "options": {key: value.name if isinstance(value, Path) else value for key, value in vars(options).items()},
        "ground": {key: value for key, value in ground.items() if key != "concepts"},
        "ceiling": statistics.median(ceilings), "rates": rates, "runs": runs, "scores": scores,
        "minutes": (time.time() - began) / 60,
    }  # fmt: skip
    print(write(found, options.out))


def _rates(bench: Bench, concepts: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
    """Samples per second of every arm, each `repeats` times, in turn."""
    options = bench.options
    first = dict([next(iter(concepts.items()))])
    arms: list[tuple[str, str, dict[str, Any]]] = []
    for cached in (False, True) if options.cached else (False,):
        note = ", latents cached" if cached else ""
        arms.append(("peer", f"peer 1 × 4{note}", {"batch": 1, "accumulation": 4, "cached": cached, "concepts": first}))
        arms.append(
            ("peer", f"peer {options.batch}{note}", {"batch": options.batch, "cached": cached, "concepts": first})
        )
    for slots in options.slots:
        chosen = dict(list(concepts.items())[:slots])
        label = f"ours {slots} × {options.batch}" if slots > 1 else f"ours {options.batch}"
        arms.append(("ours", label, {"batch": options.batch, "concepts": chosen}))
    results: dict[str, list[dict[str, Any]]] = {label: [] for _, label, _ in arms}
    ceilings = []
    for _ in range(options.repeats):
        ceilings.append(bench.child("ceiling", "ceiling")["ceiling"])
        for side, label, task in arms:
            results[label].append(bench.child(side, label, what="rate", steps=100_000, **task))
    return [
        {"label": label, "side": side, "cached": task.get("cached", False), "batch": task["batch"],
         "slots": len(task["concepts"]), "accumulation": task.get("accumulation", 1), "results": results[label]}
        for side, label, task in arms
    ], ceilings  # fmt: skip


def _runs(bench: Bench, concepts: dict[str, Any]) -> list[dict[str, Any]]:
    """Whole runs of `steps` × 4 samples, start-up included: the peer and ours solo in turn, then a pack."""
    options = bench.options
    words = {who: bench.folder / "words" / who for who in ("ours", "peer", "pack")}
    for folder in words.values():
        folder.mkdir(parents=True)
    bench.common["words"] = str(bench.folder / "words")
    runs: dict[str, list[dict[str, Any]]] = {"peer 1 × 4": [], "ours 4": []}
    for name in list(concepts)[: options.concepts]:
        one = {"what": "run", "steps": options.steps, "concepts": {name: concepts[name]}}
        runs["peer 1 × 4"].append(
            bench.child("peer", f"run peer {name}", batch=1, **one | {"accumulation": 4, "words": str(words["peer"])})
        )
        runs["ours 4"].append(bench.child("ours", f"run ours {name}", batch=4, **one | {"words": str(words["ours"])}))
    pack = dict(list(concepts.items())[: options.pack])
    runs[f"ours {options.pack} × 4"] = [
        bench.child("ours", f"run ours pack of {options.pack}", what="run", steps=options.steps, batch=4,
                    concepts=pack, words=str(words["pack"]))
    ]  # fmt: skip
    counts = {f"ours {options.pack} × 4": options.pack}
    return [{"label": label, "concepts": counts.get(label, 1), "results": results} for label, results in runs.items()]


def _brief(found: dict[str, Any]) -> str:
    if "samples_per_second" in found:
        return f"{found['samples_per_second']:.1f} samples/s, start-up {found['start_up']:.1f} s"
    if "wall" in found:
        return f"{found['wall']:.1f} s, {found['bytes_written']:,} bytes written"
    if "ceiling" in found:
        return f"{found['ceiling'] / 1e9:,.0f} GFLOP/s"
    return "done"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--diffusers-script", type=Path, help="diffusers' examples/textual_inversion/textual_inversion.py"
    )
    parser.add_argument("--diffusers-sdxl-script", type=Path, help="its SDXL sister, for --full-size sdxl")
    parser.add_argument("--base-model", default="miniature", help="a model folder")
    parser.add_argument("--full-size", default="", choices=["", "sd15", "sdxl", "tiny", "tiny-xl"],
                        help="random weights in the shapes of Stable Diffusion; nothing is judged")  # fmt: skip
    parser.add_argument("--batch", type=int, default=8, help="samples per concept and step in the rate arms")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 8, 16, 32], help="sizes of our packs")
    parser.add_argument("--repeats", type=int, default=2, help="of every rate")
    parser.add_argument("--seconds", type=float, default=6.0, help="least length of a rate's window")
    parser.add_argument("--steps", type=int, default=500, help="steps of the whole runs; 0 leaves them out")
    parser.add_argument("--concepts", type=int, default=3, help="whole runs of each side, and concepts judged")
    parser.add_argument("--pack", type=int, default=8, help="concepts in the whole run of a pack")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="", choices=["", "fp32", "bf16"], help="of the U-Net; fp32 on CPU")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--quick", action="store_true", help="a smoke test: its figures mean nothing")
    options = parser.parse_args()
    options.cached, options.judge = not options.quick, not options.full_size
    if options.quick:
        options.repeats, options.seconds, options.steps = 1, 0.5, min(options.steps, 4)
        options.slots, options.pack, options.concepts = [1, 2], 2, 1
    options.precision = options.precision or ("bf16" if options.device == "cuda" else "fp32")
    large = options.full_size in {"sdxl", "tiny-xl"}
    options.script = options.diffusers_sdxl_script if large else options.diffusers_script
    if options.script is None or not options.script.is_file():
        parser.error(f"name the script to compare with: --diffusers{'-sdxl' if large else ''}-script PATH")
    return options


if __name__ == "__main__":
    main()
