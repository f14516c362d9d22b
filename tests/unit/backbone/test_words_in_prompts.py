"""Words in prompts: what our encoding gives is what a stock pipeline gives with the published file loaded.

Three base models stand for the kinds there are: the miniature (tokenizer.json), and tiny random SD 1.x folders
(vocab.json and merges.txt) with the real eos_token_id and with the legacy 2 of SD 1.4 and 1.5.
"""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from tests.tiny import KNOWN, miniature, save_sd1, stock_pipeline
from ti_core import formats
from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.backbone.sd1 import ENCODER
from ti_core.backbone.text import TextEncoder
from ti_core.errors import InputError
from ti_core.records import Layout
from ti_core.sampling.words import encode

WORDS = {"<cat-toy>": 3, "<dog>": 1}
KINDS = ("miniature", "sd1", "sd1-legacy")
PROMPTS = (
    "a photo of a <cat-toy>",
    "a photo of a <dog>",
    "<dog>",
    "<cat-toy> in the style of <dog>",
    "<cat-toy><dog>",
    "<dog><cat-toy><dog>",
    "a <dog>, a <cat-toy>, and the <dog>",
    "a photo of a <cat-toy>.",
    "(<cat-toy>), red!",
    "a <cat-toy>'s hat",
    "a<dog>s",
    "<<dog>>",
    "  a   photo of\n<dog>  ",
    "a photo of <Dog>",
    "cat-toy and dog, no new word",
    "",
)


def clip(model: Backbone) -> TextEncoder:
    """The one text encoder."""
    return model.encoders[ENCODER]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    if request.param == "miniature":
        return miniature()
    folder = save_sd1(tmp_path_factory.mktemp(request.param), legacy_eos=request.param == "sd1-legacy")
    return load(find_base(str(folder)), torch.device("cpu"))


@pytest.fixture(scope="module")
def vectors(model: Backbone) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    width = clip(model).module.config.hidden_size
    return {word: random.normal(0, 0.05, (count, width)).astype(np.float32) for word, count in WORDS.items()}


