"""One loaded model of a kind per process: the same one while its files are the same, and one thread's at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import save_sd1
from ti_core.backbone.base import number_type
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import Resident, choose_device, place_of_work, resident
from ti_core.config import EvaluationConfig, Precision
from ti_core.errors import InputError
from ti_core.sampling.generate import generate
from ti_core.settings import Settings


@dataclass(frozen=True)
class Named:
    """What a resident is found by."""

    digest: str


def test_the_same_digest_is_the_same_object_and_a_change_is_another(tmp_path: Path) -> None:
    folder = save_sd1(tmp_path / "sd1")
    with resident(find_base(str(folder)), "cpu") as first, resident(find_base(str(folder)), "cpu") as again:
        assert again is first
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with resident(find_base(str(folder)), "cpu") as changed:
        assert changed is not first
        assert changed.info.digest != first.info.digest


def test_weights_that_do_not_load_are_an_input_error(tmp_path: Path) -> None:
    folder = save_sd1(tmp_path / "sd1")
    config = folder / "unet/config.json"
    config.write_text(config.read_text().replace("64", "96"))
    with pytest.raises(InputError, match="does not load") as error, resident(find_base(str(folder)), "cpu"):
        pass
    assert str(folder) in str(error.value)


def test_two_threads_that_make_pictures_make_the_ones_that_one_makes(tmp_path: Path) -> None:
    """Sampling keeps a prompt's keys and values in the U-Net's layers while it works: another's would come out."""
    settings = Settings(home=tmp_path, device="cpu")
    prompts = [f"a {colour} {thing}" for colour in ("red", "blue", "green") for thing in ("robot", "cat")] * 2

    def make(number: int, folder: str) -> Image.Image:
        out = tmp_path / folder / f"{number}.png"
        config = EvaluationConfig(sampler_steps=3)
        generate(prompts[number], out, [number], config, "miniature", settings)
        return Image.open(out)

    alone = [make(number, "alone") for number in range(len(prompts))]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda number: make(number, "together"), range(len(prompts))))
    wrong = [
        one for one, other in zip(alone, together, strict=True) if np.abs(np.subtract(one, other, dtype=int)).max()
    ]
    assert not wrong, f"{len(wrong)} of {len(prompts)} pictures are others"


def test_a_resident_is_one_threads_until_it_gives_it_back() -> None:
    loaded = list[str]()
    one = Resident(lambda info, place: loaded.append(info.digest) or object())
    other = Resident(lambda info, place: object())
    lent, free, order = threading.Event(), threading.Event(), list[str]()

    def hold() -> None:
        with one(Named("a"), "cpu"), other(Named("x"), "cpu"):  # one thread may have several
            lent.set()
            free.wait(10)
            order.append("first")

    def ask(which: Resident, name: str) -> None:
        with which(Named(name), "cpu"):
            order.append(name)

    holder = threading.Thread(target=hold)
    holder.start()
    assert lent.wait(10)
    asking = [threading.Thread(target=ask, args=(one, "a")), threading.Thread(target=ask, args=(other, "x"))]
    for thread in asking:
        thread.start()
        thread.join(0.1)
    assert not order and all(thread.is_alive() for thread in asking)
    free.set()
    for thread in [holder, *asking]:
        thread.join(10)
    assert order[0] == "first" and sorted(order[1:]) == ["a", "x"]
    assert loaded == ["a"]


def test_a_thread_that_fails_gives_it_back() -> None:
    one = Resident(lambda info, place: object())
    with pytest.raises(ValueError, match="torn out"), one(Named("a"), "cpu"):
        raise ValueError("torn out")
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: one(Named("a"), "cpu").__enter__()).result(10)


def test_another_number_type_is_another_model(tmp_path: Path) -> None:
    base = find_base(str(save_sd1(tmp_path / "sd1")))
    with resident(base, "cpu", precision="bf16") as asked:
        assert asked.unet_dtype == next(asked.unet.parameters()).dtype == torch.bfloat16
        assert {part.dtype for name, part in asked.parts.items() if name != "unet"} == {torch.float32}
    with resident(base, "cpu") as own:
        assert own.unet_dtype == torch.float32
    assert place_of_work("cpu", "fp16") == ("cpu", "float16")
    assert place_of_work("cpu") == ("cpu", "float32")


@pytest.mark.parametrize(
    ("capability", "wish", "wanted"),
    [
        ((9, 0), "", torch.bfloat16),
        ((8, 0), "", torch.bfloat16),
        ((7, 5), "", torch.float16),
        ((7, 0), "", torch.float16),
        ((6, 1), "", torch.float32),
        ((9, 0), "fp16", torch.float16),
        ((7, 5), "fp32", torch.float32),
    ],
)
def test_the_number_type_is_what_the_card_computes_in(
    capability: tuple[int, int], wish: Precision, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H100, A100, T4, V100, GTX 1080; torch calls bf16 supported on a T4, too, where it is emulated."""
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or capability[0] >= 8
    )
    assert number_type(torch.device("cuda"), wish) == wanted


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    for cuda, mps, wanted in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert choose_device("").type == wanted
    assert number_type(torch.device("mps")) == torch.float32
    for wish in ("cuda:99", "toaster"):
        with pytest.raises(InputError, match=rf"PSEUDOWORD_DEVICE is '{wish}'"):
            choose_device(wish)
