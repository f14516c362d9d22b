"""The weights that ship are real: the judge tells things apart, pictures follow captions, held-out words are new."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ti_core.backbone.folder import find_base, find_judge
from ti_core.backbone.sd1 import StableDiffusion1
from ti_core.judging.clip import Clip
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode

EXAMPLES = Path("examples/concepts")
HELD_OUT = tuple(sorted(folder.name.replace("-", " ") for folder in EXAMPLES.iterdir()))
CAPTIONS = (
    "a red apple on a blue background",
    "a red heart on a yellow background",
    "a tree on a pink background",
    "a house on a green background",
    "a cat face on a purple background",
    "a banana on a black background",
    "a fish on a white background",
    "a bus on an orange background",
)
SEEDS = 3


@pytest.fixture(scope="module")
def judge() -> Clip:
    return Clip(find_judge("", "miniature"), torch.device("cpu"))


@pytest.fixture(scope="module")
def model() -> Iterator[StableDiffusion1]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield StableDiffusion1(find_base("miniature"), torch.device("cpu"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def similarity(judge: Clip, model: StableDiffusion1) -> NDArray[np.float32]:
    """[captions × SEEDS, captions]: the judge's cosine of every generated picture to every caption."""
    prompts = [caption for caption in CAPTIONS for _ in range(SEEDS)]
    made = sample(model, encode(model, prompts, {}), range(len(prompts)), Sampling("ddim", 8, 4.0, 64))
    return judge.image_features([Image.fromarray(one) for one in made]) @ judge.text_features(CAPTIONS).T


def test_generated_pictures_are_nearer_to_their_captions_than_to_others(similarity: NDArray[np.float32]) -> None:
    answer = np.repeat(np.arange(len(CAPTIONS)), SEEDS)
    own = similarity[np.arange(len(answer)), answer]
    shuffled = similarity[np.arange(len(answer)), (answer + 1) % len(CAPTIONS)]
    assert (own > shuffled).mean() > 0.8
    assert own.mean() - shuffled.mean() > 0.1


def test_a_generated_picture_finds_its_caption_far_above_chance(similarity: NDArray[np.float32]) -> None:
    answer = np.repeat(np.arange(len(CAPTIONS)), SEEDS)
    assert (similarity.argmax(1) == answer).mean() > 4 / len(CAPTIONS)


def test_the_judge_knows_held_out_things_again_in_another_style(judge: Clip) -> None:
    pictures = [[Image.open(path) for path in sorted(folder.glob("*.png"))] for folder in sorted(EXAMPLES.iterdir())]
    features = [judge.image_features(some) for some in pictures]
    hits = []
    for number, own in enumerate(features):
        for left_out in range(len(own)):
            centres = [np.delete(f, left_out, 0).mean(0) if n == number else f.mean(0) for n, f in enumerate(features)]
            centres = np.stack([one / np.linalg.norm(one) for one in centres])
            hits.append(int((centres @ own[left_out]).argmax()) == number)
    assert np.mean(hits) > 8 / len(features)


def test_both_tokenizers_break_held_out_words_into_pieces(judge: Clip, model: StableDiffusion1) -> None:
    for tokenizer in (judge.tokenizer.tokenizer, model.encoders["clip_l"].tokenizer):
        assert tokenizer.tokenize("apple") == ["apple</w>"]
        # A name of two words may be made of words that other concepts taught: ice (skate) cream.
        assert [name for name in HELD_OUT if " " not in name and len(tokenizer.tokenize(name)) == 1] == []
