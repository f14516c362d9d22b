"""Published words in use: prompts with any of them become pictures, on the miniature."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import miniature
from ti_core import formats
from ti_core.backbone.folder import find_base
from ti_core.config import EvaluationConfig
from ti_core.errors import InputError, NotFoundError
from ti_core.records import Champion, champion_key
from ti_core.sampling.generate import generate
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.settings import Settings
from ti_core.store import Store, open_store, put_blob

FEW = EvaluationConfig(sampler_steps=4, guidance=4.0)


def publish(store: Store, name: str, phrase: str, vectors: int) -> dict[str, np.ndarray]:
    """Make `phrase`'s own embeddings the champion of `name`."""
    rows = {encoder: rows.numpy() for encoder, rows in miniature().initial_vectors(phrase, vectors).items()}
    champion = Champion(
        concept=name, base="miniature", base_digest=find_base("miniature").digest, placeholder=f"<{name}>",
        judge_key="j", train_key="t", version=1, step=20, vectors=put_blob(store, formats.write_checkpoint(rows)),
        files=(), protocol="p", score=0.5, manifest="m", previous=None,
    )  # fmt: skip
    store.put(champion_key(name, "miniature"), champion.to_bytes())
    return rows


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("words"), device="cpu")


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture(scope="module")
def words(store: Store) -> dict[str, dict[str, np.ndarray]]:
    return {"<my-cat>": publish(store, "my-cat", "cat", 1), "<my-sky>": publish(store, "my-sky", "blue background", 2)}


def expected(prompt: str, words: dict[str, dict[str, np.ndarray]], seed: int) -> np.ndarray:
    return sample(miniature(), encode(miniature(), [prompt], words), [seed], Sampling("ddim", 4, 4.0, 64))[0].astype(
        int
    )


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (64, 64), "RGB")
        return np.asarray(picture).astype(int)


def test_several_words_in_one_prompt_and_several_seeds(
    words: dict[str, dict[str, np.ndarray]], settings: Settings, store: Store, tmp_path: Path
) -> None:
    prompt = "a <my-cat> on a <my-sky>, <my-cat>"
    paths = generate(prompt, tmp_path / "new" / "cat.png", [3, 4], FEW, "miniature", settings)
    assert [path.name for path in paths] == ["cat-1.png", "cat-2.png"]
    with Image.open(paths[1]) as picture:
        told = picture.text
    assert (told["prompt"], told["seed"]) == (prompt, "4")
    assert told["words"] == "<my-cat> version 1, step 20, <my-sky> version 1, step 20"
    assert told["base_model"].startswith("miniature (") and told["sampler"] == "ddim, 4 steps, guidance 4"
    for path, seed in zip(paths, (3, 4), strict=True):
        assert np.abs(read(path) - expected(prompt, words, seed)).max() <= 2
    # The words are old words' own embeddings, so this is the same prompt in plain words.
    assert np.abs(read(paths[0]) - expected("a cat on a blue background, cat", {}, 3)).max() <= 2


def test_one_seed_writes_the_file_itself(
    words: dict[str, dict[str, np.ndarray]], settings: Settings, store: Store, tmp_path: Path
) -> None:
    assert generate("a <my-cat>", tmp_path / "cat.png", [3], FEW, "miniature", settings) == [tmp_path / "cat.png"]
    assert np.abs(read(tmp_path / "cat.png") - expected("a <my-cat>", words, 3)).max() <= 2


def test_capitals_do_not_hide_a_word(
    words: dict[str, dict[str, np.ndarray]], settings: Settings, store: Store, tmp_path: Path
) -> None:
    (path,) = generate("A <My-Cat>", tmp_path / "cat.png", [3], FEW, "miniature", settings)
    assert np.abs(read(path) - expected("a <my-cat>", words, 3)).max() <= 2


def test_a_prompt_without_new_words_and_with_a_heart(settings: Settings, store: Store, tmp_path: Path) -> None:
    (path,) = generate("i <3 a cat", tmp_path / "cat.png", [3], FEW, "miniature", settings)
    assert np.abs(read(path) - expected("i <3 a cat", {}, 3)).max() <= 2


def test_an_unknown_word_is_not_found_and_nothing_is_written(
    words: dict[str, dict[str, np.ndarray]], settings: Settings, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="my-dog"):
        generate("a <my-cat> and a <my-dog>", tmp_path / "new" / "x.png", [3], FEW, "miniature", settings)
    assert not list(tmp_path.iterdir())


def test_a_prompt_that_is_no_text_is_an_input_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The prompt a \\xff cat is no text"):
        generate("a \udcff cat", tmp_path / "x.png", [3], FEW, "miniature", settings)


def test_a_prompt_that_is_too_long_is_an_input_error(
    words: dict[str, dict[str, np.ndarray]], settings: Settings, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="31 tokens"):
        generate("a <my-cat>" + " a" * 29, tmp_path / "new" / "x.png", [3], FEW, "miniature", settings)
    assert not list(tmp_path.iterdir())
