"""Assembly: everything known of a judged run becomes one manifest, its published files and its page blobs of the store.

Only blobs are written here; nothing becomes visible to readers before `publishing` says so.
"""

from ti_core import formats
from ti_core.publishing.catalogue import manifest_of
from ti_core.publishing.files import published_file
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
    manifest = Manifest(
        plan=plan,
        prepared=prepared,
        checkpoints=checkpoints,
        anchors=anchors,
        scores=scores,
        decision=decision,
        report=report,
        files=(),
        page="",
        device=place[0],
        dtype=place[1],
    )
    # An attempt that was torn off may have written it already: the files tell the day that it tells.
    if earlier := manifest_of(store, plan):
        manifest = manifest.model_copy(update={"created": earlier.created})
    files = []
    for layout in formats.LAYOUTS:
        data = published_file(store, manifest, layout)
        name = formats.filename(plan.concept.name)
        files.append(PublishedFile(layout=layout, filename=name, sha256=put_blob(store, data), size=len(data)))
    table = put_blob(store, to_parquet(per_picture(manifest)))
    manifest = manifest.model_copy(update={"files": tuple(files), "table": table})
    html = page(manifest, lambda sha256: get_blob(store, sha256))
    return manifest.model_copy(update={"page": put_blob(store, html)})
