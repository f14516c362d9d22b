"""A judged run in people's words: accepted and worth using said apart, and advice that fits the cause."""

import pytest

from tests.judged_run import JudgedRun
from ti_core.config import ConceptSpec
from ti_core.records import BatchRow, Cells, Manifest, Naming
from ti_core.reporting.words import class_word_doubt, command_of, file_note, in_words, namer

RUN = JudgedRun().manifest


def told(scaled_i: float = 0.7, scaled_t: float = 0.8, score: float = 0.6, **report: object) -> Manifest:
    """The run as if its report had said this."""
    said = {"scaled_i": scaled_i, "scaled_t": scaled_t, "score": score} | report
    return RUN.model_copy(update={"report": RUN.report.model_copy(update=said)})


def choosing(manifest: Manifest, **decision: object) -> Manifest:
    return manifest.model_copy(update={"decision": manifest.decision.model_copy(update=decision)})


def named(closer: float, **nearest: float) -> Manifest:
    naming = Naming(likeness=0.1, closer=closer, nearest=nearest)
    return RUN.model_copy(update={"anchors": RUN.anchors.model_copy(update={"naming": naming})})


@pytest.mark.parametrize(
    ("verdict", "score", "begins"),
    [
        ("accepted", 0.7, "Accepted, and worth using"),
        ("accepted", 0.4, "Accepted, and worth a try"),
        ("accepted", 0.1, "Accepted, but hardly worth using"),
        ("rejected", 0.6, "Rejected, and not published"),
        ("undecided", 0.6, "Undecided, and not published"),
    ],
)
def test_accepted_and_worth_using_are_two_things(verdict: str, score: float, begins: str) -> None:
    assert in_words(told(score, score, score, verdict=verdict)).standing.startswith(begins)


def test_a_word_that_does_one_of_both_is_not_called_worth_using() -> None:
    assert in_words(told(scaled_i=0.7, scaled_t=0.46, score=0.56)).standing.startswith("Accepted, and worth a try")


@pytest.mark.parametrize(
    ("scaled_i", "says"),
    [
        (0.9, "looks like your pictures"),
        (0.6, "comes near your pictures"),
        (0.3, "something of"),
        (0.1, "hardly looks like"),
    ],
)
def test_what_it_learned_is_told_with_how_far_it_goes(scaled_i: float, says: str) -> None:
    learned = in_words(told(scaled_i=scaled_i)).learned
    assert says in learned and f"{scaled_i:.0%} of the way from “toy”" in learned


def test_what_it_does_not_do_names_the_prompt_that_it_fell_furthest_behind_at() -> None:
    prompts = ("a {} on a beach", "a {} in snow", "a {} on a table")

    def cells(*means: float) -> Cells:
        return Cells(prompts=prompts, seeds=(1, 2), values=tuple((mean, mean) for mean in means))

    anchors = RUN.report.anchors
    word = anchors.class_word.model_copy(update={"clip_t": cells(0.30, 0.35, 0.20)})
    chosen = RUN.report.chosen.model_copy(update={"clip_t": cells(0.25, 0.22, 0.18)})
    hard = told(scaled_t=0.3, chosen=chosen, anchors=anchors.model_copy(update={"class_word": word}))
    lacks = in_words(hard).lacks
    assert "follows prompts only in part" in lacks and lacks.endswith("“toy” at “a <cat-toy> in snow”.")
    assert "hardly follows prompts" in in_words(told(scaled_t=0.1)).lacks
    assert in_words(told(scaled_t=0.9)).lacks == "It does what prompts ask about as well as “toy” does."


def test_a_word_with_nothing_to_mend_gets_no_advice() -> None:
    assert in_words(told()).advice == ()


def test_what_was_learned_too_little_is_told_by_whether_more_steps_would_help() -> None:
    last = RUN.decision.candidates[-1].step
    (rising,) = in_words(choosing(told(scaled_i=0.3), step=last, looks_bad_from=None)).advice
    assert f"--steps {2 * last}" in rising
    (level,) = in_words(told(scaled_i=0.3)).advice
    assert "--vectors 2" in level and "--steps" not in level


