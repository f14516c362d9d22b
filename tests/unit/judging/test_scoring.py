"""The judging station on the miniature, against the same scores computed slowly, one picture at a time."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from tests.tiny import miniature, save_vit, stock_pipeline
from ti_core import formats
from ti_core.backbone.folder import find_judge, known_nouns
from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.errors import NotFoundError
from ti_core.judging import scoring
from ti_core.judging.clip import resident_clip
from ti_core.judging.dino import resident_dino
from ti_core.judging.scoring import anchors, judge, judge_round, naming
from ti_core.keys import request_digest
from ti_core.planning.plan import make_plan
from ti_core.records import JudgeRequest, Plan, PreparedSet, PromptSet, Scores, Split
from ti_core.reporting.words import DOUBTFUL
from ti_core.sampling import sampler
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store, put_blob
from ti_core.training.running import prepare

SELECT = PromptSet(plain=("a photo of a {}", "the {}"), edit=("a {} on a blue background",) * 1, seeds=(5, 6, 7))
REPORT = PromptSet(plain=("a picture of a {}",), edit=("a small {}", "a {} on a red background"), seeds=(50,))


class Bench:
    """One planned concept with short prompt sets, its pictures prepared."""

    def __init__(self, home: Path, concept: str = "disco", dino: str = "") -> None:
        self.settings = Settings(home=home, device="cpu", allowed_roots=(Path.cwd(),), dino=dino)
        self.store: Store = open_store(self.settings)
        plan = make_plan(
            ConceptSpec(name=concept, pictures=f"examples/concepts/{concept}", class_word="cat"),
            TrainingConfig(), EvaluationConfig(seeds=2, sampler_steps=2), SelectionRule(),
            "miniature", self.settings, self.store,
        )  # fmt: skip
        protocol = plan.protocol.model_copy(update={"select": SELECT, "report": REPORT})
        self.plan: Plan = plan.model_copy(update={"protocol": protocol, "protocol_digest": "p" * 32})
        self.prepared: PreparedSet = prepare(self.plan, self.settings, self.store)
        rows = np.random.default_rng(0).normal(0, 0.05, (2, 128)).astype(np.float32)
        self.word = {"clip_l": rows}
        self.blob = put_blob(self.store, formats.write_checkpoint(self.word))

    def forget(self) -> None:
        """Remove what was judged, so that it is judged again."""
        for place in [key for key in self.store.keys("") if "/scores/" in key]:
            self.store.delete(place)

    def judge(self, step: int, blob: str | None, split: Split = "select") -> Scores:
        return judge(self.plan, self.prepared, step, blob, split, self.settings, self.store)

    def one_picture(self, prompt: str, seed: int) -> np.ndarray:
        told = encode(miniature(), [prompt], {"<disco>": self.word})
        return sample(miniature(), told, [seed], Sampling.of(self.plan.protocol))[0]

    def references(self) -> list[np.ndarray]:
        squares = [Image.open(io.BytesIO(get_blob(self.store, blob))) for blob in self.prepared.squares]
        return [self.features(np.asarray(square)) for square in squares]

    def features(self, picture: np.ndarray) -> np.ndarray:
        with resident_clip(self.plan.judge, "cpu") as clip:
            return clip.image_features([Image.fromarray(picture)])[0].astype(float)

    def text(self, text: str) -> np.ndarray:
        with resident_clip(self.plan.judge, "cpu") as clip:
            return clip.text_features([text])[0].astype(float)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def scores(bench: Bench) -> Scores:
    return bench.judge(40, bench.blob)


def test_cells_are_prompt_by_seed(scores: Scores, bench: Bench) -> None:
    assert (scores.step, scores.split, scores.protocol) == (40, "select", "p" * 32)
    assert (scores.clip_i.prompts, scores.clip_i.seeds) == (SELECT.plain, SELECT.seeds)
    assert (scores.clip_t.prompts, scores.clip_t.seeds) == (SELECT.edit, SELECT.seeds)
    assert np.shape(scores.clip_i.values) == (2, 3)
    assert np.shape(scores.clip_t.values) == (1, 3)


def test_scores_are_what_a_slow_computation_gives(scores: Scores, bench: Bench) -> None:
    references = bench.references()

    def cells(texts: tuple[str, ...], score: Callable[[str, np.ndarray], float]) -> list[list[float]]:
        return [
            [score(text, bench.features(bench.one_picture(text.format("<disco>"), seed))) for seed in SELECT.seeds]
            for text in texts
        ]

    slow_i = cells(SELECT.plain, lambda _, seen: float(np.mean([seen @ reference for reference in references])))
    slow_t = cells(SELECT.edit, lambda text, seen: float(seen @ bench.text(text.format("cat"))))
    # Pictures of another batch shape differ by one level here and there.
    np.testing.assert_allclose(scores.clip_i.values, slow_i, atol=2e-3)
    np.testing.assert_allclose(scores.clip_t.values, slow_t, atol=2e-3)
    assert np.std(scores.clip_i.values) > 0.01, "cells differ, so a wrong order would show"


def test_the_strip_shows_the_first_seed_of_every_prompt(scores: Scores, bench: Bench) -> None:
    strip = np.asarray(Image.open(io.BytesIO(get_blob(bench.store, scores.strip)))).astype(int)
    assert strip.shape == (64, 3 * 64, 3)
    for column, text in enumerate((*SELECT.plain, *SELECT.edit)):
        tile = strip[:, 64 * column : 64 * (column + 1)]
        assert np.abs(tile - bench.one_picture(text.format("<disco>"), SELECT.seeds[0])).max() <= 2


def test_the_class_word_is_measured_beside_nouns_that_the_base_model_knows(scores: Scores, bench: Bench) -> None:
    references, known = bench.references(), known_nouns(bench.plan.base)

    def cosines(noun: str) -> list[float]:
        told = bench.text(f"a photo of {'an' if noun[0] in 'aeiou' else 'a'} {noun}")
        return [float(one @ told) for one in references]

    with resident_clip(find_judge("", "miniature"), "cpu") as clip:
        wrong = naming("plant", known, clip, np.stack(references))
    right = anchors(bench.plan, bench.prepared, scores, bench.settings, bench.store).naming
    assert right is not None
    for word, found in (("cat", right), ("plant", wrong)):
        own = cosines(word)
        others = [noun for noun in known if noun != word]
        closer = {noun: float(np.mean(cosines(noun))) for noun in others if np.all(np.array(cosines(noun)) > own)}
        assert found.likeness == pytest.approx(np.mean(own), abs=1e-5)
        assert found.closer == pytest.approx(len(closer) / len(others))
        assert list(found.nearest) == sorted(closer, key=lambda noun: -closer[noun])[:3]
    assert right.closer < DOUBTFUL < wrong.closer < 1 and "cat" in wrong.nearest


def test_a_style_s_class_word_and_the_reporting_set_s_are_not_measured(scores: Scores, bench: Bench) -> None:
    concept = bench.plan.concept.model_copy(update={"kind": "style"})
    style = bench.plan.model_copy(update={"concept": concept})
    assert anchors(style, bench.prepared, scores, bench.settings, bench.store).naming is None
    told = scores.model_copy(update={"split": "report"})
    assert anchors(bench.plan, bench.prepared, told, bench.settings, bench.store).naming is None


def test_plain_prompts_alone_can_be_judged(bench: Bench) -> None:
    plain = bench.plan.protocol.model_copy(update={"report": REPORT.model_copy(update={"edit": ()})})
    plan = bench.plan.model_copy(update={"protocol": plain, "protocol_digest": "n" * 32})
    alone = judge(plan, bench.prepared, 0, None, "report", bench.settings, bench.store)
    both = bench.judge(0, None, "report")
    np.testing.assert_allclose(alone.clip_i.values, both.clip_i.values, atol=2e-3)
    assert alone.clip_t.values == ()


def test_what_was_judged_is_kept_and_not_judged_again(
    scores: Scores, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as nothing_made:
        nothing_made.setattr(scoring, "sample_batch", lambda *_: pytest.fail("pictures were made again"))
        assert bench.judge(40, bench.blob) == scores
    bench.forget()
    close(bench.judge(40, bench.blob), scores)
    (place,) = [key for key in bench.store.keys("") if "/scores/" in key]
    bench.store.put(place, bench.store.get(place).data[:-20])
    close(bench.judge(40, bench.blob), scores)
    assert "is damaged" in caplog.text and "judged again" in caplog.text


@pytest.mark.parametrize("change", ["protocol_digest", "step", "seeds", "vectors"])
def test_other_pictures_are_not_taken_for_kept_ones(bench: Bench, scores: Scores, change: str) -> None:
    asked = request(bench, 40)
    other = {
        "protocol_digest": asked.model_copy(update={"plan": asked.plan.model_copy(update={change: "r" * 32})}),
        "step": asked.model_copy(update={"step": 41}),
        "seeds": asked.model_copy(update={"seeds": (5,)}),
        "vectors": asked.model_copy(update={"vectors": None}),
    }[change]
    assert request_digest(other) != request_digest(asked)


def test_the_class_word_alone_is_step_0_and_what_its_own_embedding_earns(bench: Bench) -> None:
    alone = bench.judge(0, None)
    assert alone.step == 0
    embedding = {name: rows.numpy() for name, rows in miniature().initial_vectors("cat", 1).items()}
    word = bench.judge(1, put_blob(bench.store, formats.write_checkpoint(embedding)))
    np.testing.assert_allclose(alone.clip_i.values, word.clip_i.values, atol=2e-3)
    np.testing.assert_allclose(alone.clip_t.values, word.clip_t.values, atol=2e-3)


def test_the_reporting_set_has_prompts_and_seeds_of_its_own(bench: Bench) -> None:
    report = bench.judge(40, bench.blob, "report")
    assert (report.split, report.clip_i.prompts, report.clip_t.prompts) == ("report", REPORT.plain, REPORT.edit)
    assert report.clip_i.seeds == REPORT.seeds
    assert np.shape(report.clip_t.values) == (2, 1)


def test_anchors_leave_out_the_self_pairs(bench: Bench, scores: Scores) -> None:
    ends = anchors(bench.plan, bench.prepared, scores, bench.settings, bench.store)
    references = bench.references()
    assert len(references) == 5
    pairs = [a @ b for i, a in enumerate(references) for j, b in enumerate(references) if i != j]
    assert ends.real == pytest.approx(float(np.mean(pairs)), abs=1e-5)
    wanted = bench.text(SELECT.edit[0].format("cat"))
    assert ends.real_text == pytest.approx(float(np.mean([r @ wanted for r in references])), abs=1e-5)
    assert ends.class_word is scores


def test_anchors_of_another_split_and_of_a_single_picture(bench: Bench) -> None:
    report = bench.judge(0, None, "report")
    single = bench.prepared.model_copy(update={"squares": bench.prepared.squares[:1]})
    ends = anchors(bench.plan, single, report, bench.settings, bench.store)
    assert ends.real == 1.0
    texts = [bench.text(text.format("cat")) for text in REPORT.edit]
    assert ends.real_text == pytest.approx(float(np.mean([bench.references()[0] @ text for text in texts])), abs=1e-5)


# --- rounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grump(tmp_path_factory: pytest.TempPathFactory, bench: Bench) -> Bench:
    """Another concept on the same store and settings."""
    other = Bench(bench.settings.home, "grump")
    rows = np.random.default_rng(1).normal(0, 0.05, (1, 128)).astype(np.float32)
    other.word = {"clip_l": rows}
    other.blob = put_blob(other.store, formats.write_checkpoint(other.word))
    return other


def request(bench: Bench, step: int, split: Split = "select", seeds: tuple[int, ...] = ()) -> JudgeRequest:
    vectors = bench.blob if step else None
    return JudgeRequest(
        plan=bench.plan, prepared=bench.prepared, step=step, vectors=vectors, split=split, seeds=seeds
    )  # fmt: skip


def close(one: Scores, other: Scores) -> None:
    """Equal up to what another batch shape does to a picture."""
    assert (one.step, one.split, one.protocol) == (other.step, other.split, other.protocol)
    for name in ("clip_i", "clip_t", "clip_i_edit", "clip_t_plain"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine.prompts, mine.seeds) == (theirs.prompts, theirs.seeds)
        np.testing.assert_allclose(mine.values, theirs.values, atol=2e-3)


def test_a_round_of_many_concepts_and_steps_is_what_each_gets_alone(
    bench: Bench, grump: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(bench, 40), request(grump, 20), request(grump, 0), request(bench, 40, "report")]
    alone = [judge_round([one], bench.settings, bench.store)[0] for one in requests]
    bench.forget()
    monkeypatch.setattr(sampler, "MOST", 7)  # batches end in the middle of requests
    for together, single in zip(judge_round(requests, bench.settings, bench.store), alone, strict=True):
        close(together, single)
    bench.forget()
    turned = judge_round(requests[::-1], bench.settings, bench.store)[::-1]
    for together, single in zip(turned, alone, strict=True):
        close(together, single)
    assert judge_round([], bench.settings, bench.store) == []


def test_a_class_word_that_two_concepts_have_is_drawn_once(
    bench: Bench, grump: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(bench, 0), request(grump, 0)]
    alone = [judge_round([one], bench.settings, bench.store)[0] for one in requests]
    bench.forget()
    made, stock = [], scoring.sample_batch
    monkeypatch.setattr(scoring, "sample_batch", lambda *given: made.append(len(given[3])) or stock(*given))
    for together, single in zip(judge_round(requests, bench.settings, bench.store), alone, strict=True):
        close(together, single)
    assert sum(made) == len(SELECT.seeds) * len((*SELECT.plain, *SELECT.edit))
    assert alone[0].clip_i.mean != alone[1].clip_i.mean, "each by its own pictures"


def test_requests_of_other_samplers_do_not_share_batches(bench: Bench) -> None:
    protocol = bench.plan.protocol.model_copy(update={"guidance": 1.5})
    weak = request(bench, 40).model_copy(
        update={"plan": bench.plan.model_copy(update={"protocol": protocol, "protocol_digest": "q" * 32})}
    )
    first, other = judge_round([request(bench, 40), weak], bench.settings, bench.store)
    close(first, bench.judge(40, bench.blob))
    assert other.protocol == "q" * 32
    assert np.abs(np.subtract(first.clip_i.values, other.clip_i.values)).max() > 0.01


def test_a_round_s_pictures_are_those_of_stock_pipelines_with_the_published_files(
    bench: Bench, grump: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp32, 2/255: one resident U-Net in mixed batches against one pipeline per checkpoint and one picture a call."""
    bench.forget()
    monkeypatch.setattr(sampler, "MOST", 5)
    scores = judge_round([request(bench, 40), request(grump, 20)], bench.settings, bench.store)
    for one, given in zip((bench, grump), scores, strict=True):
        word = one.plan.concept.placeholder
        path = tmp_path / f"{one.plan.concept.name}.safetensors"
        path.write_bytes(formats.write(one.word, word, "diffusers"))
        pipeline = stock_pipeline(one.plan.base.folder)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        pipeline.load_textual_inversion(str(path), token=word)
        strip = np.asarray(Image.open(io.BytesIO(get_blob(one.store, given.strip)))).astype(int)
        for column, text in enumerate((*SELECT.plain, *SELECT.edit)):
            stock = pipeline(
                text.format(word), num_inference_steps=2, guidance_scale=one.plan.protocol.guidance,
                generator=torch.Generator("cpu").manual_seed(SELECT.seeds[0]),
            ).images[0]  # fmt: skip
            assert np.abs(strip[:, 64 * column : 64 * (column + 1)] - np.asarray(stock).astype(int)).max() <= 2


