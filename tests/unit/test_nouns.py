"""The list of nouns: plain words, each once, of which every base model knows many."""

from ti_core.backbone.folder import check_class_word, find_base, known_nouns
from ti_core.nouns import NEUTRAL, everyday


def test_the_nouns_are_plain_words_each_once() -> None:
    nouns = everyday()
    assert len(nouns) == len(set(nouns)) > 400
    assert all(noun.isalpha() and noun.islower() for noun in nouns)
    assert {"animal", "toy", "hat", "mug"} <= set(nouns)


def test_a_base_model_s_nouns_may_be_class_words() -> None:
    base = find_base("miniature")
    known = known_nouns(base)
    assert set(NEUTRAL.values()) <= set(known) < set(everyday()) and len(known) > 30
    for noun in known[::25]:
        check_class_word(noun, base)
