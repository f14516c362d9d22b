"""The published file: what other programs load. And the checkpoint's own file, which is the same thing by encoder.

Safetensors only, read and written with numpy, so that a client needs no torch and nothing is ever unpickled.

- `diffusers`: one tensor named by the placeholder, `<name>`; `load_textual_inversion` adds `<name>`, `<name>_1`, …
- `a1111`: one tensor named `emb_params`; AUTOMATIC1111, ComfyUI and kohya's scripts take the word from the file's name.

A word for two text encoders (SDXL) is one file with the tensors `clip_l` and `clip_g` in either layout: that is what
diffusers' own scripts, kohya's, AUTOMATIC1111 and ComfyUI agree on.

Vectors are [V, D] fp32 by encoder: `clip_l` for SD 1.x, `clip_h` for SD 2.x, `clip_l` and `clip_g` for SDXL.
"""

import json
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ti_core.errors import IntegrityError
from ti_core.records import Layout

Vectors = Mapping[str, NDArray[np.float32]]

LAYOUTS: tuple[Layout, ...] = ("diffusers", "a1111")


def filename(name: str, layout: Layout) -> str:
    """Name of the published file of concept `name`. AUTOMATIC1111 and ComfyUI read the word from it."""
    return f"{name}.safetensors" if layout == "a1111" else f"{name}.diffusers.safetensors"


def write(vectors: Vectors, placeholder: str, layout: Layout, note: str = "") -> bytes:
    """Vectors of a word as a published file in `layout`. A `note` for people goes into its metadata."""
    named = vectors
    if len(vectors) == 1:
        named = {placeholder if layout == "diffusers" else "emb_params": next(iter(vectors.values()))}
    data = save({key: np.ascontiguousarray(rows, np.float32) for key, rows in named.items()}, {"format": "pt"})
    return _with_note(data, note) if note else data


def _with_note(data: bytes, note: str) -> bytes:
    """A safetensors file with `note` in its metadata. The library would write several entries in any order, and the
    same word is to be the same bytes."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"]["note"] = note
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[start:]


def diffusers_lines(encoders: Collection[str], file: str, placeholder: str) -> str:
    """Python that loads the published `file` (any layout) into a stock diffusers pipeline named `pipeline`.

    SDXL's published configurations pool at the largest token id, which is the new word's once it is added: the last
    line makes the second text encoder pool at the end of the text again (docs/decisions/0006).
    """
    if len(encoders) == 1:
        return f'pipeline.load_textual_inversion("{file}", token="{placeholder}")'
    return "\n".join(
        [
            "from safetensors.torch import load_file",
            f'vectors = load_file("{file}")',
            f'pipeline.load_textual_inversion(vectors["clip_l"], token="{placeholder}", '
            "text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer)",
            f'pipeline.load_textual_inversion(vectors["clip_g"], token="{placeholder}", '
            "text_encoder=pipeline.text_encoder_2, tokenizer=pipeline.tokenizer_2)",
            "pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id",
        ]
    )


def write_checkpoint(vectors: Vectors) -> bytes:
    """Vectors by encoder, for judging and for making published files later."""
    return save({name: np.ascontiguousarray(rows, np.float32) for name, rows in vectors.items()})


def read_checkpoint(data: bytes, source: str) -> dict[str, NDArray[np.float32]]:
    """Read `write_checkpoint`'s bytes. Raises IntegrityError when they are damaged; the message names `source`."""
    try:
        return load(data)
    except SafetensorError as error:
        raise IntegrityError(f"{source} is damaged: {error}.") from None