def test_some_seeds_of_a_request_are_the_same_cells(bench: Bench, scores: Scores) -> None:
    few = bench_seeds(bench, (6, 7))
    assert few.clip_i.seeds == few.clip_t.seeds == (6, 7)
    np.testing.assert_allclose(few.clip_i.values, np.array(scores.clip_i.values)[:, 1:], atol=2e-3)
    np.testing.assert_allclose(few.clip_t.values, np.array(scores.clip_t.values)[:, 1:], atol=2e-3)


def bench_seeds(bench: Bench, seeds: tuple[int, ...]) -> Scores:
    return judge_round([request(bench, 40, seeds=seeds)], bench.settings, bench.store)[0]


def test_every_picture_has_both_scores(scores: Scores, bench: Bench) -> None:
    seen = [bench.features(bench.one_picture(SELECT.edit[0].format("<disco>"), seed)) for seed in SELECT.seeds]
    slow = [np.mean([one @ reference for reference in bench.references()]) for one in seen]
    assert scores.clip_i_edit is not None and scores.clip_t_plain is not None and scores.dino is None
    np.testing.assert_allclose(scores.clip_i_edit.values[0], slow, atol=2e-3)
    plain = bench.features(bench.one_picture("a photo of a <disco>", 5)) @ bench.text("a photo of a cat")
    assert scores.clip_t_plain.values[0][0] == pytest.approx(plain, abs=2e-3)


