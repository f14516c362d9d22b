"""On a small device idle parts wait on the CPU and the VAE works in tiles; on any other nothing is different."""

import pytest
import torch
from torch import nn

from tests.tiny import miniature, tiny_sd1
from ti_core.backbone import room
from ti_core.backbone.room import Residence, in_tiles_if_needed, naming_spent_memory
from ti_core.sampling.words import encode

CPU = torch.device("cpu")


class Part(nn.Linear):
    """Knows where it was sent."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.sent = list[str]()

    def to(self, place):
        self.sent.append(str(place))
        return self


def parts() -> dict[str, Part]:
    return {name: Part() for name in ("unet", "vae", "clip_l")}


def test_where_there_is_room_all_parts_are_there_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    there = parts()
    monkeypatch.setattr(room, "_memory", lambda device: 3 * 288 * 4)  # bytes of all: 3 × 72 numbers
    residence = Residence(there, torch.device("cuda"))
    residence.rest(["clip_l"])
    residence.need(["clip_l"])
    assert not residence.short and {name: part.sent for name, part in there.items()} == {key: ["cuda"] for key in there}


def test_on_a_small_device_a_part_is_there_from_its_need_to_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    there = parts()
    monkeypatch.setattr(room, "_memory", lambda device: 3 * 288)
    residence = Residence(there, torch.device("cuda"))
    assert residence.short and not any(part.sent for part in there.values())
    residence.need(["unet", "clip_l"])
    residence.need(["unet"])
    residence.rest(["clip_l", "vae"])
    residence.need(["vae"])
    residence.need(["clip_l"])
    assert {name: part.sent for name, part in there.items()} == {
        "unet": ["cuda"], "vae": ["cuda"], "clip_l": ["cuda", "cpu", "cuda"],
    }  # fmt: skip


def test_whoever_says_that_memory_is_spent_is_understood() -> None:
    for text in ("MPS backend out of memory (MPS allocated: 9 GB)", "CUBLAS_STATUS_ALLOC_FAILED when calling"):
        with pytest.raises(torch.OutOfMemoryError, match=text[:10]), naming_spent_memory():
            raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="shapes") as other, naming_spent_memory():
        raise RuntimeError("shapes do not match")
    assert not isinstance(other.value, torch.OutOfMemoryError)


def test_a_vae_without_room_for_a_whole_picture_works_in_tiles_from_then_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The miniature's VAE on a device that holds half a picture's side: nearly the same picture comes back."""
    model = miniature()
    vae, stock = model.vae, {"encode": model.vae.encoder.forward, "decode": model.vae.decoder.forward}
    ramp = torch.linspace(-0.8, 0.8, 128)
    picture = torch.stack([ramp.expand(128, 128), ramp.expand(128, 128).T, torch.zeros(128, 128)]).unsqueeze(0)
    whole, _ = model.encode_pictures(picture)
    seen = model.decode(whole).int()

    def small(forward, most):
        def limited(given: torch.Tensor, *rest: object) -> torch.Tensor:
            if given.shape[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(given, *rest)

        return limited

    monkeypatch.setattr(vae.encoder, "forward", small(stock["encode"], 64))
    monkeypatch.setattr(vae.decoder, "forward", small(stock["decode"], 64 // model.scale))
    try:
        tiled, _ = model.encode_pictures(picture)
        assert tiled.shape == whole.shape and (tiled - whole).norm() < 0.4 * whole.norm()
        assert (model.decode(whole).int() - seen).abs().float().mean() < 16
        assert caplog.text.count("in tiles from here") == 1
    finally:
        vae.disable_tiling()


def test_pictures_that_do_not_fit_together_are_decoded_one_by_one_before_any_tile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = miniature()
    latents = torch.linspace(-1, 1, 3 * 6 * 16 * 16).view(3, 6, 16, 16)
    whole, stock, sizes = model.decode(latents), model.vae.decode, list[int]()

    def small(given: torch.Tensor) -> object:
        sizes.append(len(given))
        if len(given) > 1:
            raise RuntimeError("CUDNN_STATUS_ALLOC_FAILED")
        return stock(given)

    monkeypatch.setattr(model.vae, "decode", small)
    assert (model.decode(latents).int() - whole.int()).abs().max() <= 1  # rounding of another batch shape
    assert sizes == [3, 1, 1, 1] and not model.vae.use_tiling


def test_memory_that_a_library_names_in_its_own_way_leads_to_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, tried = tiny_sd1().vae, list[bool]()

    def small(_: object) -> str:
        tried.append(vae.use_tiling)
        if not vae.use_tiling:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")
        return "made"

    try:
        assert in_tiles_if_needed(vae, small, torch.zeros(1), 256) == "made" and tried == [False, True]
    finally:
        vae.disable_tiling()


def test_words_are_read_while_the_unet_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small card the text encoders and the U-Net never are on it together while pictures are made."""
    model, there = tiny_sd1(), parts()
    monkeypatch.setattr(room, "_memory", lambda device: 3 * 288)
    monkeypatch.setattr(model, "residence", Residence(there, torch.device("cuda")))
    model.residence.need(["unet"])
    encode(model, ["a toy"], {})
    assert there["unet"].sent == ["cuda", "cpu"] and there["clip_l"].sent == ["cuda"]
    model.residence.need(["unet"])
    model.unconditional()
    assert there["unet"].sent[-1] == "cpu"


def test_where_tiles_do_not_help_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    vae = tiny_sd1().vae
    with pytest.raises(torch.OutOfMemoryError):
        in_tiles_if_needed(vae, full, torch.zeros(1), 16)
    assert not vae.use_tiling, "too small to be cut"
