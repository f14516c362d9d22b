"""The training station over a folder store: squares and latents are made once, checkpoints kept, work resumed."""

import io
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ti_core import formats
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.errors import InputError
from ti_core.images.preprocess import square
from ti_core.planning.plan import make_plan
from ti_core.records import Plan, PreparedSet, Trained
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.training.events import Progress
from ti_core.training.running import prepare, run_training


@dataclass
class Line:
    """One run with a data folder of its own."""

    settings: Settings
    store: Store
    plan: Plan
    progress: list[Progress] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def prepare(self) -> PreparedSet:
        return prepare(self.plan, self.settings, self.store)

    def train(self, prepared: PreparedSet) -> list[tuple[int, str]]:
        """Steps and blobs of the checkpoints."""
        self.progress.clear()
        made = self.result(prepared).checkpoints
        assert all(math.isfinite(checkpoint.loss) and checkpoint.norm > 0 for checkpoint in made)
        return [(checkpoint.step, checkpoint.vectors) for checkpoint in made]

    def result(self, prepared: PreparedSet, packing: Packing = Packing()) -> Trained:
        work = [(self.plan, prepared)]
        (trained,) = run_training(work, packing, self.settings, self.store, self.progress.append, self.said.append)
        return trained

    def state_keys(self) -> list[str]:
        return [key for key in self.store.keys("concepts/fox/miniature/runs/") if "/state/" in key]


def line(home: Path, pictures: Path = Path("examples/concepts/fox"), **training: object) -> Line:
    settings = Settings(home=home, device="cpu", allowed_roots=(Path.cwd(), pictures))
    store = open_store(settings)
    chosen = {"steps": 6, "batch_size": 2, "checkpoint_every": 2} | training
    plan = make_plan(
        ConceptSpec(name="fox", pictures=str(pictures), class_word="animal", vectors=2),
        TrainingConfig.model_validate(chosen), EvaluationConfig(seeds=1, sampler_steps=2), SelectionRule(),
        "miniature", settings, store,
    )  # fmt: skip
    return Line(settings, store, plan)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Line, PreparedSet, list[tuple[int, str]]]:
    """A run that nothing disturbed."""
    run = line(tmp_path_factory.mktemp("whole"))
    prepared = run.prepare()
    return run, prepared, run.train(prepared)


def test_prepared_squares_and_latents(whole: tuple[Line, PreparedSet, list[tuple[int, str]]]) -> None:
    run, prepared, _ = whole
    assert (prepared.resolution, len(prepared.squares)) == (64, 5)
    for picture, blob in zip(run.plan.images.pictures, prepared.squares, strict=True):
        kept = Image.open(io.BytesIO(get_blob(run.store, blob)))
        assert (kept.format, kept.mode, kept.size) == ("PNG", "RGB", (64, 64))
        assert np.array_equal(kept, square(get_blob(run.store, picture.sha256), 64))
    latents = load_file(prepared.latents)
    assert latents["mean"].shape == latents["std"].shape == (10, 6, 16, 16)
    assert (latents["std"] > 0).all()


def test_latents_show_the_pictures_and_then_their_mirror_images(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]],
) -> None:
    from ti_core.backbone.resident import resident

    run, prepared, _ = whole
    shown = resident(run.plan.base, "cpu").decode(load_file(prepared.latents)["mean"]).numpy().astype(int)
    for index, blob in enumerate(prepared.squares):
        picture = np.asarray(Image.open(io.BytesIO(get_blob(run.store, blob)))).astype(int)
        assert np.abs(shown[index] - picture).mean() < 10
        assert np.abs(shown[index + 5] - picture[:, ::-1]).mean() < 10


def test_without_mirroring_there_are_only_the_pictures(tmp_path: Path) -> None:
    prepared = line(tmp_path, mirror=False).prepare()
    assert len(load_file(prepared.latents)["mean"]) == 5


def test_latents_are_encoded_once_and_again_only_when_damaged(tmp_path: Path) -> None:
    run = line(tmp_path)
    first = run.prepare()
    path = Path(first.latents)
    written, mean = path.stat().st_mtime_ns, load_file(path)["mean"].clone()  # a copy: load_file maps the file
    assert run.prepare() == first
    assert path.stat().st_mtime_ns == written, "not written again"
    path.write_bytes(path.read_bytes()[:500])
    assert run.prepare() == first
    assert torch.equal(load_file(path)["mean"], mean)
    save_file({"mean": mean}, path)
    assert run.prepare() == first
    assert set(load_file(path)) == {"mean", "std", "original"}
    assert [child.name for child in path.parent.iterdir()] == [path.name], "nothing half-written is left"


