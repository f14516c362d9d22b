"""The published file: what other programs load. And the checkpoint's own file, which is the same thing by encoder.

Safetensors only, read and written with numpy, so that a client needs no torch and nothing is ever unpickled.

- `diffusers`: one tensor named by the placeholder, `<name>`; `load_textual_inversion` adds `<name>`, `<name>_1`, …
- `a1111`: one tensor named `emb_params`; AUTOMATIC1111, ComfyUI and kohya's scripts take the word from the file's name.
- `kohya`: the same file, by the name that its users look for.
- `onetrainer`: one tensor named `emp_params`. It is not published but made of a published file while that is fetched,
  and back again where it is verified (`in_format`).

A word for two text encoders (SDXL) is one file with the tensors `clip_l` and `clip_g` in either layout: that is what
diffusers' own scripts, kohya's, AUTOMATIC1111 and ComfyUI agree on.

Vectors are [V, D] fp32 by encoder: `clip_l` for SD 1.x, `clip_h` for SD 2.x, `clip_l` and `clip_g` for SDXL.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ti_core.errors import IntegrityError
from ti_core.records import Format, Layout

Vectors = Mapping[str, NDArray[np.float32]]

LAYOUTS: tuple[Layout, ...] = ("diffusers", "a1111")
FORMATS: tuple[Format, ...] = get_args(Format)
MADE: tuple[Format, ...] = ("onetrainer",)
"""Formats that no published file has."""
_TENSORS: dict[Format, str] = {"a1111": "emb_params", "kohya": "emb_params", "onetrainer": "emp_params"}
"""Name of the one tensor; `diffusers` has the placeholder."""


def filename(name: str) -> str:
    """Name of the published file of concept `name`, in every layout: the word, for those who read it from there."""
    return f"{name}.safetensors"


def write(vectors: Vectors, placeholder: str, layout: Format, about: Mapping[str, str] | None = None) -> bytes:
    """Vectors of a word as a published file in `layout`, with what the file says `about` itself.

    The same arguments give the same bytes in any process: the library writes several entries of metadata in another
    order each time, so the header is written here, with sorted keys
    (https://huggingface.co/docs/safetensors, "Format").
    """
    tensors = dict(vectors)
    if len(tensors) == 1:
        (rows_VD,) = tensors.values()
        tensors = {_TENSORS.get(layout, placeholder): rows_VD}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(about or {})}}
    body = b""
    for name in sorted(tensors):
        data = _bytes(tensors[name])
        shape, offsets = list(tensors[name].shape), [len(body), len(body) + len(data)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        body += data
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def published_as(layout: Format) -> Layout:
    """The layout of the published file that a file in this format is, or is made of."""
    return "diffusers" if layout == "diffusers" else "a1111"


def in_format(data: bytes, placeholder: str, layout: Format) -> bytes:
    """A published file, or one made of it, in another format: the same vectors, and the same about itself.

    There and back gives the same bytes. Raises IntegrityError when it is damaged.
    """
    source = f"the file of {placeholder}"
    told = about(data, source)
    told.pop("format", None)
    return write(read_published(data, source), placeholder, layout, told)


def digest_of_vectors(vectors: Vectors) -> str:
    """ModelSpec's hash: the sha256 of the tensors' bytes in the file's order, without the header."""
    return hashlib.sha256(b"".join(_bytes(vectors[name]) for name in sorted(vectors))).hexdigest()


def about(data: bytes, source: str) -> dict[str, str]:
    """What a safetensors file says about itself. Raises IntegrityError when it is none."""
    try:
        length = int.from_bytes(data[:8], "little")
        found = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        return {str(name): str(value) for name, value in sorted(found.items())}
    except (ValueError, AttributeError):
        raise IntegrityError(f"{source} is damaged, or no safetensors file.") from None


def _bytes(rows: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(rows, "<f4").tobytes()


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


def read_published(data: bytes, source: str) -> dict[str, NDArray[np.float32]]:
    """Read a published file of any layout: vectors by tensor name, [V, D] fp32, one for each text encoder.

    Raises IntegrityError when it is damaged or anything else than that; the message names `source`.
    """
    vectors = read_checkpoint(data, source)
    names = set(vectors)
    if len(names) != 1 and names != {"clip_l", "clip_g"}:
        raise IntegrityError(f"{source} is no word: it holds the tensors {', '.join(sorted(names)) or 'none'}.")
    for name, rows in vectors.items():
        if rows.dtype != np.float32 or rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
            shape = "×".join(map(str, rows.shape))
            raise IntegrityError(f"{source} is no word: {name} is {rows.dtype} [{shape}], not finite float32 [V, D].")
    if len({len(rows) for rows in vectors.values()}) != 1:
        raise IntegrityError(f"{source} is no word: its text encoders have different numbers of vectors.")
    return vectors


def same_vectors(found: Vectors, wanted: Vectors, source: str) -> None:
    """Raise IntegrityError where a published file (`found`) holds other vectors than the checkpoint (`wanted`)."""
    names = list(wanted) if len(wanted) > 1 else list(found)
    same = len(found) == len(wanted) and all(
        name in found and np.array_equal(found[name], rows) for name, rows in zip(names, wanted.values(), strict=True)
    )
    if not same:
        raise IntegrityError(f"{source} does not hold the vectors of the chosen step.")


def write_checkpoint(vectors: Vectors) -> bytes:
    """Vectors by encoder, for judging and for making published files later."""
    return save({name: np.ascontiguousarray(rows, np.float32) for name, rows in vectors.items()})


def read_checkpoint(data: bytes, source: str) -> dict[str, NDArray[np.float32]]:
    """Read `write_checkpoint`'s bytes. Raises IntegrityError when they are damaged; the message names `source`."""
    try:
        return load(data)
    except SafetensorError as error:
        raise IntegrityError(f"{source} is damaged: {error}.") from None
    except KeyError as error:  # bf16, which numpy does not have
        raise IntegrityError(f"{source} is of another program: it holds numbers of type {error.args[0]}.") from None
