"""Words loaded into stock pipelines: both kinds of text encoders, again and again, as our own encoding says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import save_sd1, save_sdxl, stock_pipeline
from ti_core import formats
from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.client import load_words
from ti_core.errors import InputError, NotFoundError
from ti_core.records import Champion, PublishedFile, champion_key
from ti_core.sampling.words import encode
from ti_core.settings import Settings
from ti_core.store import open_store, put_blob

PROMPT = "a photo of a <toy> and a <dog> in a hat"
COUNTS = {"toy": 2, "dog": 1}


def rows(model: Backbone, count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 0.05, (count, encoder.table_ND.shape[1])).astype(np.float32)
            for name, encoder in model.encoders.items()}  # fmt: skip


def publish(settings: Settings, base: str, name: str, vectors: dict[str, np.ndarray], version: int = 1) -> None:
    store = open_store(settings)
    data = formats.write(vectors, f"<{name}>", "diffusers", {"modelspec.title": name})
    file = PublishedFile(
        layout="diffusers", filename=f"{name}.safetensors", sha256=put_blob(store, data), size=len(data)
    )
    champion = Champion(
        concept=name, base=base, base_digest="d", placeholder=f"<{name}>", judge_key=f"j{version}", train_key="t",
        version=version, step=20, vectors="v", files=(file,), protocol="p", score=0.5, manifest="m", previous=None,
    )  # fmt: skip
    store.put(champion_key(name, base), champion.to_bytes())


def states(pipeline: Any, prompt: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    with torch.no_grad():
        if hasattr(pipeline, "text_encoder_2"):
            hidden, _, pooled, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
            return hidden, pooled
        return pipeline.encode_prompt(prompt, "cpu", 1, False)[0], None


@pytest.mark.parametrize("save", [save_sd1, save_sdxl])
def test_the_words_of_a_prompt_are_loaded_once_and_mean_what_they_mean_here(save: Any, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    model = load(find_base(str(save(tmp_path / "base"))), torch.device("cpu"))
    words = {name: rows(model, count, count) for name, count in COUNTS.items()}
    for name, vectors in words.items():
        publish(settings, "base", name, vectors)
    pipeline = stock_pipeline(str(tmp_path / "base"))

    def check() -> None:
        told = encode(model, [PROMPT], {f"<{name}>": vectors for name, vectors in words.items()})
        hidden, pooled = states(pipeline, PROMPT)
        torch.testing.assert_close(told.hidden_BLD, hidden, rtol=0, atol=2e-6)
        if pooled is not None:
            torch.testing.assert_close(told.pooled_BD, pooled, rtol=0, atol=2e-6)

    assert load_words(pipeline, PROMPT, "base", settings) == ["toy", "dog"]
    check()
    size = len(pipeline.tokenizer)
    load_words(pipeline, ["dog", "toy"], "base", settings)  # nothing is loaded twice
    assert len(pipeline.tokenizer) == size
    words["toy"] = rows(model, 3, 9)  # a newer version, with more vectors
    publish(settings, "base", "toy", words["toy"], version=2)
    load_words(pipeline, PROMPT, "base", settings)
    check()


def test_a_word_for_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    publish(settings, "base", "toy", {"clip_l": np.ones((1, 7), np.float32)})
    pipeline = stock_pipeline(str(save_sd1(tmp_path / "base")))
    with pytest.raises(InputError, match="vectors of width 7"):
        load_words(pipeline, PROMPT.replace("<dog>", "dog"), "base", settings)
    with pytest.raises(NotFoundError):
        load_words(pipeline, ["nothing"], "base", settings)
