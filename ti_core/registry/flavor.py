"""A word as an MLflow model: the `MLmodel` file written beside its files, and the loader that file names.

`mlflow.pyfunc.load_model("models:/cat-toy.miniature@champion")` gives a model whose `predict` returns the vectors. A
version is bound for good to what its `MLmodel` file says, so every checkpoint gets one from the start. This module
does not know the server.
"""

from collections.abc import Callable
from pathlib import Path
from platform import python_version
from typing import Any

import pandas as pd
from mlflow.models import Model

from ti_core import formats
from ti_core.records import Checkpoint, Manifest
from ti_core.reporting.words import file_note

MODEL_TYPE = "textual_inversion"
VECTORS = "vectors.safetensors"
"""The checkpoint itself: one [V, D] fp32 tensor per text encoder."""


def write_model(
    folder: Path, manifest: Manifest, checkpoint: Checkpoint, read: Callable[[str], bytes], model_id: str
) -> None:
    """Write a checkpoint into `folder` as an MLflow model: its vectors, a folder per layout, and `MLmodel`. Of the
    chosen step the files are the published ones. `read` brings a blob by its sha256."""
    concept, base = manifest.plan.concept, manifest.plan.base
    data = read(checkpoint.vectors)
    vectors = formats.read_checkpoint(data, f"checkpoint {checkpoint.step} of {concept.name}")
    published = {one.layout: one.sha256 for one in manifest.files if checkpoint.step == manifest.decision.step}
    note = {"note": text} if (text := file_note(base, concept)) else {}
    names = {layout: f"{layout}/{formats.filename(concept.name)}" for layout in formats.LAYOUTS}
    (folder / VECTORS).write_bytes(data)
    for layout, name in names.items():
        (folder / layout).mkdir()
        of = published.get(layout)
        (folder / name).write_bytes(read(of) if of else formats.write(vectors, concept.placeholder, layout, note))
    flavors: dict[str, Any] = {
        "python_function": {"loader_module": __name__, "data": VECTORS, "python_version": python_version()},
        MODEL_TYPE: {
            "placeholder": concept.placeholder,
            "class_word": concept.class_word,
            "base": base.slug,
            "base_digest": base.digest,
            "step": checkpoint.step,
            "vectors_sha256": checkpoint.vectors,
            "files": names,
        },
    }
    model = Model(
        flavors=flavors, model_id=model_id, model_uuid=model_id, utc_time_created=manifest.created.replace(tzinfo=None)
    )
    model.save(folder / "MLmodel")


class Word:
    """What the loader returns: the vectors of one word."""

    def __init__(self, vectors: formats.Vectors) -> None:
        self._vectors = vectors

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row per vector: `encoder`, `row` and `vector`, a list of D floats.

        The input is not looked at: a word has one meaning, and pictures need the base model it was learned on.
        """
        rows = [
            {"encoder": encoder, "row": number, "vector": vector.tolist()}
            for encoder, rows_VD in self._vectors.items()
            for number, vector in enumerate(rows_VD)
        ]
        return pd.DataFrame(rows)


def _load_pyfunc(path: str) -> Word:
    """The entry point MLflow calls; `path` is the vectors' file."""
    return Word(formats.read_checkpoint(Path(path).read_bytes(), path))
