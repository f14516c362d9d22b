"""Protocols by name: what each asks for, disjoint sets, and the judges."""

import shutil
from pathlib import Path

import pytest

from tests.tiny import save_vit
from tests.unit.planning.test_dreambench import DATA, TEXT, write
from ti_core import keys
from ti_core.backbone.folder import MINIATURE
from ti_core.config import BackboneKind, ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.errors import InputError
from ti_core.planning import protocols
from ti_core.planning.dreambench import FILE
from ti_core.planning.plan import make_plan, replan
from ti_core.records import Plan
from ti_core.reporting.figures import caveats
from ti_core.settings import Settings

NAMES = ("standard", "quick", "textual-inversion-paper", "dreambench")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write(tmp_path)
    return Settings(home=tmp_path / "home", allowed_roots=(Path.cwd(), tmp_path))


def plan(settings: Settings, tmp_path: Path, **evaluation: object) -> Plan:
    """Plan disco, with dreambench's text at hand."""
    concept = ConceptSpec(name="disco", pictures="examples/concepts/disco", class_word="toy")
    given = EvaluationConfig.model_validate({"data": str(tmp_path)} | evaluation)
    return make_plan(concept, TrainingConfig(), given, SelectionRule(), "miniature", settings, None)


@pytest.mark.parametrize("name", NAMES)
def test_no_prompt_and_no_seed_is_in_both_sets(name: str, settings: Settings, tmp_path: Path) -> None:
    protocol = plan(settings, tmp_path, protocol=name).protocol
    chosen, told = protocol.select, protocol.report
    assert not {*chosen.plain, *chosen.edit} & {*told.plain, *told.edit}
    assert not set(chosen.seeds) & set(told.seeds)
    assert chosen.plain and chosen.edit and told.plain and told.edit


def test_standard_is_what_no_name_means(settings: Settings, tmp_path: Path) -> None:
    named, plain = plan(settings, tmp_path, protocol="standard"), plan(settings, tmp_path)
    assert named.protocol_digest == plain.protocol_digest and named.judge_key == plain.judge_key


def test_quick_makes_two_fifths_of_the_pictures(settings: Settings, tmp_path: Path) -> None:
    def pictures(name: str) -> int:
        told = plan(settings, tmp_path, protocol=name).protocol.select
        return (len(told.plain) + len(told.edit)) * len(told.seeds)

    assert pictures("quick") == 24 and pictures("standard") == 60


def test_the_paper_s_protocol_is_the_paper_s(settings: Settings, tmp_path: Path) -> None:
    protocol = plan(settings, tmp_path, protocol="textual-inversion-paper").protocol
    assert (protocol.sampler, protocol.sampler_steps, protocol.guidance) == ("ddim", 50, 5.0)
    assert len(protocol.report.seeds) == 64 and protocol.report.plain[0] == "a photo of {}"
    assert len(protocol.report.plain) > 1, "one prompt cannot say how sure a likeness is"
    assert protocol.placeholder_policy == "removed" and protocol.pairing == "all-pairs"
    assert len(protocol.select.seeds) == 5, "every checkpoint is judged on few seeds, the chosen one on all"


