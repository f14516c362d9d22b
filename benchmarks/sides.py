"""One measurement in a process of its own: `python -m benchmarks.sides TASK.json`, which names what to do and where the
result goes. `benchmarks/training.py` starts it, so that start-up time and peak memory are those of one trainer alone.

A rate is taken between two step boundaries, after `WARM` optimizer steps and over at least `seconds` and `LEAST` steps,
so it holds neither start-up nor the end of a run. Both sides are stopped at the second boundary.
"""

# ruff: noqa: PLC0415 - each side imports its own, so that neither pays for the other's start-up.

import json
import resource
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WARM, LEAST = 3, 5
"""Optimizer steps before the window, and the fewest within it."""


class Window:
    """Step boundaries of one run. `boundary` says whether the window is over."""

    def __init__(self, began: float, seconds: float, device: str) -> None:
        self.began, self.seconds, self.device = began, seconds, device
        self.steps = 0
        self.start_up = self.opened = self.closed = 0.0

    def boundary(self) -> bool:
        """Call it after each optimizer step."""
        self.steps += 1
        if self.steps == 1:
            self._wait()
            self.start_up = time.time() - self.began
        if self.steps == WARM:
            self._wait()
            self.opened = time.perf_counter()
        if self.steps < WARM + LEAST or time.perf_counter() - self.opened < self.seconds:
            return False
        self._wait()
        self.closed = time.perf_counter()
        return True

    def told(self, samples: int) -> dict[str, float]:
        """The result, with `samples` per optimizer step."""
        steps = self.steps - WARM
        rate = steps * samples / (self.closed - self.opened) if self.closed else 0.0
        return {"samples_per_second": rate, "start_up": self.start_up, "peak_bytes": peak_bytes(self.device)}

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def peak_bytes(device: str) -> int:
    """Most memory this process has held: allocated on CUDA, else resident."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(task: dict[str, Any]) -> dict[str, Any]:
    """Train a pack of our own: for a rate over a window, or to the end, with checkpoints and states in a folder store."""
    from ti_core.backbone.resident import resident
    from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
    from ti_core.planning.plan import make_plan
    from ti_core.settings import Settings
    from ti_core.store import get_blob, open_store
    from ti_core.training.events import Failed, Paused
    from ti_core.training.running import prepare, run_training
    from ti_core.training.trainer import train

    home = Path(task["home"])
    settings = Settings(
        home=home, device=task["device"], precision=task["precision"], clip=task["clip"], allowed_roots=(home.parent,)
    )
    store = open_store(settings)
    training = TrainingConfig(
        steps=task["steps"], batch_size=task["batch"], learning_rate=task["learning_rate"],
        checkpoint_every=min(100, task["steps"]), resolution=task["resolution"],
    )  # fmt: skip
    work = []
    for name, (folder, class_word) in task["concepts"].items():
        concept = ConceptSpec(name=name, pictures=folder, class_word=class_word)
        plan = make_plan(concept, training, EvaluationConfig(), SelectionRule(), task["model"], settings, store)
        work.append((plan, prepare(plan, settings, store)))
    window = Window(task["began"], task["seconds"], task["device"])
    if task["what"] == "rate":
        jobs = [_job(plan, prepared) for plan, prepared in work]
        passes = iter([False])  # the trainer asks before every step, the first one included

        def stop() -> bool:
            return next(passes, True) and window.boundary()

        paused = 0
        with resident(work[0][0].base, settings.device, precision=settings.precision) as model:
            for event in train(jobs, model, len(jobs), should_stop=stop):
                if isinstance(event, Failed):
                    raise SystemExit(event.reason)
                paused += isinstance(event, Paused)
        # The trainer makes the pack smaller, before the window opens, when the memory does not hold it.
        return window.told(task["batch"] * paused) | {"slots": paused}

    before = _size(home / "store")
    written = _Counted(store)
    trained = run_training(work, Packing(slots=len(work)), settings, written, lambda _event: None, lambda _text: None)
    for one in trained:
        if one.reason:
            raise SystemExit(one.reason)
        vectors = get_blob(store, one.checkpoints[-1].vectors)
        (Path(task["words"]) / f"{one.concept}.safetensors").write_bytes(vectors)
    return {
        "wall": time.time() - task["began"],
        "peak_bytes": peak_bytes(task["device"]),
        "bytes_written": written.bytes,
        "bytes_prepared": before + _size(home / "cache"),
    }


class _Counted:
    """A store that counts the bytes written to it, overwritten ones too."""

    def __init__(self, store: Any) -> None:
        self._store, self.bytes = store, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes) -> None:
        self.bytes += len(data)
        self._store.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self.bytes += len(data)
        return bool(self._store.create(key, data))


def _job(plan: Any, prepared: Any) -> Any:
    from ti_core.training.running import concept_job

    return concept_job(plan, prepared, None)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- the peer ---------------------------------------------------------------------------------------------------------


class _WindowOver(BaseException):
    """Ends the script at a step boundary; no Exception, which a script might catch."""


def peer(task: dict[str, Any]) -> dict[str, Any]:
    """Run a diffusers textual-inversion script unchanged, with its step boundaries observed, and its VAE's posteriors
    remembered when `cached`."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ((name, (folder, class_word)),) = task["concepts"].items()
    output = Path(task["home"])
    steps = task["steps"] if task["what"] == "run" else 10**6
    arguments = {
        "pretrained_model_name_or_path": task["model"], "train_data_dir": folder, "placeholder_token": f"<{name}>",
        "initializer_token": class_word, "resolution": task["resolution"], "train_batch_size": task["batch"],
        "gradient_accumulation_steps": task["accumulation"], "max_train_steps": steps,
        "learning_rate": task["learning_rate"], "lr_scheduler": "constant", "lr_warmup_steps": 0,
        "save_steps": min(500, steps), "checkpointing_steps": min(500, steps), "output_dir": output, "seed": 0,
        "mixed_precision": "bf16" if task["precision"] == "bf16" else "no",
    }  # fmt: skip
    window = Window(task["began"], task["seconds"], task["device"])

    def after_step(*_: object) -> None:
        if window.boundary() and task["what"] == "rate":
            raise _WindowOver

    register_optimizer_step_post_hook(after_step)
    if task["cached"]:
        _remember_posteriors()
    sys.argv = [task["script"], *(f"--{key}={value}" for key, value in arguments.items())]
    try:
        runpy.run_path(task["script"], run_name="__main__")
    except _WindowOver:
        return window.told(task["batch"] * task["accumulation"])
    (Path(task["words"]) / f"{name}.safetensors").write_bytes((output / "learned_embeds.safetensors").read_bytes())
    return {
        "wall": time.time() - task["began"],
        "peak_bytes": peak_bytes(task["device"]),
        "bytes_written": _size(output),
        "bytes_prepared": 0,
    }