def test_reference_pictures_are_looked_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with resident_clip(bench.plan.judge, "cpu") as clip:
        clip.kept.clear()
    looked: list[int] = []
    stock = clip.image_features
    monkeypatch.setattr(clip, "image_features", lambda pictures: looked.append(len(pictures)) or stock(pictures))
    bench.forget()
    few = [request(bench, 40, seeds=(5,)), request(bench, 0, seeds=(5,))]
    first = judge_round(few, bench.settings, bench.store)
    anchors(bench.plan, bench.prepared, first[1], bench.settings, bench.store)
    bench.forget()
    judge_round(few, bench.settings, bench.store)
    assert looked.count(5) == 1 and sum(looked) == 5 + 2 * 6


# --- a second opinion -------------------------------------------------------------------------------------------------


def test_a_second_opinion_sees_all_pictures_of_a_request(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "home", dino=str(save_vit(tmp_path / "vit")))
    assert bench.plan.opinion is not None and bench.plan.protocol.dino_digest == bench.plan.opinion.digest
    scores = bench.judge(40, bench.blob)
    assert scores.dino is not None
    assert scores.dino.prompts == (*SELECT.plain, *SELECT.edit) and scores.dino.seeds == SELECT.seeds
    squares = [Image.open(io.BytesIO(get_blob(bench.store, blob))) for blob in bench.prepared.squares]
    with resident_dino(bench.plan.opinion, "cpu") as eye:
        references = eye.image_features(squares)
        for row, text in enumerate((*SELECT.plain, *SELECT.edit)):
            seen = eye.image_features([Image.fromarray(bench.one_picture(text.format("<disco>"), 6))])[0]
            assert scores.dino.values[row][1] == pytest.approx(float((references @ seen).mean()), abs=2e-3)
    ends = anchors(bench.plan, bench.prepared, scores, bench.settings, bench.store)
    pairs = references @ references.T
    assert ends.real_dino == pytest.approx((pairs.sum() - 5) / 20, abs=1e-5)


