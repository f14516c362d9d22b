"""Published files, made of a judged run or an imported word: the vectors, and what the file says about itself.

The metadata follows Stability's ModelSpec 1.0 (https://github.com/Stability-AI/ModelSpec), which A1111, ComfyUI,
SwarmUI and kohya's scripts show, and has keys of our own beside it. The bytes are a function of the manifest and of the
blobs that it names: whoever makes the file again gets the same one.
"""

import base64
import io
from datetime import datetime

from PIL import Image

from ti_core import formats
from ti_core.config import BackboneKind, ConceptSpec, ImportSpec, placeholder
from ti_core.records import BaseModelInfo, Given, Imported, Keyed, Layout, Manifest
from ti_core.reporting.words import file_note
from ti_core.store import Store, get_blob

_ARCHITECTURES: dict[BackboneKind, str] = {
    "miniature": "pseudoword-miniature",
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2",
    "sdxl": "stable-diffusion-xl-v1-base",
}
"""ModelSpec's names, where it has one."""
THUMBNAIL = 256
"""Side of the thumbnail in pixels, ModelSpec's own."""


def published_file(store: Store, run: Manifest | Imported, layout: Layout) -> bytes:
    """The file that readers get of a judged run, or of an imported word. Raises NotFoundError or IntegrityError when a
    blob it is made of is lost."""
    if isinstance(run, Imported):
        rows = formats.read_checkpoint(get_blob(store, run.given.vectors), f"the imported {run.concept.name}")
        return formats.write(rows, placeholder(run.concept.name), layout, about_import(run, rows))
    manifest = run
    chosen = next(one for one in manifest.checkpoints if one.step == manifest.decision.step)
    concept = manifest.plan.concept
    vectors = formats.read_checkpoint(get_blob(store, chosen.vectors), f"checkpoint {chosen.step} of {concept.name}")
    strip = get_blob(store, manifest.report.chosen.strip)
    return formats.write(vectors, concept.placeholder, layout, about_word(manifest, vectors, strip))


def about_word(manifest: Manifest, vectors: formats.Vectors, strip: bytes) -> dict[str, str]:
    """The metadata of a published file; `strip` is the picture of `Scores.strip`, its first square is the thumbnail."""
    plan, report = manifest.plan, manifest.report
    concept, imported = plan.concept, plan.given if plan.concept.imported else None
    spec = _spec(concept, plan.base, vectors, manifest.created, imported) | {"thumbnail": _thumbnail(strip)}
    ours = _ours(concept, plan.base, plan, manifest.decision.step, imported) | {
        "score": f"{report.score:.6f}",
        "gain": f"{report.gain.value:.6f}",
        "protocol": plan.protocol_digest,
    }
    # Pictures may be hidden later (`show_pictures`), and the file stays what it was.
    note = "" if imported else file_note(plan.base, concept.model_copy(update={"show_pictures": True}))
    return _told(note, spec, ours)


def about_import(word: Imported, vectors: formats.Vectors) -> dict[str, str]:
    """The metadata of the file of a word that was imported and not judged."""
    spec = _spec(word.concept, word.base, vectors, word.created, word.given)
    ours = _ours(word.concept, word.base, word, word.given.step, word.given) | {"judged": "false"}
    return _told(f"Imported from {word.given.told()}, not judged.", spec, ours)


def _spec(
    concept: ConceptSpec | ImportSpec,
    base: BaseModelInfo,
    vectors: formats.Vectors,
    made: datetime,
    given: Given | None,
) -> dict[str, str]:
    """What ModelSpec asks for."""
    many, word = len(next(iter(vectors.values()))), placeholder(concept.name)
    shows = f"a {concept.kind}, {concept.class_word}," if concept.class_word else f"a {concept.kind}"
    instead = f" where you would write {concept.class_word}" if concept.class_word else " in a prompt"
    return {
        "sai_model_spec": "1.0.0",
        "architecture": f"{_ARCHITECTURES[base.kind]}/textual-inversion",
        "implementation": "https://github.com/huggingface/diffusers",
        "title": concept.name,
        "description": f"The word {word}: {shows} in {many} vector{'s' if many > 1 else ''} for {base.name}."
        + (f" Imported from {given.told()}." if given else ""),
        "author": concept.author,
        "date": f"{made:%Y-%m-%dT%H:%M:%SZ}",
        "hash_sha256": f"0x{formats.digest_of_vectors(vectors)}",
        "license": concept.license,
        "usage_hint": f"Write {word}{instead}. Programs that take the word from the file's name know it as "
        f"{concept.name}.",
        "trigger_phrase": word,
        "tags": concept.tags,
        "resolution": f"{base.resolution}x{base.resolution}",
        "prediction_type": {"epsilon": "epsilon", "v_prediction": "v", "": ""}[base.prediction],
        "is_negative_embedding": "false",
    }


def _ours(
    concept: ConceptSpec | ImportSpec, base: BaseModelInfo, run: Keyed, step: int, given: Given | None
) -> dict[str, str]:
    return {
        "concept": concept.name,
        "class_word": concept.class_word,
        "base": base.slug,
        "base_digest": base.digest,
        "step": str(step) if step else "",
        "train_key": run.train_key,
        "judge_key": run.judge_key,
        "imported_from": given.source if given else "",
        "imported_sha256": given.sha256 if given else "",
    }


def _told(note: str, spec: dict[str, str], ours: dict[str, str]) -> dict[str, str]:
    named = {f"modelspec.{key}": value for key, value in spec.items()} | {
        f"pseudoword.{key}": value for key, value in ours.items()
    }
    return {key: value for key, value in {"note": note, **named}.items() if value}


def _thumbnail(strip: bytes) -> str:
    """The first square of a strip as a data URI."""
    with Image.open(io.BytesIO(strip)) as picture:
        side = min(picture.size)
        square = (
            picture.convert("RGB").crop((0, 0, side, side)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        )
    out = io.BytesIO()
    square.save(out, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
