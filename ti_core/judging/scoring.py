"""Judging: what checkpoints, or the class word alone, earn under their plans' protocols.

CLIP-I and CLIP-T as in the textual-inversion paper (arXiv 2208.01618, section 5): CLIP-I is the mean cosine of
generated to training pictures over all pairs, CLIP-T the cosine of generated pictures to their prompt with the class
word in place of the new word. Rules read CLIP-I on plain prompts and CLIP-T on edit prompts; the others are kept.

A round judges any number of checkpoints of any number of concepts: their checkpoint × prompt × seed jobs go through
one resident U-Net in full batches, whatever they belong to, and only features, scores and first tiles are kept, so
memory does not grow with the pictures. This module decides nothing.

Shapes: P prompts, S seeds, N reference pictures, E embedding width.
"""

import io
import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from itertools import groupby
from typing import NamedTuple
from typing import Protocol as Shape

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ti_core import formats, progress
from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning
from ti_core.backbone.folder import known_nouns
from ti_core.backbone.resident import resident
from ti_core.errors import IntegrityError, NotFoundError
from ti_core.formats import Vectors
from ti_core.images.preprocess import png
from ti_core.judging.clip import Clip, resident_clip
from ti_core.judging.dino import resident_dino
from ti_core.judging.unlike import unlike
from ti_core.keys import request_digest
from ti_core.records import (
    Anchors,
    Cells,
    Finding,
    JudgeRequest,
    KeptScores,
    Naming,
    Plan,
    PreparedSet,
    PromptSet,
    Protocol,
    Scores,
    Split,
    scores_key,
)
from ti_core.sampling.sampler import Sampling, sample_batch
from ti_core.sampling.words import encode
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, put_blob

TILE = 160
"""Longest side of a tile in the contact sheet, in pixels."""

Features = NDArray[np.float32]
OnScores = Callable[[JudgeRequest, Scores], None]
"""Told of each request as soon as its scores are there."""

log = logging.getLogger(__name__)


class Eye(Shape):
    """What sees likeness: pictures to unit features [N, E], and a place to keep those of reference pictures."""

    kept: dict[tuple[str, ...], Features]

    def image_features(self, pictures: Sequence[Image.Image]) -> Features:
        """[N, E], each row of length one."""


class _Job(NamedTuple):
    """One picture: which request it belongs to, and its place in that request's grid."""

    request: int
    prompt: int
    seed: int


def judge(
    plan: Plan,
    prepared: PreparedSet,
    step: int,
    vectors_blob: str | None,
    split: Split,
    settings: Settings,
    store: Store,
    seeds: tuple[int, ...] = (),
) -> Scores:
    """`judge_round` for one checkpoint; `vectors_blob` None judges the class word alone (step 0)."""
    request = JudgeRequest(
        plan=plan, prepared=prepared, step=step, vectors=vectors_blob, split=split, seeds=seeds
    )  # fmt: skip
    return judge_round([request], settings, store)[0]


def judge_round(
    requests: Sequence[JudgeRequest], settings: Settings, store: Store, on_scores: OnScores = lambda *_: None
) -> list[Scores]:
    """Generate and score the pictures of all requests, and return their scores in the same order.

    Requests may be of different concepts, steps, splits and protocols; those that share base model, judges and sampler
    share batches. Scores are kept in the store, and what was judged before is not judged again. Raises InputError when
    a model does not load, NotFoundError or IntegrityError for a checkpoint that cannot be read.
    """
    found: dict[int, Scores] = {}
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, request in enumerate(requests):
        kept = _kept(request, store)
        if kept is not None:
            found[number] = kept
            on_scores(request, kept)
            continue
        plan, protocol = request.plan, request.plan.protocol
        key = (
            plan.base.digest, plan.judge.digest, protocol.dino_digest,
            protocol.resolution, protocol.sampler, protocol.sampler_steps, protocol.guidance,
        )  # fmt: skip
        groups.setdefault(key, []).append(number)
    for numbers in groups.values():
        alike = [requests[number] for number in numbers]
        plan = alike[0].plan
        words = [_vectors(one, store) for one in alike]  # a checkpoint that cannot be read is told before any picture
        with ExitStack() as lent:
            model = lent.enter_context(resident(plan.base, settings.device, precision=settings.precision))
            clip = lent.enter_context(resident_clip(plan.judge, settings.device))
            eyes: list[Eye] = [clip]
            if plan.opinion:
                eyes.append(lent.enter_context(resident_dino(plan.opinion, settings.device)))
            judged = lent.enter_context(closing(_judge_alike(alike, words, model, clip, eyes, store)))
            for place, scores in judged:  # kept one by one: a stopped round goes on
                store.put(_place(alike[place]), KeptScores(scores=scores).to_bytes())
                found[numbers[place]] = scores
                on_scores(alike[place], scores)
    return [found[number] for number in range(len(requests))]


