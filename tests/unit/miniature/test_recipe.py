"""The recipe's own rules: what leaks, how things are placed, what captions say, which words the tokenizer knows."""

import numpy as np
import pytest

from miniature.art import HELD_OUT, Drawing, leaks, plain
from miniature.captions import caption, corpus
from miniature.compose import PLACES, Scene, place
from miniature.tokenizer import train

APPLE = Drawing("red apple", "noto", "fruit", "red", ("apple",), held_out=False)
LION = Drawing("lion", "noto", "animal", "", ("lion face",), held_out=True)


@pytest.mark.parametrize(
    "name", [*HELD_OUT, "Lion Face", "teddy_bear", "jack-o’-lantern", "ladybug", "cheeseburger", "foxes"]
)
def test_a_held_out_concept_is_noticed_under_any_of_its_names(name: str) -> None:
    assert leaks(name.replace("_", " "))


@pytest.mark.parametrize("name", ["bear", "ice hockey", "dandelion", "beetle", "red paper lantern", "bowl", "sea lice"])
def test_other_words_are_no_leak(name: str) -> None:
    assert not leaks(name)


def test_names_become_plain_words() -> None:
    assert plain("Jack-O’-Lantern") == "jack o lantern"


@pytest.mark.parametrize("where", range(len(PLACES)))
def test_a_thing_lies_wholly_on_the_canvas_where_its_place_says(where: int) -> None:
    drawing = np.full((96, 96, 4), 255, np.uint8)
    for seed in range(200):
        canvas, small, found = place(drawing, np.random.default_rng(seed), plain=False)
        if found == where:
            break
    rows, columns = np.where(canvas[3] > 0)
    middle = {
        "left": columns.mean() < 28,
        "right": columns.mean() > 35,
        "top": rows.mean() < 28,
        "bottom": rows.mean() > 35,
    }
    assert middle.get(PLACES[where], abs(columns.mean() - 31.5) < 4)
    assert canvas[3].sum() / 255 == (columns.max() - columns.min() + 1) * (rows.max() - rows.min() + 1)
    assert small == (columns.max() - columns.min() < 31)


def test_colour_stays_below_alpha_where_premultiplied() -> None:
    drawing = np.zeros((96, 96, 4), np.uint8)
    drawing[20:70, 30:60] = (200, 100, 50, 255)
    canvas, *_ = place(drawing, np.random.default_rng(3), plain=True)
    assert (canvas[:3] <= canvas[3:]).all()


def test_a_caption_tells_what_its_scene_holds_and_nothing_else() -> None:
    scene = Scene(APPLE, small=True, place="left", background="blue", second="")
    told = [caption(scene, np.random.default_rng(seed), background=1.0, rest=1.0) for seed in range(50)]
    assert all(
        "apple" in one and "small" in one and "on the left" in one and one.endswith("a blue background") for one in told
    )
    assert not any("green" in one or "on the right" in one for one in told)
    assert len(set(told)) > 10
    assert "background" not in caption(scene, np.random.default_rng(0), background=0.0)


def test_the_tokenizer_knows_caption_words_whole_and_held_out_words_in_pieces() -> None:
    tokenizer = train(corpus([APPLE, LION]))
    assert [len(tokenizer.tokenize(word)) for word in ("apple", "background", "rendition", "fruit")] == [1, 1, 1, 1]
    assert len(tokenizer.tokenize("lion")) > 1
    assert tokenizer.decode(tokenizer("zwölf lions", add_special_tokens=False).input_ids).strip() == "zwölf lions"


def test_training_a_tokenizer_on_a_held_out_word_is_refused() -> None:
    with pytest.raises(SystemExit, match="lion"):
        train(["apple", "lion"])
