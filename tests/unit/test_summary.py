"""How a batch is told in a few words."""

import pytest

from ti_core.summary import headline


@pytest.mark.parametrize(
    ("statuses", "name", "message"),
    [
        ("published published", "Published 2", "published 2"),
        ("published rejected skipped", "Rejected 1, published 1", "rejected 1, published 1, skipped 1. rejected: b"),
        (
            "published rejected undecided",
            "Undecided 1, rejected 1, published 1",
            "undecided 1, rejected 1, published 1. undecided: c. rejected: b",
        ),
        ("skipped skipped", "Nothing new", "skipped 2"),
        ("paused published", "Paused 1, published 1", "paused 1, published 1. paused: a"),
        ("failed rejected", "Partly failed: 1 of 2", "failed 1, rejected 1. failed: a. rejected: b"),
        ("failed failed", "Failed", "failed 2. failed: a, b"),
    ],
)
def test_the_first_word_tells_what_asks_for_a_hand(statuses: str, name: str, message: str) -> None:
    assert headline(list(zip("abc", statuses.split(), strict=False))) == (name, message)


def test_a_long_list_of_names_is_cut() -> None:
    _, message = headline([(f"word-{number:02}", "failed") for number in range(12)] + [("good", "published")])
    assert message.endswith("word-08, word-09 and 2 more")


def test_a_name_that_is_there_twice_counts_twice() -> None:
    assert headline([("fox", "published"), ("fox", "failed")])[0] == "Partly failed: 1 of 2"
