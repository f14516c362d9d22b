"""The second opinion: unit features that are transformers' own, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from tests.tiny import save_vit
from ti_core.errors import InputError
from ti_core.judging.dino import BATCH, resident_dino
from ti_core.planning.opinion import find_opinion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


def pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(count)]


def test_features_are_the_class_token_of_transformers_model(folder: Path) -> None:
    (picture,) = pictures(1)
    inputs = AutoImageProcessor.from_pretrained(folder)(images=[picture], return_tensors="pt")
    with torch.no_grad():
        token = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0, 0]
    with resident_dino(find_opinion(str(folder)), "cpu") as eye:
        found = eye.image_features([picture, picture.convert("L")])
    np.testing.assert_allclose(found[0], (token / token.norm()).numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_more_pictures_than_a_batch_keep_their_order(folder: Path) -> None:
    many = pictures(BATCH + 2)
    with resident_dino(find_opinion(str(folder)), "cpu") as eye:
        together = eye.image_features(many)
        for index in (0, BATCH - 1, BATCH, BATCH + 1):
            np.testing.assert_allclose(together[index], eye.image_features([many[index]])[0], atol=1e-5)
    with resident_dino(find_opinion(str(folder)), "cpu") as again:
        assert again is eye


def test_other_weights_have_another_digest(folder: Path, tmp_path: Path) -> None:
    other = find_opinion(str(save_vit(tmp_path / "other", seed=1)))
    assert other.digest != find_opinion(str(folder)).digest
    assert find_opinion(str(folder)) == find_opinion(str(folder))


def test_what_is_no_vision_transformer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="PSEUDOWORD_DINO is 'nothing'"):
        find_opinion("nothing")
    with pytest.raises(InputError, match="neither a folder here nor to be had"):
        find_opinion("owner/no-such-model")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not complete: there is no .*preprocessor_config.json"):
        find_opinion(str(tmp_path))
    folder = save_vit(tmp_path / "broken")
    (folder / "config.json").write_text('{"model_type": "none"}')
    with pytest.raises(InputError, match="does not load"), resident_dino(find_opinion(str(folder)), "cpu"):
        pass
