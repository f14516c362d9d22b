"""Words' files of other programs: every known layout is read to the bit, and whatever else is called by name."""

import io
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from ti_core import formats
from ti_core.backbone.folder import TEXT_ENCODERS
from ti_core.backbone.resident import KINDS
from ti_core.errors import InputError
from ti_core.foreign import MOST_BYTES, read_word
from ti_core.records import Format

ONE, TWO = {"clip_l": 8}, {"clip_l": 8, "clip_g": 12}
ROWS = torch.randn((3, 8), generator=torch.Generator().manual_seed(0))
SECOND = torch.randn((3, 12), generator=torch.Generator().manual_seed(1))


def pickled(value: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def webui(rows: Any) -> dict[str, Any]:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": rows},
        "name": "x",
        "step": 500,
        "sd_checkpoint": None,
    }


KNOWN: dict[str, tuple[bytes, str, int]] = {
    "webui": (pickled(webui(ROWS)), "AUTOMATIC1111", 500),
    "webui, old": (pickled(webui(ROWS), _use_new_zipfile_serialization=False), "AUTOMATIC1111", 500),
    "first": (pickled(webui(0) | {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(ROWS)})}),
              "AUTOMATIC1111", 500),
    "diffusers.bin": (pickled({"<cat>": ROWS}), "diffusers", 0),
    "diffusers": (save({"<cat>": ROWS}), "diffusers", 0),
    "kohya": (save({"emb_params": ROWS}, {"ss_steps": "70"}), "kohya or AUTOMATIC1111", 70),
    "kohya.pt": (pickled({"emb_params": ROWS}), "kohya or AUTOMATIC1111", 0),
    "OneTrainer": (save({"emp_params": ROWS}), "OneTrainer", 0),
    "a header of 128 bytes, as pickles begin": (save({"<cat>": ROWS}, {"note": "x" * 34}), "diffusers", 0),
    "ComfyUI": (save({"clip_l": ROWS}), "ComfyUI", 0),
    "a word that is called as LoRAs are": (save({"<flora_style>": ROWS}), "diffusers", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_layouts(name: str) -> None:
    data, layout, step = KNOWN[name]
    word = read_word(data, "cat", ONE, "this one")
    assert list(word.vectors) == ["clip_l"]
    np.testing.assert_array_equal(word.vectors["clip_l"], ROWS.numpy())
    assert (word.layout, word.step) == (layout, step)


@pytest.mark.parametrize("make", [save, pickled])
def test_two_text_encoders(make: Callable[..., bytes]) -> None:
    word = read_word(make({"clip_g": SECOND, "clip_l": ROWS}), "cat", TWO, "this one")
    np.testing.assert_array_equal(word.vectors["clip_l"], ROWS.numpy())
    np.testing.assert_array_equal(word.vectors["clip_g"], SECOND.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_any_number_type_and_one_dimension(dtype: torch.dtype) -> None:
    rows = ROWS[0].to(dtype)
    word = read_word(save({"<cat>": rows}), "cat", ONE, "this one")
    np.testing.assert_array_equal(word.vectors["clip_l"], rows.float().unsqueeze(0).numpy())


@given(
    count=st.integers(1, 64),
    large=st.booleans(),
    layout=st.sampled_from(formats.FORMATS),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(1e-6, 50),
)
@settings(max_examples=60, deadline=None)
def test_what_is_exported_comes_back_to_the_bit(
    count: int, large: bool, layout: Format, seed: int, scale: float
) -> None:
    random, widths = np.random.default_rng(seed), TWO if large else ONE
    rows = {name: (scale * random.normal(size=(count, width))).astype(np.float32) for name, width in widths.items()}
    published = formats.write(rows, "<cat>", "diffusers", {"pseudoword.step": "40"})
    word = read_word(formats.in_format(published, "<cat>", layout), "cat", widths, "this one")
    assert word.step == 40
    for name, expected in rows.items():
        np.testing.assert_array_equal(word.vectors[name], expected)


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("it-was-run",)


NOT_WORDS: dict[str, tuple[bytes, str]] = {
    "LoRA": (save({"lora_unet_x.lora_down.weight": ROWS}), "It is a LoRA"),
    "large LoRA": (save({"lora_te.lora_up.weight": torch.zeros(MOST_BYTES // 4 + 1)}), "16 MB and is no word. It is a"),
    "base model": (save({"model.diffusion_model.x": ROWS}), "a whole base model"),
    "hypernetwork": (pickled({768: ROWS, "step": 3}), "It is a hypernetwork"),
    "aesthetic gradient": (pickled(ROWS), "aesthetic gradients"),
    "list": (pickled([ROWS]), "it holds a list"),
    "pickle": (pickled(webui(Runs())), "pickled objects other than tensors"),
    "plain pickle": (pickle.dumps(Runs()), "no file of PyTorch"),
    "cut off zip": (KNOWN["webui"][0][:400], "damaged, cut off"),
    "cut off legacy": (KNOWN["webui, old"][0][:300], "damaged"),
    "cut off": (KNOWN["kohya"][0][:-9], "damaged or cut off"),
    "text": (b"this is not a word", "neither a safetensors file nor"),
    "empty": (b"", "neither a safetensors file nor"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "saved as pictures"),
    "two words": (save({"<a>": ROWS, "<b>": ROWS + 1}), "it holds <a> and <b>"),
    "integers": (save({"emb_params": torch.ones((1, 8), dtype=torch.int64)}), "torch.int64 [1×8]"),
    "three dimensions": (save({"emb_params": ROWS.unsqueeze(0)}), "[1×3×8]"),
    "too many": (save({"emb_params": torch.ones(65, 8)}), "at most 64"),
    "claims more than it has": (pickled({"<cat>": torch.zeros(1).expand(10**9, 8)}), "at most 64"),
    "NaN": (save({"emb_params": ROWS * float("nan")}), "not finite"),
    "zero": (save({"emb_params": ROWS * 0}), "no usable word"),
    "huge": (save({"emb_params": ROWS * 1e6}), "no usable word"),
    "no tensor at its place": (pickled(webui(7) | {"string_to_param": 7}), "it holds nothing"),
    "number": (pickled({"<cat>": 7}), "no plain tensor"),
    "wrong width": (save({"emb_params": torch.ones(1, 768)}), "768, as Stable Diffusion 1.x has; this one reads 8"),
    "SDXL": (save({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}), "as SDXL has; this one reads 8"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_WORDS)
def test_what_is_no_word_is_told(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, reason = NOT_WORDS[name]
    with pytest.raises(InputError) as told:
        read_word(data, "cat.pt", ONE, "this one")
    assert reason in str(told.value) and "cat.pt" in str(told.value)
    assert not list(tmp_path.iterdir()), "nothing in a file is run"


@pytest.mark.parametrize("name", ["webui", "webui, old", "diffusers"])
def test_a_file_that_is_cut_off_anywhere_is_told(name: str) -> None:
    whole = KNOWN[name][0]
    for length in range(0, len(whole) - 1, 7):
        with pytest.raises(InputError, match=r"cat\.pt"):
            read_word(whole[:length], "cat.pt", ONE, "this one")


def test_different_numbers_of_vectors() -> None:
    with pytest.raises(InputError, match="different numbers"):
        read_word(save({"clip_l": ROWS, "clip_g": SECOND[:1]}), "cat", TWO, "this one")


def test_text_encoders_have_one_name_everywhere() -> None:
    for kind, parts in TEXT_ENCODERS.items():
        assert parts == {name: folders[1] for name, folders in KINDS[kind].ENCODERS.items()}