def _remember_posteriors() -> None:
    """Let AutoencoderKL encode each picture once. A sample is still drawn from its posterior at each use.

    A picture is known by every eighth pixel, which tells a handful of pictures and their mirror images apart.
    """
    from diffusers import AutoencoderKL
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from diffusers.models.modeling_outputs import AutoencoderKLOutput

    encode, known = AutoencoderKL.encode, dict[bytes, torch.Tensor]()

    @torch.no_grad()
    def remembered(vae: Any, pixels: torch.Tensor) -> Any:
        rows = []
        for picture in pixels.split(1):
            key = picture[..., ::8, ::8].float().cpu().numpy().tobytes()
            if key not in known:
                known[key] = encode(vae, picture).latent_dist.parameters
            rows.append(known[key])
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(torch.cat(rows)))

    AutoencoderKL.encode = remembered


# --- judging, counting ------------------------------------------------------------------------------------------------


def judged(task: dict[str, Any]) -> dict[str, Any]:
    """Mean CLIP-I and CLIP-T of both sides' words and of the class word, by one judge, on the reporting set."""
    from safetensors.numpy import load_file

    from ti_core import formats
    from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
    from ti_core.judging.scoring import judge
    from ti_core.planning.plan import make_plan
    from ti_core.settings import Settings
    from ti_core.store import open_store, put_blob
    from ti_core.training.running import prepare

    home = Path(task["home"])
    settings = Settings(home=home, device=task["device"], clip=task["clip"], allowed_roots=(home.parent,))
    store = open_store(settings)
    scores: dict[str, Any] = {}
    for name, (folder, class_word) in task["concepts"].items():
        concept = ConceptSpec(name=name, pictures=folder, class_word=class_word)
        plan = make_plan(concept, TrainingConfig(), EvaluationConfig(), SelectionRule(), task["base"], settings, store)
        prepared = prepare(plan, settings, store)
        scores[name] = {}
        for who in ("class word", "ours", "peer"):
            blob = None
            if who != "class word":
                (rows,) = load_file(Path(task["words"]) / who / f"{name}.safetensors").values()
                blob = put_blob(store, formats.write_checkpoint({"clip_l": rows}))
            told = judge(plan, prepared, task["steps"] if blob else 0, blob, "report", settings, store)
            scores[name][who] = {"clip_i": told.clip_i.mean, "clip_t": told.clip_t.mean}
    return scores


def ground(task: dict[str, Any]) -> dict[str, Any]:
    """Write the model folder and count its floor."""
    from benchmarks import floor, folders

    model = Path(task["model"])
    if task["size"]:
        resolution = folders.random_model(task["size"], model, task["device"])
    else:
        from ti_core.backbone.folder import find_base

        base = find_base(task["base"])
        folders.fp32_copy(Path(base.folder), model)
        resolution = base.resolution
    concepts = {}
    for name in task["names"]:
        folder = Path(task["pictures"]) / name
        concepts[name] = (str(folder), folders.pictures(Path(task["source"]) / name, folder, resolution))
    card = torch.cuda.get_device_name() if task["device"] == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {"resolution": resolution, "concepts": concepts, "device": card, "torch": torch.__version__} | floor.count(
        model, resolution
    )


def top(task: dict[str, Any]) -> dict[str, Any]:
    """The machine's ceiling, now."""
    from benchmarks import floor

    return {"ceiling": floor.ceiling(task["device"])}


DO: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ours": ours, "peer": peer, "judged": judged, "ground": ground, "ceiling": top,
}  # fmt: skip


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_text())
    Path(told["result"]).write_text(json.dumps(DO[told["side"]](told)))
