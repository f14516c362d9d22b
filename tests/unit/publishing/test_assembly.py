"""Assembly: the published files are those of the chosen step, and all that a manifest names is in the store."""

import base64
import io
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import load

from tests.builders import STEPS, judged
from ti_core import formats
from ti_core.errors import NotFoundError
from ti_core.publishing.assembly import assemble
from ti_core.publishing.catalogue import blobs_of
from ti_core.publishing.files import published_file
from ti_core.publishing.transaction import keep
from ti_core.records import Manifest, blob_key
from ti_core.store import Store, get_blob, put_blob
from ti_core.store.folder import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def assembled(run: Manifest, store: Store, step: int) -> Manifest:
    return assemble(
        run.plan, run.prepared, run.checkpoints, run.anchors, run.scores,
        run.decision.model_copy(update={"step": step}), run.report, store, ("cpu", "float32"),
    )  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_the_files_hold_the_vectors_of_the_chosen_step(store: FolderStore, step: int) -> None:
    run = judged(store)
    made = assembled(run, store, step)
    chosen = next(one for one in run.checkpoints if one.step == step)
    (vectors,) = formats.read_checkpoint(get_blob(store, chosen.vectors), "checkpoint").values()
    assert {file.layout for file in made.files} == set(formats.LAYOUTS)
    for file in made.files:
        data = get_blob(store, file.sha256)
        assert len(data) == file.size and file.filename.startswith("cat-toy")
        (rows,) = load(data).values()
        assert rows.shape == vectors.shape and (rows == vectors).all()


def test_all_that_the_manifest_names_is_in_the_store_and_nothing_is_visible(store: FolderStore) -> None:
    made = assembled(judged(store), store, STEPS[0])
    assert all(store.exists(blob_key(sha256)) for sha256 in blobs_of(made))
    assert get_blob(store, made.page).lstrip().lower().startswith(b"<!doctype html")
    assert b"cat-toy" in get_blob(store, made.page)
    assert list(store.keys("concepts/")) == []


def test_it_says_where_it_was_trained_and_judged(store: FolderStore) -> None:
    run = judged(store)
    places = [("cuda (Tesla T4)", "float16"), ("cpu", "float32")]
    checkpoints = tuple(
        one.model_copy(update={"device": place[0], "dtype": place[1]})
        for one, place in zip(run.checkpoints, places, strict=True)
    )
    made = assembled(run.model_copy(update={"checkpoints": checkpoints}), store, STEPS[0])
    assert (made.device, made.dtype) == ("cpu", "float32")
    text = get_blob(store, made.page).decode()
    assert "<dd>cpu, float32</dd>" in text and "<dd>cuda (Tesla T4), float16; cpu, float32</dd>" in text
    assert "Trained on" not in get_blob(store, assembled(run, store, STEPS[0]).page).decode(), "an older manifest"


def test_files_are_a_function_of_the_manifest(store: FolderStore) -> None:
    made = assembled(judged(store), store, STEPS[0])
    then = made.model_copy(update={"created": made.created - timedelta(days=1)})  # a torn off attempt of yesterday
    files = tuple(
        file.model_copy(update={"sha256": put_blob(store, published_file(store, then, file.layout))})
        for file in made.files
    )
    assert files != made.files, "they tell the day"
    keep(store, then.model_copy(update={"files": files}))
    assert assembled(judged(store), store, STEPS[0]).files == files


def test_files_explain_themselves(store: FolderStore) -> None:
    run = judged(store)
    given = {"license": "CC0; the owner agreed", "author": "Ada", "tags": "toy, cat"}
    concept = run.plan.concept.model_copy(update=given)
    base = run.plan.base.model_copy(update={"prediction": "v_prediction"})
    run = run.model_copy(update={"plan": run.plan.model_copy(update={"concept": concept, "base": base})})
    for file in assembled(run, store, STEPS[0]).files:
        told = formats.about(get_blob(store, file.sha256), file.filename)
        assert told["modelspec.sai_model_spec"] == "1.0.0"
        assert told["modelspec.architecture"] == "pseudoword-miniature/textual-inversion"
        assert told["modelspec.trigger_phrase"] == "<cat-toy>" and told["modelspec.title"] == "cat-toy"
        assert (told["modelspec.license"], told["modelspec.tags"]) == ("CC0; the owner agreed", "toy, cat")
        assert told["modelspec.author"] == "Ada"
        assert told["modelspec.prediction_type"] == "v"
        assert told["pseudoword.judge_key"] == run.plan.judge_key and told["pseudoword.step"] == str(STEPS[0])
        body = load(get_blob(store, file.sha256))
        assert (
            told["modelspec.hash_sha256"] == f"0x{sha256(b''.join(one.tobytes() for one in body.values())).hexdigest()}"
        )
        kind, _, data = told["modelspec.thumbnail"].partition(",")
        with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
            assert (kind, thumbnail.size) == ("data:image/jpeg;base64", (256, 256))
    hidden = run.plan.concept.model_copy(update={"show_pictures": False})
    other = run.model_copy(update={"plan": run.plan.model_copy(update={"concept": hidden})})
    assert published_file(store, other, "a1111") == published_file(store, run, "a1111"), (
        "hiding pictures changes no file"
    )


def test_a_lost_checkpoint_is_told(store: FolderStore) -> None:
    run = judged(store)
    store.delete(blob_key(run.checkpoints[0].vectors))
    with pytest.raises(NotFoundError):
        assembled(run, store, STEPS[0])
