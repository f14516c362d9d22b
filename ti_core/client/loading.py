"""Words into a stock diffusers pipeline of Stable Diffusion 1.x, 2.x or XL. It imports neither torch nor diffusers
itself: the pipeline brings both."""

from collections.abc import Iterable
from typing import Any

from ti_core.client.fetching import get, words_in
from ti_core.errors import InputError
from ti_core.formats import read_published
from ti_core.settings import Settings

_LOADED = "_pseudoword_words"
"""Attribute of a pipeline: the sha256 of the file by the word that was loaded from it."""


def load_words(
    pipeline: Any,
    words: str | Iterable[str],
    base: str | None = None,
    settings: Settings | None = None,
    *,
    strict: bool = False,
    offline: bool = False,
) -> list[str]:
    """Fetch words, verify them, and load them into a diffusers pipeline. Returns their names.

    `words` is a prompt, of which every `<name>` is loaded, or names. The other arguments and the errors are those of
    `get`. What is loaded already is left as it is; a word of which there is a newer version is loaded anew. SDXL gets
    the vectors of both text encoders, and its second one then pools at the end of the text, as it was trained
    (docs/decisions/0006). Raises InputError where a word is for another kind of base model than the pipeline's.
    """
    import hashlib

    names = words_in(words) if isinstance(words, str) else list(words)
    loaded: dict[str, str] = getattr(pipeline, _LOADED, {})
    for name in names:
        path = get(name, base, settings=settings, strict=strict, offline=offline)
        data = path.read_bytes()
        sha256, word = hashlib.sha256(data).hexdigest(), f"<{name}>"
        if loaded.get(word) == sha256:
            continue
        _load(pipeline, word, data, str(path), anew=word in loaded)
        loaded = loaded | {word: sha256}
        setattr(pipeline, _LOADED, loaded)
    return names


def _load(pipeline: Any, word: str, data: bytes, source: str, anew: bool) -> None:
    """Put a word's vectors into every text encoder of a pipeline."""
    from safetensors.torch import load

    read_published(data, source)
    tensors = load(data)
    places = [(pipeline.tokenizer, pipeline.text_encoder)]
    if getattr(pipeline, "text_encoder_2", None) is not None:
        places.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
    rows = [tensors[name] for name in ("clip_l", "clip_g") if name in tensors] or list(tensors.values())
    widths = [encoder.get_input_embeddings().weight.shape[-1] for _, encoder in places]
    if [one.shape[-1] for one in rows] != widths:
        raise InputError(
            f"The word {word} has vectors of width {', '.join(str(one.shape[-1]) for one in rows)}, the text encoders "
            f"of this pipeline {', '.join(map(str, widths))}: it is for another base model."
        )
    for vectors, (tokenizer, encoder) in zip(rows, places, strict=True):
        if anew:
            # The first vector has the word's own token, the others are <word>_1, <word>_2, ….
            own = [one for one in tokenizer.get_added_vocab() if one == word or one.startswith(f"{word}_")]
            pipeline.unload_textual_inversion(own, tokenizer=tokenizer, text_encoder=encoder)
        pipeline.load_textual_inversion({word: vectors}, token=word, tokenizer=tokenizer, text_encoder=encoder)
    if len(places) > 1:
        pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id
