"""Published files, made of a judged run: the vectors of the chosen step, and what the file says about itself.

The metadata follows Stability's ModelSpec 1.0 (https://github.com/Stability-AI/ModelSpec), which A1111, ComfyUI,
SwarmUI and kohya's scripts show, and has keys of our own beside it. The bytes are a function of the manifest and of the
blobs that it names: whoever makes the file again gets the same one.
"""

import base64
import io

from PIL import Image

from ti_core import formats
from ti_core.config import BackboneKind
from ti_core.records import Layout, Manifest
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


def published_file(store: Store, manifest: Manifest, layout: Layout) -> bytes:
    """The file that readers get of a judged run. Raises NotFoundError or IntegrityError when a blob it is made of is
    lost."""
    chosen = next(one for one in manifest.checkpoints if one.step == manifest.decision.step)
    concept = manifest.plan.concept
    vectors = formats.read_checkpoint(get_blob(store, chosen.vectors), f"checkpoint {chosen.step} of {concept.name}")
    strip = get_blob(store, manifest.report.chosen.strip)
    return formats.write(vectors, concept.placeholder, layout, about_word(manifest, vectors, strip))


def about_word(manifest: Manifest, vectors: formats.Vectors, strip: bytes) -> dict[str, str]:
    """The metadata of a published file; `strip` is the picture of `Scores.strip`, its first square is the thumbnail."""
    plan, report = manifest.plan, manifest.report
    concept, side = plan.concept, plan.base.resolution
    many = len(next(iter(vectors.values())))
    spec = {
        "sai_model_spec": "1.0.0",
        "architecture": f"{_ARCHITECTURES[plan.base.kind]}/textual-inversion",
        "implementation": "https://github.com/huggingface/diffusers",
        "title": concept.name,
        "description": f"The word {concept.placeholder}: a {concept.kind}, {concept.class_word}, in {many} "
        f"vector{'s' if many > 1 else ''} for {plan.base.name}.",
        "date": f"{manifest.created:%Y-%m-%dT%H:%M:%SZ}",
        "hash_sha256": f"0x{formats.digest_of_vectors(vectors)}",
        "license": concept.license,
        "usage_hint": f"Write {concept.placeholder} where you would write {concept.class_word}. Programs that take the "
        f"word from the file's name know it as {concept.name}.",
        "trigger_phrase": concept.placeholder,
        "tags": concept.tags,
        "thumbnail": _thumbnail(strip),
        "resolution": f"{side}x{side}",
        "prediction_type": {"epsilon": "epsilon", "v_prediction": "v", "": ""}[plan.base.prediction],
        "is_negative_embedding": "false",
    }
    ours = {
        "concept": concept.name,
        "class_word": concept.class_word,
        "base": plan.base.slug,
        "base_digest": plan.base.digest,
        "step": str(manifest.decision.step),
        "score": f"{report.score:.6f}",
        "gain": f"{report.gain.value:.6f}",
        "protocol": plan.protocol_digest,
        "train_key": plan.train_key,
        "judge_key": plan.judge_key,
    }
    named = {f"modelspec.{key}": value for key, value in spec.items()} | {
        f"pseudoword.{key}": value for key, value in ours.items()
    }
    # Pictures may be hidden later (`show_pictures`), and the file stays what it was.
    note = file_note(plan.base, concept.model_copy(update={"show_pictures": True}))
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
