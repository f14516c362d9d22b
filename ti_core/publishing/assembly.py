"""Assembly: everything known of a judged run becomes one manifest, its published files and its page blobs of the store.

Only blobs are written here; nothing becomes visible to readers before `publishing` says so.
"""

from ti_core import formats
from ti_core.records import (
    Anchors,
    Checkpoint,
    Decision,
    Manifest,
    Plan,
    PreparedSet,
    PublishedFile,
    Report,
    Scores,
)
from ti_core.reporting.report import page
from ti_core.reporting.table import per_picture, to_parquet
from ti_core.reporting.words import file_note
from ti_core.store import Store, get_blob, put_blob


def assemble(
    plan: Plan,
    prepared: PreparedSet,
    checkpoints: tuple[Checkpoint, ...],
    anchors: Anchors,
    scores: tuple[Scores, ...],
    decision: Decision,
    report: Report,
    store: Store,
    place: tuple[str, str],
) -> Manifest:
    """Make the published files of the chosen step and the page, and return the manifest that names them.

    `place` is where it was judged: device and number type (`resident.place_of_work`).
    """
    chosen = next(checkpoint for checkpoint in checkpoints if checkpoint.step == decision.step)
    source = f"checkpoint {chosen.step} of {plan.concept.name}"
    vectors = formats.read_checkpoint(get_blob(store, chosen.vectors), source)
    files, note = [], file_note(plan.base, plan.concept)
    for layout in formats.LAYOUTS:
        data = formats.write(vectors, plan.concept.placeholder, layout, note)
        files.append(
            PublishedFile(
                layout=layout,
                filename=formats.filename(plan.concept.name, layout),
                sha256=put_blob(store, data),
                size=len(data),
            )
        )
    manifest = Manifest(
        plan=plan,
        prepared=prepared,
        checkpoints=checkpoints,
        anchors=anchors,
        scores=scores,
        decision=decision,
        report=report,
        files=tuple(files),
        page="",
        device=place[0],
        dtype=place[1],
    )
    manifest = manifest.model_copy(update={"table": put_blob(store, to_parquet(per_picture(manifest)))})
    html = page(manifest, lambda sha256: get_blob(store, sha256))
    return manifest.model_copy(update={"page": put_blob(store, html)})
