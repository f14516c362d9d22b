"""How fast is judging? The same pictures, ours in rounds and by stock pipeline calls, one prompt at a time, in one run.

    python benchmarks/judging.py                       # the miniature, 2 concepts × 3 checkpoints, about 3 minutes on two cores
    python benchmarks/judging.py --checkpoints 2 --seeds 2 --only disco
    python benchmarks/judging.py --base-model FOLDER   # a Stable Diffusion 1.x folder, on a GPU where there is one
    python benchmarks/judging.py --full-size sd15      # its shapes with random weights; the miniature's CLIP judges

The stock way is what a script with diffusers does: for each checkpoint `load_textual_inversion` into a pipeline (which is
kept: not even its loading is counted), then one call for each prompt and seed, then CLIP on that picture. Both ways make
the same jobs with the same sampler, and the largest difference between first tiles is printed beside the ratio, so that
the ratio is one of equal work. Vectors are made up: their values do not matter for time. The order alternates, and the best
of `--repeats` counts for each. At the end: where our time goes.
"""

import argparse
import io
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from benchmarks.folders import random_model
from ti_core import formats
from ti_core.backbone.base import SAMPLERS
from ti_core.backbone.folder import MINIATURE
from ti_core.backbone.resident import choose_device, resident
from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.judging.clip import Clip, resident_clip
from ti_core.judging.scoring import judge_round
from ti_core.planning.plan import make_plan
from ti_core.records import JudgeRequest, Scores
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store, put_blob
from ti_core.training.running import prepare

ROOT = Path(__file__).resolve().parent.parent


def requests_of(
    names: list[str], checkpoints: int, seeds: int, base_model: str, settings: Settings, store: Store
) -> list[JudgeRequest]:
    """`checkpoints` made-up checkpoints of each concept, on the choosing set."""
    made = []
    for name in names:
        concept = ConceptSpec(name=name, pictures=str(ROOT / "examples/concepts" / name), class_word="cat")
        evaluation = EvaluationConfig(seeds=seeds)
        plan = make_plan(concept, TrainingConfig(), evaluation, SelectionRule(), base_model, settings, store)
        prepared = prepare(plan, settings, store)
        with resident(plan.base, settings.device, precision=settings.precision) as model:
            start = model.initial_vectors("cat", 1)
        for step in range(1, checkpoints + 1):
            noise = np.random.default_rng((len(made), step))
            rows = {
                part: value.cpu().numpy() * (1 + 0.1 * noise.normal(size=value.shape).astype(np.float32))
                for part, value in start.items()
            }
            vectors = put_blob(store, formats.write_checkpoint(rows))
            made.append(JudgeRequest(plan=plan, prepared=prepared, step=step, vectors=vectors, split="select"))
    return made


class Stock:
    """One pipeline of diffusers, kept; a checkpoint at a time, a picture at a time, scored as it comes."""

    def __init__(self, request: JudgeRequest, settings: Settings) -> None:
        base, device = request.plan.base, choose_device(settings.device)
        types = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.pipeline = StableDiffusionPipeline.from_pretrained(base.folder, torch_dtype=types).to(device)
        scheduler = SAMPLERS[request.plan.protocol.sampler]
        self.pipeline.scheduler = scheduler.from_config(self.pipeline.scheduler.config)
        self.pipeline.set_progress_bar_config(disable=True)
        self.settings = settings

    def judge(self, requests: list[JudgeRequest], store: Store) -> list[Image.Image]:
        """First tiles of every prompt by request; all pictures are made and seen by CLIP."""
        with resident_clip(requests[0].plan.judge, self.settings.device) as clip:
            return [tile for request in requests for tile in self._judge(request, clip, store)]

    def _judge(self, request: JudgeRequest, clip: Clip, store: Store) -> list[Image.Image]:
        plan, prompts, tiles = request.plan, request.plan.protocol.select, []
        word = plan.concept.placeholder
        vectors = formats.read_checkpoint(get_blob(store, str(request.vectors)), "checkpoint")
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            Path(file.name).write_bytes(formats.write(vectors, word, "diffusers"))
            self.pipeline.load_textual_inversion(file.name, token=word)
        for text in (*prompts.plain, *prompts.edit):
            for seed in prompts.seeds:
                picture = self.pipeline(
                    text.format(word), num_inference_steps=plan.protocol.sampler_steps,
                    guidance_scale=plan.protocol.guidance, generator=torch.Generator("cpu").manual_seed(seed),
                ).images[0]  # fmt: skip
                clip.image_features([picture])
                if seed == prompts.seeds[0]:
                    tiles.append(picture)
        self.pipeline.unload_textual_inversion(word)
        return tiles


def forget(store: Store) -> None:
    """Remove what was judged, so that it is judged again."""
    for place in [key for key in store.keys("") if "/scores/" in key]:
        store.delete(place)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds of wall clock and the result."""
    began = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def largest_difference(scores: list[Scores], tiles: list[Image.Image], store: Store) -> int:
    """Between our first tiles and the stock pipeline's, of 255; small pictures only, which strips keep as they are."""
    strips = [np.asarray(Image.open(io.BytesIO(get_blob(store, one.strip)))).astype(int) for one in scores]
    ours, theirs = np.concatenate(strips, axis=1), np.concatenate([np.asarray(t).astype(int) for t in tiles], axis=1)
    return int(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else -1


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["disco", "grump"], help="concepts of examples/concepts")
    parser.add_argument("--checkpoints", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=0, help="0 is the base model's default")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--base-model", default="miniature")
    parser.add_argument("--full-size", default="", choices=["", "sd15", "tiny"])
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as home:
        if given.full_size:
            given.base_model = f"{home}/{given.full_size}"
            random_model(given.full_size, Path(given.base_model), choose_device("").type)
        settings = Settings(
            home=Path(home), clip=str(MINIATURE / "mini-clip"),
            allowed_roots=(ROOT, Path(home), Path(given.base_model).absolute()),
        )  # fmt: skip
        store = open_store(settings)
        requests = requests_of(given.only, given.checkpoints, given.seeds, given.base_model, settings, store)
        prompts = requests[0].plan.protocol.select
        pictures = len(requests) * (len(prompts.plain) + len(prompts.edit)) * len(prompts.seeds)
        stock = Stock(requests[0], settings)
        judge_round([requests[0].model_copy(update={"seeds": prompts.seeds[:1]})], settings, store)  # warm
        stock.pipeline("a cat", num_inference_steps=2)
        ours, theirs = [], []
        for _ in range(given.repeats):
            forget(store)
            seconds, scores = timed(lambda: judge_round(requests, settings, store))
            ours.append(seconds)
            seconds, tiles = timed(lambda: stock.judge(requests, store))
            theirs.append(seconds)
        print(f"{pictures} pictures of {len(requests)} checkpoints, {torch.get_num_threads()} threads, "
              f"{choose_device(settings.device)}, torch {torch.__version__}")  # fmt: skip
        print(f"ours  {pictures / min(ours):7.2f} pictures/s  (runs: {', '.join(f'{s:.1f} s' for s in ours)})")
        print(f"stock {pictures / min(theirs):7.2f} pictures/s  (runs: {', '.join(f'{s:.1f} s' for s in theirs)})")
        print(f"ratio {min(theirs) / min(ours):7.2f}")
        print(f"largest difference of first tiles: {largest_difference(scores, tiles, store)} of 255")
        forget(store)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profile:
            judge_round(requests[:1], settings, store)
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        print(profile.key_averages().table(sort_by=by, row_limit=12, max_name_column_width=40))


if __name__ == "__main__":
    main()