def _place(request: JudgeRequest) -> str:
    return scores_key(request, request_digest(request))


def _kept(request: JudgeRequest, store: Store) -> Scores | None:
    """Scores of the same pictures, if there are any that can be read."""
    place = _place(request)
    try:
        return KeptScores.from_bytes(store.get(place).data, store.url(place)).scores
    except NotFoundError:
        return None
    except IntegrityError as error:
        log.warning("%s It is judged again.", error)
        return None


def anchors(plan: Plan, prepared: PreparedSet, class_word: Scores, settings: Settings, store: Store) -> Anchors:
    """The ends of both scales for the split of `class_word`, the class word's own scores; with the choosing set's also
    how well the class word names the pictures, and which of those is unlike the others."""
    prompts: PromptSet = getattr(plan.protocol, class_word.split)
    with resident_clip(plan.judge, settings.device) as clip:
        references_NE = _references(clip, store, prepared.squares)
        wanted_PE = clip.text_features(_read(plan.protocol, prompts.edit))
        named, odd = None, tuple[Finding, ...]()
        if class_word.split == "select" and plan.concept.kind == "object":  # a style's class word is a medium
            named = naming(plan.concept.class_word, known_nouns(plan.base), clip, references_NE)
            odd = unlike(references_NE, plan.images)
    real_dino = None
    if plan.opinion:
        with resident_dino(plan.opinion, settings.device) as dino:
            real_dino = _among_themselves(_references(dino, store, prepared.squares))
    return Anchors(
        class_word=class_word,
        real=_among_themselves(references_NE),
        real_text=float((references_NE @ wanted_PE.T).mean()),
        real_dino=real_dino,
        naming=named,
        unlike=odd,
    )


def naming(word: str, nouns: Sequence[str], clip: Clip, references_NE: Features) -> Naming:
    """How well a class word names the reference pictures, beside other nouns: it costs no picture."""
    # Not beside itself: rounding would count it as closer now and then.
    nouns = [noun for noun in nouns if noun != word]
    told_ME = clip.features_of_list(tuple(f"a photo of {_article(noun)} {noun}" for noun in nouns))
    word_N = references_NE @ clip.text_features([f"a photo of {_article(word)} {word}"])[0]
    cosines_NM = references_NE @ told_ME.T
    closer_M = (cosines_NM > word_N[:, None]).all(axis=0)
    mean_M = cosines_NM.mean(axis=0)
    nearest = [place for place in np.argsort(-mean_M) if closer_M[place]][:3]
    return Naming(
        likeness=float(word_N.mean()),
        closer=float(closer_M.mean()),
        nearest={nouns[place]: float(mean_M[place]) for place in nearest},
    )


def _article(noun: str) -> str:
    return "an" if noun[0].lower() in "aeiou" else "a"


def _judge_alike(
    requests: Sequence[JudgeRequest],
    words: Sequence[Vectors | None],
    model: Backbone,
    clip: Clip,
    eyes: Sequence[Eye],
    store: Store,
) -> Generator[tuple[int, Scores], None, None]:
    """Judge requests that share base model, judges and sampler; yields the place and the scores of each as its last
    picture is seen. Requests of the same pictures (a class word that many concepts have) are drawn once."""
    empty = model.unconditional()
    grids = [(_texts(one), _seeds(one)) for one in requests]
    sharing: dict[tuple[object, ...], list[int]] = {}
    for number, request in enumerate(requests):
        concept = request.plan.concept
        said = concept.placeholder if request.vectors else concept.class_word
        sharing.setdefault((request.vectors, said, *grids[number]), []).append(number)
    together = {numbers[0]: numbers for numbers in sharing.values()}
    jobs = [
        _Job(number, prompt, seed)
        for number in together
        for prompt in range(len(grids[number][0]))
        for seed in range(len(grids[number][1]))
    ]
    conditioning: dict[int, Conditioning] = {}
    seen: list[list[Features]] = [[] for _ in eyes]
    tiles: list[Image.Image] = []
    how = Sampling.of(requests[0].plan.protocol)
    for first in range(0, len(jobs), how.at_once):
        batch, began = jobs[first : first + how.at_once], time.perf_counter()
        present = {job.request for job in batch}
        # Jobs come request by request, so what an earlier batch needed and this one does not is done with.
        conditioning = {
            number: conditioning.get(number) or _conditioning(model, requests[number], words[number])
            for number in sorted(present)
        }
        prompts = Conditioning.cat(
            [
                conditioning[number].take(torch.tensor([job.prompt for job in of_request]))
                for number, of_request in groupby(batch, key=lambda job: job.request)
            ]
        )
        made = sample_batch(model, prompts, empty, [grids[job.request][1][job.seed] for job in batch], how)
        pictures = [Image.fromarray(picture) for picture in made]
        features = [eye.image_features(pictures) for eye in eyes]
        progress.tell(progress.Drawn(2 * how.steps * len(batch), time.perf_counter() - began))
        for place, (job, picture) in enumerate(zip(batch, pictures, strict=True)):
            for one, every in zip(seen, features, strict=True):
                one.append(every[place])
            if job.seed == 0:
                tiles.append(picture)
            texts, seeds = grids[job.request]
            if len(seen[0]) == len(texts) * len(seeds):
                of_request = [np.stack(one).reshape(len(texts), len(seeds), -1) for one in seen]
                strip = put_blob(store, _strip(tiles))
                for number in together[job.request]:
                    yield number, _scores(requests[number], clip, eyes, of_request, strip, store)
                seen, tiles = [[] for _ in eyes], []


