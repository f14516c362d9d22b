"""What a model needs is counted without weights: by the sample, less where the forward pass is computed again."""

from pathlib import Path

import pytest
import torch

from tests.tiny import save_sd1, save_sdxl
from ti_core.backbone import footprint
from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load

META = torch.device("meta")


@pytest.fixture(scope="module", params=[save_sd1, save_sdxl], ids=["sd1", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load(find_base(str(request.param(tmp_path_factory.mktemp("model") / "tiny"))), META)


def test_weights_are_those_of_the_files(model: Backbone) -> None:
    stored = {path.parent.name: path.stat().st_size for path in Path(model.info.folder).rglob("*.safetensors")}
    counted = footprint.weights(model)
    assert counted.unet == pytest.approx(stored["unet"], rel=0.1)  # with its header
    assert counted.all == pytest.approx(sum(stored.values()), rel=0.1)
    assert all(part.device.type == "meta" for part in model.parts.values())


def test_a_pass_grows_by_the_sample_and_shrinks_where_it_is_computed_again(model: Backbone) -> None:
    one, two = (footprint.training_bytes(model, 16, samples) for samples in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.02)
    assert footprint.training_bytes(model, 32, 1) > 3 * one
    assert footprint.training_bytes(model, 16, 1, recompute=True) < 0.9 * one
    assert not model.recomputes
    assert 0 < footprint.sampling_bytes(model, 16) < one


def test_half_precision_halves_the_u_net(model: Backbone) -> None:
    half = load(model.info, META, precision="fp16")
    assert footprint.weights(half).unet == footprint.weights(model).unet / 2
    assert footprint.weights(half).texts == footprint.weights(model).texts
    assert footprint.training_bytes(half, 16) < 0.8 * footprint.training_bytes(model, 16)


def test_the_vae_needs_a_quarter_in_tiles(model: Backbone) -> None:
    for of in (footprint.encoding_bytes, footprint.decoding_bytes):
        assert of(model, 16) == pytest.approx(of(model, 32) / 4, rel=0.1)
