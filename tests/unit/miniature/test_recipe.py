"""The recipe's own rules: what is held out, how things are placed and drawn, what captions say, what is read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from miniature import compose
from miniature.art import KINDS, Subject, choose, is_colour, random_subject
from miniature.captions import DRAWN, caption, corpus, described, sentence
from miniature.compose import LEFT, PLACES, RIGHT, STYLES, UNSEEN_STYLE, Placed, Scene, place, restyle
from miniature.latents import NONE, NUMBERS, PARTS, part_numbers
from miniature.reader import ATTRIBUTES, Reader, loss_of, of, truth
from miniature.tokenizer import train

CAT = Subject("cat", ("13", "9", "6", "8", "4"))
"""A white spotted cat with closed eyes, a grin and a red bow."""
BARE = Subject("monster", ("red", "dome", "", "blue", "mono", "smile"))


def test_about_one_combination_in_ten_is_held_out_whoever_asks() -> None:
    random = np.random.default_rng(0)
    subjects = [random_subject(kind, random) for kind in KINDS for _ in range(500)]
    assert 0.07 < np.mean([one.held_out for one in subjects]) < 0.13
    assert [Subject(one.kind, one.values).held_out for one in subjects] == [one.held_out for one in subjects]


def test_every_part_of_a_held_out_subject_is_in_others_that_are_seen() -> None:
    chosen = choose(seen=60, kept=5)
    assert len(set(chosen)) == len(chosen) == 65 * len(KINDS)
    seen = {(one.kind, *pair) for one in chosen if not one.held_out for pair in one.parts.items()}
    kept = {(one.kind, *pair) for one in chosen if one.held_out for pair in one.parts.items()}
    assert kept and kept <= seen


@pytest.mark.parametrize("where", range(len(PLACES)))
def test_a_subject_lies_wholly_on_the_canvas_where_its_place_says(where: int) -> None:
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
    assert small == (columns.max() - columns.min() < 33)


def test_colour_stays_below_alpha_where_premultiplied() -> None:
    drawing = np.zeros((96, 96, 4), np.uint8)
    drawing[20:70, 30:60] = (200, 100, 50, 255)
    canvas, *_ = place(drawing, np.random.default_rng(3), plain=True)
    assert (canvas[:3] <= canvas[3:]).all()


def test_a_second_subject_stands_on_the_other_side_of_the_background_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas = np.zeros((2, 4, 64, 64), np.uint8)
    canvas[0, :, 20:40, 2:22] = np.array([250, 250, 250, 255])[:, None, None]
    canvas[1, :, 20:40, 42:62] = np.array([250, 250, 250, 255])[:, None, None]
    np.save(tmp_path / "placed.npy", canvas)
    np.savez(tmp_path / "placed.npz", subject=[0, 1], small=[True, True], place=[LEFT, RIGHT])
    monkeypatch.setattr(compose, "WORK", tmp_path)
    seen = replace(BARE, values=(*BARE.values[:-1], "frown"))
    assert not CAT.held_out and not seen.held_out
    monkeypatch.setattr(compose, "read_art", lambda: (canvas, [seen, CAT]))
    pictures, (scene,) = Placed().batch(
        np.array([0]), np.random.default_rng(1), styled=0.0, paired=1.0, names=("red", "blue")
    )
    assert (scene.subject, scene.beside, scene.background) == (seen, CAT, "blue"), "not on its own colour"
    assert pictures[0, :, 30, 10].min() > 0.9 and pictures[0, :, 30, 50].min() > 0.9, "both are there"
    assert pictures[0, 2, 5, 5] > pictures[0, 0, 5, 5], "on blue"
    told = caption(scene, np.random.default_rng(2), named=1.0, background=1.0, rest=1.0)
    assert "monster" in told or "object" in told
    assert " and a" in told and "on a blue background" in told and "left" not in told
    _, (alone,) = Placed().batch(np.array([0]), np.random.default_rng(1), styled=0.0)
    assert alone.beside is None


def test_styles_are_what_they_are_called() -> None:
    picture = torch.full((1, 3, 64, 64), 0.9)
    picture[:, :, 16:48, 16:48] = torch.tensor([0.8, 0.1, 0.1])[:, None, None]
    drawn = {style: restyle(picture, style) for style in (*STYLES, UNSEEN_STYLE)}
    assert all(one.shape == picture.shape and 0 <= one.min() and one.max() <= 1 for one in drawn.values())
    assert torch.equal(drawn[""], picture)
    for gray in ("gray", "pencil"):
        assert torch.equal(drawn[gray][:, 0], drawn[gray][:, 2])
    inside, edge = (slice(None), slice(None), 32, 32), (slice(None), slice(None), 32, 16)
    assert drawn["pencil"][inside].min() > 0.9
    assert drawn["pencil"][edge].max() < 0.5
    assert drawn["neon"][inside].max() < 0.1
    assert drawn["neon"][edge].max() > 0.5
    assert drawn[UNSEEN_STYLE][inside][0, 2] > drawn[UNSEEN_STYLE][inside][0, 0]
    assert drawn["pixel"][0, 0, ::4, ::4].unique().numel() == drawn["pixel"][0, 0].unique().numel()


def test_a_caption_tells_what_its_scene_holds_and_nothing_else() -> None:
    scene = Scene(CAT, small=True, place="left", background="blue", style="")
    told = [caption(scene, np.random.default_rng(seed), named=1.0, background=1.0, rest=1.0) for seed in range(50)]
    for one in told:
        assert all(word in one for word in ("small white spotted ", "red bow", "closed eyes", "grin"))
        assert "spotted cat" in one or "spotted object" in one
        assert "on a blue background" in one and one.endswith("on the left")
    assert len(set(told)) > 10
    unsaid = caption(scene, np.random.default_rng(0), named=0.0, background=0.0, rest=0.0)
    assert unsaid.split()[-1] in ("cat", "object")


def test_what_a_subject_lacks_is_not_mentioned_nor_painted() -> None:
    told = {described(BARE, np.random.default_rng(seed), 1.0) for seed in range(20)}
    assert not any("blue" in one or "  " in one for one in told)
    assert all(one.startswith(("red monster with ", "red object with ")) for one in told)


def test_a_style_without_colours_is_told_without_them() -> None:
    scene = Scene(CAT, small=False, place="", background="", style="pencil")
    told = [caption(scene, np.random.default_rng(seed), named=1.0, rest=1.0) for seed in range(30)]
    assert not any("white" in one for one in told)
    assert sum(DRAWN["pencil"] in one for one in told) == 30


def test_the_class_word_alone_can_be_told() -> None:
    scene = Scene(CAT, small=False, place="", background="green", style="")
    assert sentence(scene, "cat", np.random.default_rng(1), 1.0).endswith("cat on a green background")


def test_the_tokenizer_knows_caption_words_whole_and_others_in_pieces() -> None:
    tokenizer = train(corpus())
    for word in ("visor", "background", "rendition", "pencil", "monster", "purple"):
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    assert len(tokenizer.tokenize("octopus")) > 1
    assert tokenizer.decode(tokenizer("zwölf lions", add_special_tokens=False).input_ids).strip() == "zwölf lions"


def test_parts_are_numbered_one_number_each() -> None:
    numbers = part_numbers(CAT)
    assert len(numbers) == PARTS and numbers[0] == NUMBERS["cat", "kind", "cat"]
    assert [one for one in numbers if one != NONE] == numbers[: 1 + len(CAT.values)]
    other = part_numbers(Subject("cat", ("13", "9", "6", "8", "13")))
    assert [a != b for a, b in zip(numbers, other, strict=True)].count(True) == 1


def test_what_a_style_does_not_show_is_not_to_be_read() -> None:
    plain = truth(Scene(CAT, small=True, place="left", background="blue", style=""))
    assert plain["background"] == "blue" and plain["size"] == "small" and plain["cat/colour"] == "13"
    pencil = truth(Scene(CAT, small=True, place="left", background="", style="pencil"))
    assert "background" not in pencil and "cat/colour" not in pencil and pencil["cat/eyes"] == "6"
    assert set(plain) <= set(ATTRIBUTES) and is_colour("shirt colour") and not is_colour("shirt")


def test_the_reader_learns_the_attributes_of_the_pictures_it_is_shown() -> None:
    torch.manual_seed(0)
    model = Reader()
    pictures = torch.rand(4, 3, 64, 64) * 2 - 1
    scenes = [
        Scene(CAT, small=True, place="left", background="blue", style=""),
        Scene(BARE, small=False, place="", background="green", style=""),
        Scene(CAT, small=False, place="top", background="", style="neon"),
        Scene(BARE, small=False, place="", background="pink", style="pixel"),
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss = loss_of(model(pictures), scenes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    read = model.eval().read(pictures)
    assert [one["kind"] for one in read] == ["cat", "monster", "cat", "monster"]
    for seen, scene in zip(read, scenes, strict=True):
        assert {k: seen[k] for k in truth(scene)} == truth(scene)
        assert not any(name.startswith("robot/") for name in seen)
    assert of(model(pictures), "size").shape == (4, 2)
