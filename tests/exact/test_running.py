"""The training station over a folder store: squares and latents are made once, checkpoints kept, work resumed."""

import io
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ti_core import formats
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.errors import InputError, ServiceError
from ti_core.images.preprocess import square
from ti_core.planning.plan import make_plan
from ti_core.progress import Trained as Told
from ti_core.records import Plan, PreparedSet, Trained
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.training.running import prepare, run_key, run_training
from ti_core.training.state import StateFiles, TrainingState


@dataclass
class Line:
    """One run with a data folder of its own."""

    settings: Settings
    store: Store
    plan: Plan
    progress: list[Told] = field(default_factory=list)
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
        return [key for key in self.store.keys("concepts/moss/miniature/runs/") if "/state/" in key]


def line(home: Path, pictures: Path = Path("examples/concepts/moss"), **training: object) -> Line:
    settings = Settings(home=home, device="cpu", allowed_roots=(Path.cwd(), pictures))
    store = open_store(settings)
    chosen = {"steps": 6, "batch_size": 2, "checkpoint_every": 2} | training
    plan = make_plan(
        ConceptSpec(name="moss", pictures=str(pictures), class_word="monster", vectors=2),
        TrainingConfig.model_validate(chosen), EvaluationConfig(seeds=2, sampler_steps=2), SelectionRule(),
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
        assert np.array_equal(kept, square(Path("examples/concepts/moss", picture.name).read_bytes(), 64))
    latents = load_file(prepared.latents)
    assert latents["mean"].shape == latents["std"].shape == (10, 6, 16, 16)
    assert (latents["std"] > 0).all()


def test_latents_show_the_pictures_and_then_their_mirror_images(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]],
) -> None:
    from ti_core.backbone.resident import resident

    run, prepared, _ = whole
    with resident(run.plan.base, "cpu") as model:
        shown = model.decode(load_file(prepared.latents)["mean"]).numpy().astype(int)
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
        picture = Image.new("RGB", (64, 64), (40 * number, 90, 90))
        picture.paste((200, 0, 0), (0, 0, 32, 64))
        picture.save(folder / f"{number}.png")
        Image.new("L", (64, 64)).save(folder / f"{number}_mask.png")
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


def interrupt(event: Told) -> None:
    if event.step == 4:
        raise Interrupted


def test_an_interrupted_run_goes_on_from_its_last_checkpoint_to_the_same_vectors(
    whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path
) -> None:
    run = line(tmp_path)
    prepared = run.prepare()
    with pytest.raises(Interrupted):
        run_training([(run.plan, prepared)], Packing(), run.settings, run.store, interrupt, print)
    assert run.train(prepared) == whole[2]
    assert [event.step for event in run.progress] == [4, 6]


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
    assert [event.step for event in run.progress] == [6], "it went on from step 4"
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
    assert [event.step for event in run.progress] == [2, 4, 6]


def test_training_that_cannot_go_on_tells_why_and_leaves_no_state(tmp_path: Path) -> None:
    run = line(tmp_path, learning_rate=1e-20)
    trained = run.result(run.prepare())
    assert "Training stopped: the vectors of moss did not move in 2 steps" in trained.reason and not trained.paused
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
    second = together.plan.model_copy(update={"concept": together.plan.concept.model_copy(update={"name": "ninja"})})
    packing = Packing(slots=2, keep_shape=True)
    work = [(together.plan, together.prepare()), (second, together.prepare())]
    packed = run_training(work, packing, together.settings, together.store, together.progress.append, print)
    assert [(one.concept, one.step, one.reason) for one in packed] == [("moss", 6, ""), ("ninja", 6, "")]
    assert packed[0].checkpoints == alone.result(alone.prepare(), packing).checkpoints


def test_how_many_fit_is_found_and_said(tmp_path: Path) -> None:
    run = line(tmp_path, steps=2)
    second = run.plan.model_copy(update={"concept": run.plan.concept.model_copy(update={"name": "ninja"})})
    work = [(run.plan, run.prepare()), (second, run.prepare())]
    run_training(work, Packing(slots=0), run.settings, run.store, run.progress.append, run.said.append)
    (said,) = run.said
    assert said.startswith("training 2 of 2 concepts at a time (memory holds ")


# --- two of one name, two of one work ---------------------------------------------------------------------------------


def trained(run: Line, work: list[tuple[Plan, PreparedSet]], **packing: object) -> list[Trained]:
    how = Packing.model_validate(packing)
    return run_training(work, how, run.settings, run.store, run.progress.append, run.said.append)


def test_two_concepts_of_one_name_do_not_mix(tmp_path: Path) -> None:
    run, other = line(tmp_path, steps=6), line(tmp_path, steps=4, seed=7)
    work = [(run.plan, run.prepare()), (other.plan, other.prepare())]
    alone = [trained(run, [one], slots=2, keep_shape=True)[0] for one in work]
    for key in run.state_keys():
        run.store.delete(key)
    run.progress.clear()
    together = trained(run, work, slots=2, keep_shape=True)
    assert [one.step for one in together] == [6, 4]
    assert together == alone
    for plan, steps in ((run.plan, [2, 4, 6]), (other.plan, [2, 4])):
        assert [event.step for event in run.progress if event.key == run_key(plan)] == steps
    assert {event.total for event in run.progress} == {10} and run.progress[-1].done == 10