def _scores(
    request: JudgeRequest, clip: Clip, eyes: Sequence[Eye], seen_PSE: Sequence[Features], strip: str, store: Store
) -> Scores:
    """Scores of one request from the features [P, S, E] of its pictures, one array per eye, CLIP's first."""
    plan, seeds = request.plan, _seeds(request)
    prompts: PromptSet = getattr(plan.protocol, request.split)
    texts, plain = _texts(request), len(prompts.plain)
    likeness = [
        (features @ _references(eye, store, request.prepared.squares).T).mean(axis=-1)
        for features, eye in zip(seen_PSE, eyes, strict=True)
    ]
    wanted_PE = clip.text_features(_read(plan.protocol, texts))
    follows_PS = np.einsum("pse,pe->ps", seen_PSE[0], wanted_PE)
    mean_PE = seen_PSE[0].mean(axis=1)
    of_mean_P = np.einsum("pe,pe->p", mean_PE, wanted_PE) / np.linalg.norm(mean_PE, axis=1)
    return Scores(
        step=request.step,
        split=request.split,
        protocol=plan.protocol_digest,
        clip_i=_cells(prompts.plain, seeds, likeness[0][:plain]),
        clip_t=_cells(prompts.edit, seeds, follows_PS[plain:]),
        strip=strip,
        clip_i_edit=_cells(prompts.edit, seeds, likeness[0][plain:]),
        clip_t_plain=_cells(prompts.plain, seeds, follows_PS[:plain]),
        clip_t_of_mean=tuple(map(float, of_mean_P[plain:])),
        dino=_cells(texts, seeds, likeness[1]) if len(eyes) > 1 else None,
    )


def _read(protocol: Protocol, texts: Sequence[str]) -> list[str]:
    """Prompts as CLIP-T reads them: with the class word in place of the new word, or without it."""
    word = protocol.class_word if protocol.placeholder_policy == "class-word" else ""
    return [" ".join(text.format(word).split()) for text in texts]


def _texts(request: JudgeRequest) -> tuple[str, ...]:
    prompts: PromptSet = getattr(request.plan.protocol, request.split)
    return *prompts.plain, *prompts.edit


def _seeds(request: JudgeRequest) -> tuple[int, ...]:
    prompts: PromptSet = getattr(request.plan.protocol, request.split)
    return request.seeds or prompts.seeds


def _vectors(request: JudgeRequest, store: Store) -> Vectors | None:
    """The checkpoint of a request; None for the class word."""
    if request.vectors is None:
        return None
    source = f"checkpoint {request.step} of {request.plan.concept.name}"
    return formats.read_checkpoint(get_blob(store, request.vectors), source)


def _conditioning(model: Backbone, request: JudgeRequest, vectors: Vectors | None) -> Conditioning:
    """Conditionings of a request's prompts."""
    concept, texts = request.plan.concept, _texts(request)
    if vectors is None:
        return encode(model, [text.format(concept.class_word) for text in texts], {})
    return encode(model, [text.format(concept.placeholder) for text in texts], {concept.placeholder: vectors})


def _references(eye: Eye, store: Store, squares: tuple[str, ...]) -> Features:
    """Unit features [N, E] of the reference pictures, computed once for an eye."""
    if squares not in eye.kept:
        eye.kept[squares] = eye.image_features([Image.open(io.BytesIO(get_blob(store, square))) for square in squares])
    return eye.kept[squares]


def _among_themselves(features_NE: Features) -> float:
    """Mean cosine over all pairs without self-pairs; 1.0 for a single picture."""
    count = len(features_NE)
    pairs = features_NE @ features_NE.T
    return float((pairs.sum() - np.trace(pairs)) / (count * (count - 1))) if count > 1 else 1.0


def _cells(prompts: tuple[str, ...], seeds: tuple[int, ...], values_PS: NDArray[np.floating]) -> Cells:
    return Cells(prompts=prompts, seeds=seeds, values=tuple(tuple(map(float, row)) for row in values_PS))


def _strip(tiles: Sequence[Image.Image]) -> bytes:
    for tile in tiles:
        tile.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    strip = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height))
    for index, tile in enumerate(tiles):
        strip.paste(tile, (index * tile.width, 0))
    return png(strip)
