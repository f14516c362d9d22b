"""Words in prompts for judging and generating: each word's own vectors, whatever the order they come in."""

import numpy as np
import torch

from tests.tiny import miniature
from ti_core.sampling.words import encode


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    return {"clip_l": np.random.default_rng(seed).normal(0, 0.05, (count, 128)).astype(np.float32)}


FOX, TOY = rows(3, 0), rows(1, 1)


def test_each_word_has_its_own_vectors_in_any_order() -> None:
    model = miniature()
    prompts = ["a <fox> and a <toy>", "a <toy> and a <fox>", "a <toy>"]
    told = encode(model, prompts, {"<fox>": FOX, "<toy>": TOY})
    turned = encode(model, prompts, {"<toy>": TOY, "<fox>": FOX})
    assert torch.equal(told.hidden_BLD, turned.hidden_BLD)
    alone = encode(model, ["a <toy>"], {"<toy>": TOY})
    torch.testing.assert_close(told.hidden_BLD[2:], alone.hidden_BLD, rtol=0, atol=2e-6)
    swapped = encode(model, prompts, {"<fox>": rows(3, 2), "<toy>": TOY})
    assert not torch.allclose(told.hidden_BLD[0], swapped.hidden_BLD[0], atol=1e-3)
    torch.testing.assert_close(told.hidden_BLD[2], swapped.hidden_BLD[2], rtol=0, atol=2e-6)


def test_a_vector_that_is_an_old_word_s_embedding_is_that_word() -> None:
    model = miniature()
    cat = {"clip_l": model.initial_vectors("cat", 1)["clip_l"].numpy()}
    told = encode(model, ["a photo of a <x>, red"], {"<x>": cat})
    torch.testing.assert_close(told.hidden_BLD, encode(model, ["a photo of a cat, red"], {}).hidden_BLD)


def test_no_gradients() -> None:
    told = encode(miniature(), ["a <toy>"], {"<toy>": TOY})
    assert not told.hidden_BLD.requires_grad