# --- what CLIP-T reads ------------------------------------------------------------------------------------------------


def test_a_protocol_may_leave_the_word_out_of_what_clip_t_reads(bench: Bench, scores: Scores) -> None:
    protocol = bench.plan.protocol.model_copy(update={"placeholder_policy": "removed"})
    plan = bench.plan.model_copy(update={"protocol": protocol, "protocol_digest": "s" * 32})
    asked = JudgeRequest(plan=plan, prepared=bench.prepared, step=40, vectors=bench.blob, split="select", seeds=(5,))
    (given,) = judge_round([asked], bench.settings, bench.store)
    made = bench.one_picture("a <disco> on a blue background", 5)
    assert given.clip_t.values[0][0] == pytest.approx(
        float(bench.features(made) @ bench.text("a on a blue background")), abs=2e-3
    )
    assert abs(given.clip_t.values[0][0] - scores.clip_t.values[0][0]) > 1e-3
    ends = anchors(plan, bench.prepared, given, bench.settings, bench.store)
    assert ends.real_text == pytest.approx(
        float(np.mean([one @ bench.text("a on a blue background") for one in bench.references()])), abs=1e-5
    )


def test_clip_t_of_a_prompt_s_mean_feature_is_kept(bench: Bench, scores: Scores) -> None:
    seen = np.mean(
        [bench.features(bench.one_picture(SELECT.edit[0].format("<disco>"), seed)) for seed in (5, 6, 7)], axis=0
    )
    slow = seen @ bench.text(SELECT.edit[0].format("cat")) / np.linalg.norm(seen)
    assert scores.clip_t_of_mean == pytest.approx((slow,), abs=2e-3)
    assert scores.clip_t_of_mean[0] > scores.clip_t.mean + 1e-3


