"""The weights that ship are real: the judge tells things apart, pictures follow captions, held-out subjects are new."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from miniature.art import KINDS, Subject
from miniature.measure import parts_right
from miniature.reader import read_reader
from ti_core.backbone.folder import MINIATURE, find_base, find_judge
from ti_core.backbone.sd1 import StableDiffusion1
from ti_core.images.preprocess import square
from ti_core.judging.clip import Clip
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode

EXAMPLES = Path("examples/concepts")
TRUTH = json.loads(Path("examples/truth.json").read_text())
CAPTIONS = (
    "a green robot on a yellow background",
    "a pink cat on a black background",
    "a blue monster on an orange background",
    "a gray plant with red tulip on a white background",
    "a person with yellow long hair on a purple background",
    "a red block robot on a green background",
    "a yellow monster on a blue background",
    "an orange cat on a red background",
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


def test_the_judge_knows_held_out_subjects_again_in_other_places(judge: Clip) -> None:
    pictures = [[Image.open(path) for path in sorted((EXAMPLES / name).glob("*.png"))] for name in TRUTH]
    features = [judge.image_features(some) for some in pictures]
    hits = []
    for number, own in enumerate(features):
        for left_out in range(len(own)):
            centres = [np.delete(f, left_out, 0).mean(0) if n == number else f.mean(0) for n, f in enumerate(features)]
            centres = np.stack([one / np.linalg.norm(one) for one in centres])
            hits.append(int((centres @ own[left_out]).argmax()) == number)
    assert np.mean(hits) > 0.8


@pytest.mark.parametrize("name", TRUTH)
def test_no_example_is_a_subject_that_the_miniature_may_have_learned(name: str) -> None:
    subject = Subject(TRUTH[name]["kind"], tuple(TRUTH[name]["parts"].values()))
    assert subject.held_out
    assert f'"{KINDS[subject.kind].class_word}"' in (EXAMPLES / name / "concept.toml").read_text()


def test_the_reader_of_parts_reads_the_examples() -> None:
    assert MINIATURE is not None
    reader, accuracy = read_reader(MINIATURE / "reader")
    shares = []
    for name, truth in TRUTH.items():
        pictures = [square(path.read_bytes(), 64) for path in sorted((EXAMPLES / name).glob("*.png"))[:2]]
        pixels = torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2).float()
        shares.append(parts_right(reader.read(pixels / 127.5 - 1), **truth))
    assert np.mean(shares) > 0.8 and accuracy["background"] > 0.97


def test_both_tokenizers_know_the_words_of_the_world_and_break_others_into_pieces(
    judge: Clip, model: StableDiffusion1
) -> None:
    for tokenizer in (judge.tokenizer.tokenizer, model.encoders["clip_l"].tokenizer):
        assert tokenizer.tokenize("visor") == ["visor</w>"]
        assert len(tokenizer.tokenize("octopus")) > 1