@pytest.fixture(scope="module", params=formats.LAYOUTS)
def loaded(
    request: pytest.FixtureRequest,
    model: Backbone,
    vectors: dict[str, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> StableDiffusionPipeline:
    """A stock pipeline with the published files of both words loaded, as a reader would load them."""
    layout: Layout = request.param
    pipeline = stock_pipeline(model.info.folder)
    for word, rows in vectors.items():
        file = tmp_path_factory.mktemp("published") / f"{layout}-{formats.filename(word.strip('<>'))}"
        file.write_bytes(formats.write({ENCODER: rows}, word, layout))
        pipeline.load_textual_inversion(str(file), token=None if layout == "diffusers" else word)
    return pipeline


def stock_ids(pipeline: StableDiffusionPipeline, prompt: str) -> torch.Tensor:
    tokenizer = pipeline.tokenizer
    converted = pipeline.maybe_convert_prompt(prompt, tokenizer)
    return tokenizer(converted, padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                     return_tensors="pt").input_ids[0]  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_and_places_are_the_stock_ones(model: Backbone, loaded: StableDiffusionPipeline, prompt: str) -> None:
    # The stock pipeline adds the words' rows behind its vocabulary, in the order they were loaded.
    (ids, slots), (first, total) = (
        clip(model).tokenize([prompt], WORDS)[0],
        (len(clip(model).tokenizer), sum(WORDS.values())),
    )
    expected = stock_ids(loaded, prompt)
    assert len(ids) == len(slots) == clip(model).tokenizer.model_max_length
    assert [first + slot if slot >= 0 else token for token, slot in zip(ids, slots, strict=True)] == expected.tolist()
    assert ("<" in prompt) == any(first <= token < first + total for token in expected)


def test_hidden_states_are_the_stock_ones(
    model: Backbone, loaded: StableDiffusionPipeline, vectors: dict[str, np.ndarray]
) -> None:
    told = encode(model, PROMPTS, {word: {ENCODER: rows} for word, rows in vectors.items()})
    with torch.no_grad():
        hidden, _ = loaded.encode_prompt(list(PROMPTS), "cpu", 1, False)
    torch.testing.assert_close(told.hidden_BLD, hidden, rtol=0, atol=2e-6)


def test_pooled_states_are_the_stock_ones_but_for_its_legacy_trap(
    model: Backbone, loaded: StableDiffusionPipeline, vectors: dict[str, np.ndarray]
) -> None:
    """With eos_token_id 2 in its configuration the stock encoder pools at the largest id. That is the end of the text,
    until a word is added behind the vocabulary: then stock pools at the word's last row, ours still at the end of the
    text. SD 1.x does not use the pooled state."""
    told = encode(model, PROMPTS, {word: {ENCODER: rows} for word, rows in vectors.items()})
    ids = torch.stack([stock_ids(loaded, prompt) for prompt in PROMPTS])
    with torch.no_grad():
        stock = loaded.text_encoder(ids)
    end = (ids == clip(model).tokenizer.eos_token_id).int().argmax(-1)
    rows = torch.arange(len(PROMPTS))
    assert told.pooled_BD is not None
    torch.testing.assert_close(told.pooled_BD, told.hidden_BLD[rows, end], rtol=0, atol=0)
    if clip(model).module.config.eos_token_id != 2:
        torch.testing.assert_close(told.pooled_BD, stock.pooler_output, rtol=0, atol=2e-6)
    else:
        torch.testing.assert_close(stock.pooler_output, told.hidden_BLD[rows, ids.argmax(-1)], rtol=0, atol=2e-6)
        assert (ids.argmax(-1) != end).sum() == sum("<" in prompt for prompt in PROMPTS)


def test_each_prompt_of_a_batch_has_its_own_vectors(model: Backbone) -> None:
    width = clip(model).module.config.hidden_size
    both = torch.randn((2, 1, width), generator=torch.Generator().manual_seed(0)) * 0.05
    told = model.encode_prompts(model.tokens(["a <x>", "a <x>"], {"<x>": 1}), {ENCODER: both})
    for row in range(2):
        alone = model.encode_prompts(model.tokens(["a <x>"], {"<x>": 1}), {ENCODER: both[row : row + 1]})
        torch.testing.assert_close(told.hidden_BLD[row], alone.hidden_BLD[0], rtol=0, atol=2e-6)
    assert not torch.equal(told.hidden_BLD[0], told.hidden_BLD[1])


def test_a_prompt_may_fill_the_text_encoder_and_no_more(model: Backbone) -> None:
    room = clip(model).tokenizer.model_max_length - 2
    full = " ".join(["a"] * (room - 3))
    ids, slots = clip(model).tokenize([f"{full} <cat-toy>"], WORDS)[0]
    assert len(ids) == room + 2 and slots[-4:] == [0, 1, 2, -1] and ids[-1] == clip(model).tokenizer.eos_token_id
    with pytest.raises(InputError, match=rf"{room + 1} tokens.*reads {room}"):
        clip(model).tokenize([f"a {full} <cat-toy>"], WORDS)


def test_known_words_are_one_token_each(model: Backbone) -> None:
    # A tokenizer that silently fell back to its two special tokens would give one id for everything.
    ids, _ = clip(model).tokenize(["a photo of the small red hat"], {})[0]
    assert len(set(ids[1:8])) == 7 and ids[8] == clip(model).tokenizer.eos_token_id
    assert ids[0] == clip(model).tokenizer.bos_token_id != ids[8]
    words = set(KNOWN) - {"dog"}  # the miniature knows no dogs
    assert words <= {token.removesuffix("</w>") for token in clip(model).tokenizer.get_vocab()}


def test_initial_vectors_are_the_phrase_in_as_many_rows_as_asked_for(model: Backbone) -> None:
    table = clip(model).module.get_input_embeddings().weight
    small, red, hat = (table[clip(model).tokenize([word], {})[0][0][1]] for word in ("small", "red", "hat"))

    def rows(count: int) -> torch.Tensor:
        return model.initial_vectors("small red hat", count)[ENCODER]

    torch.testing.assert_close(rows(3), torch.stack([small, red, hat]), rtol=0, atol=0)
    torch.testing.assert_close(rows(1), ((small + red + hat) / 3).unsqueeze(0))
    torch.testing.assert_close(rows(2), torch.stack([(small + red) / 2, hat]))
    torch.testing.assert_close(rows(5), torch.stack([small, red, hat, small, red]), rtol=0, atol=0)
    start = rows(3)
    start.zero_()
    assert not torch.equal(table[clip(model).tokenize(["small"], {})[0][0][1]], start[0]), (
        "a copy, not the table itself"
    )
