"""The judging station: what one checkpoint, or the class word alone, earns under the plan's protocol.

CLIP-I and CLIP-T as in the textual-inversion paper (arXiv 2208.01618, section 5): CLIP-I is the mean cosine of
generated to training pictures over all pairs, here on plain prompts; CLIP-T the cosine of generated pictures to their
prompt with the class word in place of the new word, here on edit prompts. This module decides nothing.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ti_core import formats
from ti_core.backbone.resident import resident
from ti_core.evaluation.clip import Clip, resident_clip
from ti_core.evaluation.sampler import sample
from ti_core.evaluation.words import encode
from ti_core.images.preprocess import png
from ti_core.records import Anchors, Cells, Plan, PreparedSet, PromptSet, Scores, Split
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, put_blob

TILE = 160
"""Longest side of a tile in the contact sheet, in pixels."""


def judge(
    plan: Plan,
    prepared: PreparedSet,
    step: int,
    vectors_blob: str | None,
    split: Split,
    settings: Settings,
    store: Store,
) -> Scores:
    """Generate and score the pictures of one checkpoint; `vectors_blob` None judges the class word alone (step 0)."""
    model = resident(plan.base, settings.device)
    clip = resident_clip(plan.judge, settings.device)
    prompts: PromptSet = getattr(plan.protocol, split)
    texts = (*prompts.plain, *prompts.edit)
    if vectors_blob is None:
        told = encode(model, [text.format(plan.concept.class_word) for text in texts], {})
    else:
        vectors = formats.read_checkpoint(get_blob(store, vectors_blob), f"checkpoint {step} of {plan.concept.name}")
        word = plan.concept.placeholder
        told = encode(model, [text.format(word) for text in texts], {word: vectors})

    count = len(prompts.seeds)
    protocol = plan.protocol
    jobs, seeds = told.repeat_interleave(count), [*prompts.seeds] * len(texts)
    pictures = sample(model, jobs, seeds, protocol.resolution, protocol.sampler_steps, protocol.guidance)
    features = clip.image_features([Image.fromarray(picture) for picture in pictures]).reshape(len(texts), count, -1)
    plain_PSE, edit_PSE = features[: len(prompts.plain)], features[len(prompts.plain) :]
    references_NE = _references(clip, store, prepared.squares)
    wanted_PE = clip.text_features([text.format(plan.concept.class_word) for text in prompts.edit])
    return Scores(
        step=step,
        split=split,
        protocol=plan.protocol_digest,
        clip_i=_cells(prompts.plain, prompts.seeds, (plain_PSE @ references_NE.T).mean(axis=-1)),
        clip_t=_cells(prompts.edit, prompts.seeds, np.einsum("pse,pe->ps", edit_PSE, wanted_PE)),
        strip=put_blob(store, _strip(pictures.reshape(len(texts), count, *pictures.shape[1:])[:, 0])),
    )


def anchors(plan: Plan, prepared: PreparedSet, class_word: Scores, settings: Settings, store: Store) -> Anchors:
    """The ends of both scales for the split of `class_word`, the class word's own scores."""
    clip = resident_clip(plan.judge, settings.device)
    references_NE = _references(clip, store, prepared.squares)
    prompts: PromptSet = getattr(plan.protocol, class_word.split)
    wanted_PE = clip.text_features([text.format(plan.concept.class_word) for text in prompts.edit])
    count = len(references_NE)
    pairs = references_NE @ references_NE.T
    real = (pairs.sum() - np.trace(pairs)) / (count * (count - 1)) if count > 1 else 1.0
    return Anchors(class_word=class_word, real=float(real), real_text=float((references_NE @ wanted_PE.T).mean()))


def _references(clip: Clip, store: Store, squares: tuple[str, ...]) -> NDArray[np.float32]:
    """Unit features [N, E] of the reference pictures."""
    pictures = [Image.open(io.BytesIO(get_blob(store, square))) for square in squares]
    return clip.image_features(pictures)


def _cells(prompts: tuple[str, ...], seeds: tuple[int, ...], values_PS: NDArray[np.floating]) -> Cells:
    return Cells(prompts=prompts, seeds=seeds, values=tuple(tuple(map(float, row)) for row in values_PS))


def _strip(pictures_PHW3: NDArray[np.uint8]) -> bytes:
    tiles = [Image.fromarray(picture) for picture in pictures_PHW3]
    for tile in tiles:
        tile.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    strip = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height))
    for index, tile in enumerate(tiles):
        strip.paste(tile, (index * tile.width, 0))
    return png(strip)