def test_two_names_of_one_work_are_two_trainings_and_one_work_twice_is_one(tmp_path: Path) -> None:
    run = line(tmp_path)
    ninja = run.plan.model_copy(update={"concept": run.plan.concept.model_copy(update={"name": "ninja"})})
    prepared = run.prepare()
    moss, twin, again = trained(run, [(run.plan, prepared), (ninja, prepared), (run.plan, prepared)], slots=3)
    assert ninja.train_key == run.plan.train_key
    assert (moss.concept, twin.concept) == ("moss", "ninja") and again == moss
    assert [event.step for event in run.progress if event.concept == "moss"] == [2, 4, 6], "once"
    assert len(twin.checkpoints) == 3


# --- a bad first concept ----------------------------------------------------------------------------------------------


def test_a_first_concept_that_cannot_be_trained_costs_itself_alone(tmp_path: Path) -> None:
    run, bad, gone = line(tmp_path), line(tmp_path, seed=1), line(tmp_path, seed=2)
    sound = run.prepare()
    latents = load_file(sound.latents)
    broken = sound.model_copy(update={"latents": str(tmp_path / "nan.safetensors")})
    save_file({name: tensor * float("nan") for name, tensor in latents.items()}, broken.latents)
    missing = sound.model_copy(update={"latents": str(tmp_path / "nowhere.safetensors")})
    made = trained(run, [(gone.plan, missing), (bad.plan, broken), (run.plan, sound)], slots=0)
    assert "latents of moss in" in made[0].reason and "cannot be read" in made[0].reason
    assert "latents of moss are not finite" in made[1].reason
    assert made[2].reason == "" and [one.step for one in made[2].checkpoints] == [2, 4, 6]
    (said,) = run.said
    assert "(memory holds " in said and "(memory holds 1)" not in said, "measured with one that can be trained"


# --- a store that fails -----------------------------------------------------------------------------------------------


class Failing:
    """A store whose writes fail when `fails` says so, by number: from 1 on."""

    def __init__(self, store: Store, fails: Callable[[int], bool]) -> None:
        self._store, self._fails, self.writes = store, fails, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _count(self) -> None:
        self.writes += 1
        if self._fails(self.writes):
            raise ServiceError("The store is away.")

    def put(self, key: str, data: bytes) -> None:
        self._count()
        self._store.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self._count()
        return self._store.create(key, data)


def state_of(run: Line) -> tuple[TrainingState | None, list[int]]:
    state, checkpoints = StateFiles(run.store, run_key(run.plan), run.plan.train_key).newest()
    return state, [one.step for one in checkpoints]


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5, 6])
def test_a_write_that_fails_once_is_made_again(
    write: int, whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path
) -> None:
    """Three checkpoints, each with a state: six writes, any of which may fail."""
    run = line(tmp_path)
    prepared, kept = run.prepare(), run.store
    run.store = Failing(kept, lambda number: number == write)
    assert run.train(prepared) == whole[2]
    run.store = kept
    state, steps = state_of(run)
    assert state is not None and state.finished and steps == [2, 4, 6]


@pytest.mark.parametrize("first", [1, 2, 4, 6])
def test_a_store_that_stays_away_ends_the_concept_with_a_reason_and_no_false_state(
    first: int, whole: tuple[Line, PreparedSet, list[tuple[int, str]]], tmp_path: Path
) -> None:
    run = line(tmp_path)
    prepared, kept = run.prepare(), run.store
    run.store = Failing(kept, lambda number: number >= first)
    made = run.result(prepared)
    assert made.unkept and not made.paused and made.checkpoints == ()
    assert made.reason.startswith("What moss learned is not all in the store (The store is away): run it again")
    run.store = kept
    state, steps = state_of(run)
    assert state is None or (not state.finished and steps == [step for step in (2, 4, 6) if step <= state.step])
    assert run.train(prepared) == whole[2]


def test_a_concept_that_the_store_does_not_take_stops_no_other(tmp_path: Path) -> None:
    run, other = line(tmp_path), line(tmp_path, seed=1)
    work = [(run.plan, run.prepare()), (other.plan, other.prepare())]
    away = f"runs/{run.plan.train_key}/"

    class Partly(Failing):
        def put(self, key: str, data: bytes) -> None:
            if away in key:
                raise ServiceError("The store is away.")
            super().put(key, data)

    run.store = Partly(run.store, lambda number: False)
    lost, whole = trained(run, work, slots=2)
    assert lost.unkept and not whole.unkept and [one.step for one in whole.checkpoints] == [2, 4, 6]