def test_the_published_prompts_are_in_no_choosing_set(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(TEXT.replace("in the jungle", "on a blue background"))
    with pytest.raises(InputError, match=r"on a blue background' is in the choosing and in the reporting set"):
        plan(settings, tmp_path, protocol="dreambench")


def test_one_seed_is_refused_at_planning_and_when_a_run_is_judged_again(settings: Settings, tmp_path: Path) -> None:
    reason = "One seed cannot say how much of a score is luck: give at least two"
    with pytest.raises(InputError, match=reason):
        plan(settings, tmp_path, seeds=1)
    with pytest.raises(InputError, match=reason):
        replan(plan(settings, tmp_path), EvaluationConfig(seeds=1), SelectionRule(), "", settings)


def test_an_old_run_whose_sets_cannot_be_sure_is_not_judged_again_by_them(settings: Settings, tmp_path: Path) -> None:
    old = plan(settings, tmp_path)
    few = old.protocol.report.model_copy(update={"plain": old.protocol.report.plain[:3]})
    old = old.model_copy(update={"protocol": old.protocol.model_copy(update={"report": few})})
    with pytest.raises(InputError, match="The reporting set has 3 plain prompts"):
        replan(old, EvaluationConfig(), SelectionRule(), "", settings)
    assert (
        replan(old, EvaluationConfig(protocol="quick"), SelectionRule(), "", settings).protocol.report.plain > few.plain
    )


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the DreamBooth data set is not at {DATA}")
@pytest.mark.parametrize("kind", ["miniature", "sd1"])
@pytest.mark.parametrize("class_word", ["toy", "dog"])
def test_the_data_set_s_own_prompts_meet_no_choosing_set(kind: BackboneKind, class_word: str) -> None:
    evaluation = EvaluationConfig(protocol="dreambench", data=str(DATA)).resolved(kind)
    concept = ConceptSpec(name="mine", pictures="p", class_word=class_word)
    select, report = protocols.sets_of(evaluation, kind, concept, Settings(allowed_roots=(DATA,)))
    assert len(report.edit) == 25 and not {*select.plain, *select.edit} & {*report.plain, *report.edit}


def test_dreambench_is_the_data_set_s(settings: Settings, tmp_path: Path) -> None:
    protocol = plan(settings, tmp_path, protocol="dreambench").protocol
    assert protocol.report.edit == ("a {} in the jungle", "a red {}") and len(protocol.report.seeds) == 4
    assert protocol.placeholder_policy == "class-word"
    for missing in ("", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match=r"prompts_and_classes\.txt .*--data"):
            plan(settings, tmp_path, protocol="dreambench", data=missing)


def test_a_batch_of_the_data_set_is_judged_by_its_own_prompts(settings: Settings, tmp_path: Path) -> None:
    bench, plain = EvaluationConfig(protocol="dreambench"), EvaluationConfig()
    assert protocols.with_data(bench, str(tmp_path), settings).data == str(tmp_path)
    assert protocols.with_data(plain, str(tmp_path), settings) == plain
    other = tmp_path / "other"
    other.mkdir()
    assert protocols.with_data(bench.model_copy(update={"data": str(tmp_path)}), str(other), settings).data == str(
        tmp_path
    )
    with pytest.raises(InputError, match=f"there is none in {other}"):
        protocols.with_data(bench, str(other), settings)


def test_a_run_by_dreambench_is_judged_again_without_the_data_set(settings: Settings, tmp_path: Path) -> None:
    old = plan(settings, tmp_path, protocol="dreambench")
    (tmp_path / FILE).unlink()
    again = replan(old, EvaluationConfig(seeds=2), SelectionRule(), "", settings)
    assert again.protocol.report.edit == old.protocol.report.edit and (
        len(again.protocol.select.seeds),
        len(again.protocol.report.seeds),
    ) == (2, 4)
    write(tmp_path)
    named = replan(old, EvaluationConfig(protocol="dreambench"), SelectionRule(), "", settings)
    assert named.protocol_digest == old.protocol_digest


def test_own_prompts_do_not_put_every_step_on_a_published_protocol_s_seeds(settings: Settings, tmp_path: Path) -> None:
    own = {
        "select": {"plain": ["a {}", "the {}"], "edit": ["a wet {}", "a red {}"]},
        "report": {"plain": ["one {}", "my {}", "this {}", "some {}"], "edit": ["a dry {}", "a cold {}"]},
    }
    protocol = plan(settings, tmp_path, protocol="textual-inversion-paper", prompts=own).protocol
    assert (len(protocol.select.seeds), len(protocol.report.seeds)) == (5, 64)


def test_judging_again_keeps_judge_and_second_opinion_unless_a_published_protocol_names_others(
    settings: Settings, tmp_path: Path
) -> None:
    clip = shutil.copytree(MINIATURE / "mini-clip", tmp_path / "clip")
    vit = save_vit(tmp_path / "vit")
    own = settings.model_copy(update={"clip": str(clip), "dino": str(vit)})
    old = plan(own, tmp_path)
    for evaluation in (EvaluationConfig(), EvaluationConfig(protocol="quick")):
        again = replan(old, evaluation, SelectionRule(), "", settings)
        assert again.judge == old.judge and again.opinion == old.opinion
    named = replan(old, EvaluationConfig(protocol="textual-inversion-paper"), SelectionRule(), "", settings)
    assert named.judge.name == "miniature" and named.opinion is None


def test_a_second_opinion_that_only_the_protocol_asks_for_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    folder = shutil.copytree(MINIATURE / "mini-sd", tmp_path / "my-sd")
    bench = EvaluationConfig(protocol="dreambench", data=str(tmp_path))
    concept = ConceptSpec(name="disco", pictures="examples/concepts/disco", class_word="toy")
    settings = Settings(home=tmp_path / "home", allowed_roots=(Path.cwd(), tmp_path))
    made = make_plan(concept, TrainingConfig(), bench, SelectionRule(), str(folder), settings, None)
    assert made.opinion is None and made.judge.name == "ViT-B-32/openai"
    assert "PSEUDOWORD_DINO may name a folder" in caplog.text
    assert "There was no DINO" in " ".join(caveats(made))
    named = settings.model_copy(update={"dino": "owner/nothing"})
    with pytest.raises(InputError, match="owner/nothing"):
        make_plan(concept, TrainingConfig(), bench, SelectionRule(), str(folder), named, None)


def test_published_protocols_ask_for_their_own_judges_but_not_of_the_miniature(tmp_path: Path) -> None:
    none, named = Settings(home=tmp_path), Settings(home=tmp_path, clip="my/clip", dino="my/vit")
    bench = EvaluationConfig(protocol="dreambench")
    assert protocols.judges(bench, "sd1", none) == ("ViT-B-32/openai", "facebook/dino-vits16")
    assert protocols.judges(bench, "sd1", named) == ("my/clip", "my/vit")
    assert protocols.judges(bench, "miniature", none) == ("", "")
    assert protocols.judges(EvaluationConfig(protocol="textual-inversion-paper"), "sdxl", none) == (
        "ViT-B-32/openai", ""
    )  # fmt: skip
    assert protocols.judges(EvaluationConfig(), "sd1", none) == ("", "")


def test_own_prompts_take_the_place_of_the_protocol_s(settings: Settings, tmp_path: Path) -> None:
    own = {
        "select": {"plain": ["a {}", "the {}"], "edit": ["a wet {}", "a red {}"]},
        "report": {"plain": ["one {}", "my {}", "this {}", "some {}"], "edit": ["a dry {}", "a cold {}"]},
    }
    protocol = plan(settings, tmp_path, prompts=own, seeds=3).protocol
    assert (protocol.select.plain, protocol.select.edit) == (("a {}", "the {}"), ("a wet {}", "a red {}"))
    assert protocol.report.edit == ("a dry {}", "a cold {}") and len(protocol.select.seeds) == 3
    assert len(protocol.report.seeds) == 4, "the fewest that a verdict can rest on"


def test_a_set_of_one_prompt_is_refused_before_anything_is_made(settings: Settings, tmp_path: Path) -> None:
    own = {
        "select": {"plain": ["a {}", "the {}"], "edit": ["a wet {}", "a red {}"]},
        "report": {"plain": ["one {}"], "edit": ["a dry {}", "a cold {}"]},
    }
    with pytest.raises(InputError, match="The reporting set has 1 plain and 2 edit prompts: one alone cannot say"):
        plan(settings, tmp_path, prompts=own)
    own["report"]["plain"] += ["my {}", "this {}"]
    with pytest.raises(InputError, match=r"reporting set has 3 plain prompts: .* give at least 4"):
        plan(settings, tmp_path, prompts=own)


def test_judging_again_takes_a_named_protocol_s_numbers_and_otherwise_keeps_the_old(
    settings: Settings, tmp_path: Path
) -> None:
    old = plan(settings, tmp_path, seeds=3, guidance=2.0)
    kept = replan(old, EvaluationConfig(sampler_steps=4), SelectionRule(), "", settings)
    assert (kept.evaluation.seeds, kept.evaluation.guidance, kept.evaluation.sampler_steps) == (3, 2.0, 4)
    paper = EvaluationConfig(protocol="textual-inversion-paper", seeds=2)
    named = replan(old, paper, SelectionRule(), "", settings)
    assert (named.evaluation.seeds, named.evaluation.guidance, named.protocol.sampler_steps) == (2, 5.0, 50)
    assert named.train_key == old.train_key
    again = replan(named, EvaluationConfig(), SelectionRule(), "", settings)
    assert again.protocol_digest == named.protocol_digest


def test_the_name_is_no_part_of_the_digest(settings: Settings, tmp_path: Path) -> None:
    protocol = plan(settings, tmp_path).protocol
    own = {
        "select": {"plain": protocol.select.plain, "edit": protocol.select.edit},
        "report": {"plain": protocol.report.plain, "edit": protocol.report.edit},
    }
    same = plan(settings, tmp_path, protocol="quick", prompts=own, seeds=5)
    assert keys.protocol_digest(same.protocol) == keys.protocol_digest(protocol)
    assert keys.protocol_digest(protocol) != keys.protocol_digest(
        protocol.model_copy(update={"placeholder_policy": "removed"})
    )