# --- a round that is stopped ------------------------------------------------------------------------------------------


def test_a_stopped_round_keeps_what_was_judged(bench: Bench, grump: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.forget()
    monkeypatch.setattr(sampler, "MOST", 9)  # one request of 3 prompts × 3 seeds a call
    calls, stock = [], scoring.sample_batch

    def stopped(*given: object) -> np.ndarray:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return stock(*given)

    requests = [request(bench, 0), request(bench, 40), request(grump, 41)]
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "sample_batch", stopped)
        with pytest.raises(KeyboardInterrupt):
            judge_round(requests, bench.settings, bench.store)
        assert len([key for key in bench.store.keys("") if "/scores/" in key]) == 2
        assert [one.step for one in judge_round(requests, bench.settings, bench.store)] == [0, 40, 41]
    assert len(calls) == 4, "the third alone was judged again"


def test_a_checkpoint_that_is_gone_is_told_before_any_picture_is_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.forget()
    monkeypatch.setattr(scoring, "sample_batch", lambda *_: pytest.fail("pictures were made"))
    gone = request(bench, 40).model_copy(update={"vectors": "0" * 64})
    with pytest.raises(NotFoundError):
        judge_round([request(bench, 0), gone], bench.settings, bench.store)


def test_all_seeds_said_one_by_one_are_the_same_request(bench: Bench) -> None:
    assert request_digest(request(bench, 40, seeds=SELECT.seeds)) == request_digest(request(bench, 40))