def test_what_was_learned_too_well_is_told_to_stop_earlier_and_not_to_go_on() -> None:
    (advice,) = in_words(told(scaled_i=0.9, scaled_t=0.2)).advice
    assert "ti judge cat-toy --rule editability" in advice and "fewer steps" in advice
    (both,) = in_words(told(scaled_i=0.2, scaled_t=0.2)).advice
    assert "--learning-rate" in both


def test_few_pictures_are_told() -> None:
    images = RUN.plan.images.model_copy(update={"pictures": RUN.plan.images.pictures[:2]})
    plan = RUN.plan.model_copy(update={"images": images})
    (advice,) = in_words(told().model_copy(update={"plan": plan})).advice
    assert "it has 2" in advice


def test_a_wrong_class_word_is_the_first_thing_to_mend() -> None:
    wrong = named(0.4, crown=0.3, ring=0.2, cap=0.1)
    assert "40%" in class_word_doubt(wrong) and "“crown”, “ring” and “cap” most of all" in class_word_doubt(wrong)
    unlike = wrong.model_copy(update={"report": told(scaled_i=0.3).report})
    assert in_words(unlike).advice[0] == class_word_doubt(wrong)
    assert class_word_doubt(named(0.1, crown=0.3)) == "" == class_word_doubt(RUN)


def test_what_has_no_scale_is_said_so() -> None:
    scale = RUN.decision.scale.model_copy(update={"image_usable": False, "text_usable": False})
    words = in_words(choosing(told(scaled_i=0.0, scaled_t=0.0), scale=scale))
    assert "could not be measured" in words.standing and "could not be measured" in words.learned
    assert "could not be measured" in words.lacks and words.advice == ()


def test_a_rejected_word_always_has_something_to_try() -> None:
    assert in_words(told(verdict="rejected", reason="Take a lower floor.")).advice == ("Take a lower floor.",)


def test_what_was_imported_is_not_told_to_train_longer() -> None:
    concept = RUN.plan.concept.model_copy(update={"imported": True})
    imported = told(scaled_i=0.3).model_copy(update={"plan": RUN.plan.model_copy(update={"concept": concept})})
    (advice,) = in_words(imported).advice
    assert "--initializer FILE" in advice and "--steps" not in advice


def test_the_command_of_a_concept_is_what_a_shell_takes_and_hides_what_was_hidden() -> None:
    concept = ConceptSpec(name="cat-toy", pictures="my pictures", class_word="toy")
    assert command_of(concept) == "ti train 'my pictures' --name cat-toy --class-word toy"
    other = concept.model_copy(update={"kind": "style", "vectors": 3, "initializer": "oil", "show_pictures": False})
    assert command_of(other).endswith("--kind style --initializer oil --vectors 3 --no-show-pictures")


def test_the_note_in_a_file_names_no_path() -> None:
    own = {"pictures": "/home/me/p", "initializer": "/home/me/words/cat.pt"}
    note = file_note(RUN.plan.base, RUN.plan.concept.model_copy(update=own))
    assert "--initializer cat.pt" in note and "/home" not in note


def test_a_toy_s_file_says_so_with_two_lines_and_no_path() -> None:
    base, concept = RUN.plan.base, RUN.plan.concept
    said, *lines = file_note(base, concept).splitlines()
    assert "toy" in said and "no other model" in said
    assert lines[0].startswith("export PSEUDOWORD_BASE_MODEL=") and lines[1].startswith("ti train PICTURES")
    assert concept.pictures not in file_note(base, concept)
    assert file_note(base.model_copy(update={"kind": "sd1"}), concept) == ""


def test_rows_are_told_apart_by_their_base_models_where_there_are_several() -> None:
    one, other = (BatchRow(concept="cat", status="failed", reason="", base=base) for base in ("sd15", "sdxl"))
    assert [namer([one, other])(row) for row in (one, other)] == ["cat (sd15)", "cat (sdxl)"]
    assert namer([one, one])(one) == "cat"
