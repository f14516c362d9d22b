"""The judge: unit features, its own resizing, and a judgement that is worth something."""

import io
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from ti_core.backbone.folder import MINIATURE, find_judge
from ti_core.errors import InputError
from ti_core.judging.clip import BATCH, Clip, resident_clip

CONCEPTS = Path("examples/concepts")


def judge() -> Clip:
    with resident_clip(find_judge("", "miniature"), "cpu") as clip:
        return clip


def picture(concept: str, number: int = 1) -> Image.Image:
    return Image.open(CONCEPTS / concept / f"{number:02}.png")


def test_features_have_length_one_whatever_the_pictures_size_and_mode() -> None:
    pictures = [
        picture("disco"),
        picture("disco").convert("L"),
        picture("disco").resize((31, 97)),
        picture("disco").convert("P"),
    ]
    features = judge().image_features(pictures)
    assert features.shape[0] == 4 and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    texts = judge().text_features(["a photo of a cat", ""])
    assert texts.shape == (2, features.shape[1])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)


def test_features_are_open_clip_s_own() -> None:
    location = f"local-dir:{MINIATURE / 'mini-clip'}"
    model, _, transform = open_clip.create_model_and_transforms(location)
    with torch.no_grad():
        image = model.eval().encode_image(transform(picture("disco")).unsqueeze(0))
        text = model.encode_text(open_clip.get_tokenizer(location)(["a red cat"]))
    np.testing.assert_allclose(
        judge().image_features([picture("disco")])[0], (image / image.norm())[0].numpy(), atol=1e-5
    )
    np.testing.assert_allclose(judge().text_features(["a red cat"])[0], (text / text.norm())[0].numpy(), atol=1e-5)


def test_more_pictures_than_a_batch_keep_their_order() -> None:
    pictures = [Image.new("RGB", (64, 64), (3 * n, 255 - 3 * n, 128)) for n in range(BATCH + 3)]
    together = judge().image_features(pictures)
    assert together.shape[0] == BATCH + 3
    for index in (0, BATCH - 1, BATCH, BATCH + 2):
        np.testing.assert_allclose(together[index], judge().image_features([pictures[index]])[0], atol=1e-5)


def test_the_miniature_s_judge_sees_that_pictures_show_the_same_thing() -> None:
    names = ("disco", "moss", "tin", "prickle", "granny", "hook")
    seen = np.stack([judge().image_features([picture(name, n) for n in (1, 2, 3)]) for name in names])
    cosines = np.einsum("aie,bje->abij", seen, seen)
    for one in range(len(names)):
        same = (cosines[one, one].sum() - 3) / 6
        assert same > np.delete(cosines[one], one, axis=0).mean(), names[one]


def test_the_miniature_s_judge_reads_edit_prompts() -> None:
    colours = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (30, 170, 60), "black": (0, 0, 0)}
    disco, scenes = picture("disco").convert("RGB").resize((40, 40)), []
    for colour in colours.values():
        scenes.append(Image.new("RGB", (64, 64), colour))
        scenes[-1].paste(disco, (12, 12))
    texts = judge().text_features([f"a photo of a cat on a {name} background" for name in colours])
    assert (judge().image_features(scenes) @ texts.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_the_loaded_judge_is_kept() -> None:
    assert judge() is judge()


def test_a_judge_that_does_not_load_is_an_input_error(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MINIATURE / "mini-clip", tmp_path / "clip"))
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text().replace('"width"', '"wide"'))
    with pytest.raises(InputError, match=r"The judge .*clip does not load: .*PSEUDOWORD_CLIP"):
        with resident_clip(find_judge(str(folder), "miniature"), "cpu"):
            pass
    with pytest.raises(InputError, match=r"The judge ViT-Z-1/none does not load: .*PSEUDOWORD_CLIP"):
        with resident_clip(find_judge("ViT-Z-1/none", "sd1"), "cpu"):
            pass


def test_a_judge_that_would_have_to_be_downloaded_is_an_input_error_offline() -> None:
    with pytest.raises(InputError, match=r"The judge ViT-B-32/laion2b_s34b_b79k does not load: .*PSEUDOWORD_CLIP"):
        with resident_clip(find_judge("ViT-B-32/laion2b_s34b_b79k", "sd1"), "cpu"):
            pass


def test_a_stored_square_is_read_as_it_was() -> None:
    buffer = io.BytesIO()
    picture("disco").save(buffer, "PNG")
    np.testing.assert_array_equal(
        judge().image_features([Image.open(buffer)]), judge().image_features([picture("disco")])
    )
