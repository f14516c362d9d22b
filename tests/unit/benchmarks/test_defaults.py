"""What the study of defaults computes from what was read: the cheapest setting as good as the best, and its page."""

import pytest

from benchmarks.defaults import Seen, Setting, cheapest, difference, page

NAMES = "abcd"


def of(truths: str) -> dict[str, Seen]:
    """Subjects a, b, …, each with a truth in tenths."""
    return {name: Seen(int(digit) / 10, int(digit) / 10) for name, digit in zip(NAMES, truths, strict=True)}


def test_the_truth_of_a_word_is_the_harmonic_mean_of_parts_and_obedience() -> None:
    assert Seen(0.5, 1.0).truth == pytest.approx(2 / 3)
    assert Seen(0.0, 1.0).truth == 0


def test_a_difference_is_taken_subject_by_subject() -> None:
    gap, error = difference(of("5678"), of("4567"))
    assert (gap, error) == (pytest.approx(0.1), pytest.approx(0, abs=1e-9))


def test_the_cheapest_setting_that_is_as_good_as_the_best_is_chosen() -> None:
    best, sooner, surely_worse = Setting(5e-3, 1, 160), Setting(5e-3, 1, 80), Setting(5e-3, 1, 20)
    found = {best: of("7777"), sooner: of("8676"), surely_worse: of("5555")}
    assert cheapest(found) == sooner
    found[Setting(5e-3, 4, 80)] = of("7777")
    assert cheapest(found) == sooner  # fewer vectors for the same steps
    found[sooner] = of("6666")
    assert cheapest(found) == Setting(5e-3, 4, 80)


def test_the_page_tells_both_halves_and_what_the_choice_is_worth_on_the_other() -> None:
    chosen, shipped = Setting(1e-2, 1, 60), Setting(5e-3, 1, 100)
    first = {Setting(rate, 1, steps): of("5566") for rate in (5e-3, 1e-2) for steps in (60, 100)}
    second = first | {chosen: of("7766"), shipped: of("5544")}
    told = page(first, second, chosen, {"first": ["a"] * 4}, ["| 4 | 0.6 | 0.9 |"])
    assert "**60 steps at 0.01, 1 vector**" in told
    assert "Chosen − shipped (100 steps at 0.005, 1): +0.200 (+0.200 to +0.200" in told
    assert "| 0.005 | 1 | **0.550** (0.55, 0.55) | **0.450** (0.45, 0.45) |" in told
