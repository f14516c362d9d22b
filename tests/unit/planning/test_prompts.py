"""Prompts: one place for the word, nothing shared between choosing and reporting, no word the miniature lacks."""

import re

import pytest

from ti_core.backbone.folder import check_class_word, find_base
from ti_core.config import DEFAULTS
from ti_core.planning.prompts import prompt_sets, templates

KINDS = [(backbone, kind) for backbone in DEFAULTS for kind in ("object", "style")]


@pytest.mark.parametrize(("backbone", "kind"), KINDS)
def test_choosing_and_reporting_share_no_prompt_and_no_seed(backbone: str, kind: str) -> None:
    select, report = prompt_sets(backbone, kind, 64)  # the most seeds a user can ask for
    assert not {*select.plain, *select.edit} & {*report.plain, *report.edit}
    assert not set(select.seeds) & set(report.seeds)


@pytest.mark.parametrize(("backbone", "kind"), KINDS)
def test_every_prompt_has_one_place_for_the_word(backbone: str, kind: str) -> None:
    for one in prompt_sets(backbone, kind, 1):
        for prompt in (*one.plain, *one.edit):
            assert re.findall(r"[{}]+", prompt) == ["{}"], prompt
    for template in templates(kind):
        assert re.findall(r"[{}]+", template) == ["{}"], template


@pytest.mark.parametrize(("backbone", "kind"), KINDS)
def test_no_prompt_stands_twice_and_both_sets_are_as_large(backbone: str, kind: str) -> None:
    select, report = prompt_sets(backbone, kind, 3)
    for one in (select, report):
        assert len({*one.plain, *one.edit}) == len(one.plain) + len(one.edit)
        assert len(one.plain) >= 6 and len(one.edit) >= 6
        assert len(set(one.seeds)) == 3
    assert len(select.plain) == len(report.plain) and len(select.edit) == len(report.edit)
    assert len(set(templates(kind))) == len(templates(kind)) >= 10


@pytest.mark.parametrize("backbone", DEFAULTS)
def test_edit_prompts_are_not_what_training_says(backbone: str) -> None:
    """Training templates say nothing about the scene; a prompt that tests obedience must."""
    select, report = prompt_sets(backbone, "object", 1)
    assert not {*select.edit, *report.edit} & set(templates("object"))


@pytest.mark.parametrize("kind", ["object", "style"])
def test_the_miniature_knows_every_word_of_its_prompts(kind: str) -> None:
    base = find_base("miniature")
    prompts = [*templates(kind)] + [p for one in prompt_sets("miniature", kind, 1) for p in (*one.plain, *one.edit)]
    for prompt in prompts:
        # CLIP's tokenizer takes letters and hyphens apart before it looks anything up.
        check_class_word(prompt.replace("{}", " ").replace("-", " - "), base)


def test_the_word_for_concepts_that_name_none_is_known() -> None:
    check_class_word("object", find_base("miniature"))
