"""The published file: what other programs load. And the checkpoint's own file, which is the same thing by encoder.

Safetensors only, read and written with numpy, so that a client needs no torch and nothing is ever unpickled.

- `diffusers`: one tensor named by the placeholder, `<name>`; `load_textual_inversion` adds `<name>`, `<name>_1`, …
- `a1111`: one tensor named `emb_params`; AUTOMATIC1111, ComfyUI and kohya's scripts take the word from the file's name.

Vectors are [V, D] fp32 by encoder; SD 1.x has the one encoder `clip_l`.
"""

from collections.abc import Mapping

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


def write(vectors: Vectors, placeholder: str, layout: Layout) -> bytes:
    """Vectors of an SD 1.x word as a file in `layout`."""
    (rows_VD,) = vectors.values()
    key = placeholder if layout == "diffusers" else "emb_params"
    return save({key: np.ascontiguousarray(rows_VD, np.float32)}, metadata={"format": "pt"})


def write_checkpoint(vectors: Vectors) -> bytes:
    """Vectors by encoder, for judging and for making published files later."""
    return save({name: np.ascontiguousarray(rows, np.float32) for name, rows in vectors.items()})


def read_checkpoint(data: bytes, source: str) -> dict[str, NDArray[np.float32]]:
    """Read `write_checkpoint`'s bytes. Raises IntegrityError when they are damaged; the message names `source`."""
    try:
        return load(data)
    except SafetensorError as error:
        raise IntegrityError(f"{source} is damaged: {error}.") from None
