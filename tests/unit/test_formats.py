"""Published files and checkpoints: names, tensors, types. (That a stock pipeline reads them: backbone tests.)"""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load, save

from ti_core import formats
from ti_core.errors import IntegrityError

ROWS = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)


def test_names_of_files() -> None:
    assert formats.filename("cat-toy") == "cat-toy.safetensors", "the word, for who reads it from there"


@pytest.mark.parametrize(("layout", "key"), [("diffusers", "<cat-toy>"), ("a1111", "emb_params")])
def test_one_fp32_tensor_under_the_layout_s_key(layout: formats.Layout, key: str) -> None:
    data = formats.write({"clip_l": ROWS}, "<cat-toy>", layout)
    tensors = load(data)
    assert list(tensors) == [key]
    assert tensors[key].dtype == np.float32
    np.testing.assert_array_equal(tensors[key], ROWS)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"] == {"format": "pt"}, "without it transformers refuses the file"


@pytest.mark.parametrize("layout", formats.LAYOUTS)
@pytest.mark.parametrize("encoders", [("clip_l",), ("clip_l", "clip_g")])
def test_a_note_is_in_the_header_and_changes_no_tensor(layout: formats.Layout, encoders: tuple[str, ...]) -> None:
    vectors = dict.fromkeys(encoders, ROWS)
    data = formats.write(vectors, "<cat-toy>", layout, {"note": "A toy."})
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"] == {"format": "pt", "note": "A toy."}
    plain = load(formats.write(vectors, "<cat-toy>", layout))
    assert load(data).keys() == plain.keys()
    assert all(np.array_equal(rows, plain[name]) for name, rows in load(data).items())
    assert len({formats.write(vectors, "<cat-toy>", layout, {"note": "A toy."}) for _ in range(5)}) == 1, (
        "the same bytes"
    )


@pytest.mark.parametrize("layout", formats.LAYOUTS)
def test_a_word_of_two_encoders_is_one_file_by_encoder(layout: formats.Layout) -> None:
    tensors = load(formats.write({"clip_l": ROWS, "clip_g": ROWS[:, :5] + 1}, "<cat-toy>", layout))
    assert set(tensors) == {"clip_l", "clip_g"}
    np.testing.assert_array_equal(tensors["clip_l"], ROWS)
    np.testing.assert_array_equal(tensors["clip_g"], ROWS[:, :5] + 1)


def test_other_types_and_strides_are_written_as_they_read() -> None:
    turned = np.asfortranarray(ROWS.astype(np.float64))[:, ::2]
    for layout in formats.LAYOUTS:
        (tensor,) = load(formats.write({"clip_l": turned}, "<x>", layout)).values()
        np.testing.assert_array_equal(tensor, ROWS[:, ::2])
    checkpoint = formats.read_checkpoint(formats.write_checkpoint({"clip_l": turned}), "here")
    np.testing.assert_array_equal(checkpoint["clip_l"], ROWS[:, ::2])


def test_the_same_vectors_are_the_same_bytes() -> None:
    for layout in formats.LAYOUTS:
        assert formats.write({"clip_l": ROWS}, "<x>", layout) == formats.write({"clip_l": ROWS.copy()}, "<x>", layout)
    assert formats.write_checkpoint({"clip_l": ROWS}) == formats.write_checkpoint({"clip_l": ROWS.copy()})


ABOUT = {f"modelspec.{name}": name * 3 for name in ("title", "date", "license", "tags", "hash_sha256", "author")}


def test_metadata_is_read_back_by_the_library_and_by_us() -> None:
    for vectors in ({"clip_l": ROWS}, {"clip_l": ROWS, "clip_g": ROWS[:, :5] + 1}):
        for layout in formats.LAYOUTS:
            data = formats.write(vectors, "<cat-toy>", layout, ABOUT)
            assert formats.about(data, "here") == ABOUT | {"format": "pt"}
            assert formats.read_published(data, "here").keys() == load(data).keys()
            formats.same_vectors(load(data), vectors, "here")
            with pytest.raises(IntegrityError, match="not hold the vectors"):
                formats.same_vectors(load(data), {name: rows + 1 for name, rows in vectors.items()}, "here")
    with pytest.raises(IntegrityError, match="no safetensors"):
        formats.about(b"PK", "here")


def test_the_same_word_is_the_same_bytes_in_any_process() -> None:
    code = (
        "import hashlib, numpy as np; from ti_core import formats; from tests.unit.test_formats import ABOUT, ROWS;"
        "print(hashlib.sha256(formats.write({'clip_g': ROWS, 'clip_l': ROWS}, '<x>', 'a1111', ABOUT)).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = hashlib.sha256(formats.write({"clip_l": ROWS, "clip_g": ROWS}, "<x>", "a1111", ABOUT)).hexdigest()
    assert run.stdout.strip() == here


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a": ROWS, "b": ROWS}, "holds the tensors a, b"),
        ({"a": ROWS.astype(np.float16)}, "float16"),
        ({"a": ROWS[0]}, r"\[8\]"),
        ({"a": ROWS * np.inf}, "not finite"),
        ({"clip_l": ROWS, "clip_g": ROWS[:1]}, "different numbers"),
    ],
)
def test_what_is_no_word_is_refused(tensors: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        formats.read_published(save(tensors), "here")


def test_checkpoints_come_back_by_encoder() -> None:
    back = formats.read_checkpoint(formats.write_checkpoint({"clip_l": ROWS, "clip_g": ROWS[:1] + 1}), "here")
    assert set(back) == {"clip_l", "clip_g"}
    np.testing.assert_array_equal(back["clip_l"], ROWS)
    np.testing.assert_array_equal(back["clip_g"], ROWS[:1] + 1)
    assert back["clip_l"].dtype == np.float32


def test_damaged_checkpoints_are_named() -> None:
    data = formats.write_checkpoint({"clip_l": ROWS})
    for bad in (b"", data[:5], data[:-1], b"PK\x03\x04" + data):
        with pytest.raises(IntegrityError, match="checkpoint 20 of cat-toy is damaged"):
            formats.read_checkpoint(bad, "checkpoint 20 of cat-toy")
