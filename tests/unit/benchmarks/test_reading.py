"""The blind reading: its questions are fair, its page counts right answers and no others."""

import pytest

from benchmarks.reading import CHOICES, LETTERS, QUESTIONS, page, questions

NAMES = [f"thing-{number:02}" for number in range(32)]


def test_every_question_is_about_another_concept_and_has_one_right_answer_among_five() -> None:
    asked = questions(NAMES)
    right = [one[one["right"]] for one in asked]
    assert len(set(right)) == len(asked) == QUESTIONS
    assert all(len({one[letter] for letter in LETTERS}) == CHOICES for one in asked)
    assert len({one["right"] for one in asked}) == CHOICES, "no letter is always right"
    assert asked == questions(NAMES)


def test_the_page_counts_what_each_reader_got_right_and_says_what_he_took_it_for() -> None:
    asked = questions(NAMES)
    key = "".join(one["right"] for one in asked)
    wrong = LETTERS[(LETTERS.index(key[0]) + 1) % CHOICES]
    told = page(asked, {"all": key, "all but one": wrong + key[1:]})
    assert "| all | **24** | 100% |" in told and "| all but one | **23** | 96% |" in told
    assert f"| 1 | {key[0]}, {asked[0][key[0]]} | ✓ | {asked[0][wrong]} |" in told


@pytest.mark.parametrize("answers", ["A", "X" * QUESTIONS])
def test_a_reader_who_left_questions_out_is_refused(answers: str) -> None:
    with pytest.raises(ValueError, match=f"takes {QUESTIONS} letters"):
        page(questions(NAMES), {"hasty": answers})
