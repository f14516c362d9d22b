"""A word as a folder for the Hugging Face hub: `hf upload OWNER/NAME FOLDER` takes it as it is.

`learned_embeds.safetensors` is the name under which diffusers finds a word in a repository. The card's metadata follows
https://huggingface.co/docs/hub/model-cards.
"""

import re
from pathlib import Path

from ti_core.client.copies import write
from ti_core.client.fetching import opened, pointer_for
from ti_core.publishing.catalogue import run_at
from ti_core.publishing.reading import best, file_of, read_file
from ti_core.quoting import quoted
from ti_core.records import Champion, Imported, Manifest
from ti_core.settings import Settings, expanded, load_settings
from ti_core.store import get_blob

WEIGHTS = "learned_embeds.safetensors"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def hub_folder(
    concept: str, base: str | None = None, out: Path | str = ".", settings: Settings | None = None, strict: bool = False
) -> Path:
    """Write `<out>/<concept>` with the champion's file, a card (README.md) and example pictures, which a word that was
    imported and not judged has not. Returns its path.

    No training picture is in it. Arguments and errors are those of `get`.
    """
    settings = settings or load_settings()
    store = opened(settings)

    def read(one: Champion) -> tuple[bytes, Manifest | Imported, bytes]:
        run = run_at(store, one.manifest)
        strip = get_blob(store, run.report.chosen.strip) if isinstance(run, Manifest) else b""
        return read_file(store, file_of(one, "diffusers")), run, strip

    found, (weights, run, strip) = best(store, pointer_for(store, concept, base, settings), read, strict)
    folder = expanded(out) / concept
    if strip:
        write(folder / "examples.png", strip)
    write(folder / "README.md", card(found, run).encode())
    write(folder / WEIGHTS, weights)
    return folder


def card(champion: Champion, run: Manifest | Imported) -> str:
    """The model card of a word, in Markdown with its metadata in YAML."""
    plan = run.plan if isinstance(run, Manifest) else run
    concept, base, word = plan.concept, plan.base.name, champion.placeholder
    tags = ["textual-inversion", "diffusers", "text-to-image", *(tag.strip() for tag in concept.tags.split(","))]
    meta = [
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        f'instance_prompt: "{word}"',
        *([f"base_model: {base}"] if _HUB_NAME.fullmatch(base) else []),
        *(["license: other", f"license_name: {quoted(concept.license)}"] if concept.license else []),
        "tags:",
        *(f"- {quoted(tag)}" for tag in tags if tag),
    ]
    lines = [
        "---", *meta, "---",
        f"# {word}",
        f"A new word for {base}: a {concept.kind}{f', {concept.class_word}' if concept.class_word else ''}. "
        f"{_origin(champion, run)}",
        *(["![Pictures made with the word](examples.png)"] if isinstance(run, Manifest) else []),
        "```python\n"
        f'pipeline.load_textual_inversion("OWNER/{champion.concept}", token="{word}")\n'
        f'pipeline("a photo of {word}")\n'
        "```" if plan.base.kind != "sdxl" else
        f"`{WEIGHTS}` holds the vectors of both text encoders, `clip_l` and `clip_g`.",
        *([_measured(run)] if isinstance(run, Manifest) else []),
        f"Version {champion.version}; run `{champion.judge_key}`; for weights `{champion.base_digest[:12]}`.",
    ]  # fmt: skip
    head = len(meta) + 2
    return "\n".join(lines[:head]) + "\n\n" + "\n\n".join(lines[head:]) + "\n"


def _origin(champion: Champion, run: Manifest | Imported) -> str:
    """Where the word comes from."""
    if isinstance(run, Imported):
        return f"Imported from {run.given.told()}, not judged: nothing is known of what it does."
    plan, pictures = run.plan, len(run.plan.images.pictures)
    if plan.concept.imported:
        return f"Imported from {plan.started_from}, and judged on {pictures} pictures."
    start = f", from {plan.started_from} on" if plan.given else ""
    return (
        f"Learned by textual inversion from {pictures} pictures, {plan.training.steps} steps{start}; step "
        f"{champion.step} was chosen."
    )


def _measured(manifest: Manifest) -> str:
    report, gain = manifest.report, manifest.report.gain
    return (
        f"On prompts and seeds that had no say in the choice it scores {report.score:.3f}; its pictures are nearer to "
        f"the training pictures than those of “{manifest.plan.concept.class_word}” by {gain.value:+.3f} CLIP-I "
        f"({gain.low:+.3f} to {gain.high:+.3f})."
    )