def test_a_masked_run_keeps_what_alpha_shows_beside_the_latents(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        picture = Image.new("RGBA", (64, 64), (40 * number, 90, 90, 0))
        picture.paste((200, 40 * number, 0, 255), (0, 0, 32, 64))
        picture.save(folder / f"{number}.png")
    run = line(tmp_path / "home", pictures=folder, masked=True)
    mask = load_file(run.prepare().latents)["mask"]
    assert mask.shape == (6, 1, 16, 16)
    assert (mask[:3, ..., :7] == 1).all() and (mask[:3, ..., 9:] == 0).all(), "the left half"
    assert torch.equal(mask[3:], mask[:3].flip(-1))
    assert len(run.train(run.prepare())) == 3


def test_a_mask_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGBA", (64, 64), (40 * number, 90, 90, 0)).save(folder / f"{number}.png")
    with pytest.raises(InputError, match=r"mask of \d.png shows nothing"):
        line(tmp_path / "home", pictures=folder, masked=True).prepare()


def test_checkpoints_are_blobs(whole: tuple[Line, PreparedSet, list[tuple[int, str]]]) -> None:
    run, _, made = whole
    assert [step for step, _ in made] == [2, 4, 6]
    for step, blob in made:
        vectors = formats.read_checkpoint(get_blob(run.store, blob), f"step {step}")
        assert {name: (rows.shape, rows.dtype) for name, rows in vectors.items()} == {"clip_l": ((2, 128), np.float32)}
    assert len({blob for _, blob in made}) == 3


def test_a_finished_run_is_not_trained_again(whole: tuple[Line, PreparedSet, list[tuple[int, str]]]) -> None:
    run, prepared, made = whole
    assert run.train(prepared) == made
    assert run.progress == []


class Interrupted(BaseException):
    """Stands for what tears a run out of its work: not an Exception, so nothing may swallow it."""


def interrupt(progress: Progress) -> None:
    if progress.step == 4:
        raise Interrupted


def test_an_interrupted_run_goes_on_from_its_last_checkpoint_to_the_same_vectors(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path
) -> None:
    run = line(tmp_path)
    prepared = run.prepare()
    with pytest.raises(Interrupted):
        run_training([(run.plan, prepared)], Packing(), run.settings, run.store, interrupt, print)
    assert run.train(prepared) == whole[2]
    assert [progress.step for progress in run.progress] == [4, 6]


def test_a_torn_state_is_told_and_the_one_before_it_used(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = line(tmp_path)
    prepared = run.prepare()
    run.train(prepared)
    newest = next(key for key in run.state_keys() if b'"step":"6"' in run.store.get(key).data)
    run.store.put(newest, run.store.get(newest).data[:-7])
    with caplog.at_level(logging.WARNING, "ti_core"):
        assert run.train(prepared) == whole[2]
    assert [progress.step for progress in run.progress] == [6], "it went on from step 4"
    (message,) = [record.getMessage() for record in caplog.records]
    assert run.store.url(newest) in message and "is damaged" in message and "state before it is used" in message


def test_without_a_whole_state_training_starts_anew(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path
) -> None:
    run = line(tmp_path)
    prepared = run.prepare()
    run.train(prepared)
    for key in run.state_keys():
        run.store.put(key, b"torn")
    assert run.train(prepared) == whole[2]
    assert [progress.step for progress in run.progress] == [2, 4, 6]


def test_training_that_cannot_go_on_tells_why_and_leaves_no_state(tmp_path: Path) -> None:
    run = line(tmp_path, learning_rate=1e-20)
    trained = run.result(run.prepare())
    assert "Training stopped: the vectors of fox did not move in 2 steps" in trained.reason and not trained.paused
    assert not run.state_keys()


def test_a_spent_time_budget_pauses_and_the_next_run_goes_on(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path
) -> None:
    run = line(tmp_path)
    prepared = run.prepare()
    trained = run.result(prepared, Packing(minutes=1e-9))
    assert trained.paused and "paused at step 0 of 6" in trained.reason
    assert run.train(prepared) == whole[2]


def test_a_pack_leaves_what_each_concept_leaves_alone(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path
) -> None:
    """At the same batch shape, that is: here eight samples, four of two concepts and four of filler."""
    together, alone = line(tmp_path / "together"), line(tmp_path / "alone")
    second = together.plan.model_copy(update={"concept": together.plan.concept.model_copy(update={"name": "vixen"})})
    packing = Packing(slots=2, keep_shape=True)
    work = [(together.plan, together.prepare()), (second, together.prepare())]
    packed = run_training(work, packing, together.settings, together.store, together.progress.append, print)
    assert [(one.concept, one.step, one.reason) for one in packed] == [("fox", 6, ""), ("vixen", 6, "")]
    assert packed[0].checkpoints == alone.result(alone.prepare(), packing).checkpoints


def test_how_many_fit_is_found_and_said(tmp_path: Path) -> None:
    run = line(tmp_path, steps=2)
    second = run.plan.model_copy(update={"concept": run.plan.concept.model_copy(update={"name": "vixen"})})
    work = [(run.plan, run.prepare()), (second, run.prepare())]
    run_training(work, Packing(slots=0), run.settings, run.store, run.progress.append, run.said.append)
    (said,) = run.said
    assert said.startswith("training 2 of 2 concepts at a time (memory holds ")
