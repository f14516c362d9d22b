"""Importing a word from elsewhere without pictures: it is kept, numbered and given to readers as it is, and everywhere
said to be not judged. With pictures a word goes through the line instead (`ConceptSpec.imported`).
"""

from ti_core import formats, keys
from ti_core.backbone.folder import check_class_word, find_base
from ti_core.config import ImportSpec
from ti_core.publishing.catalogue import imports_of, outcome_of, pointer_of
from ti_core.publishing.files import published_file
from ti_core.publishing.pointer import refuse_forgotten
from ti_core.publishing.transaction import publish_import
from ti_core.records import Imported, Outcome, PublishedFile
from ti_core.settings import Settings
from ti_core.starts import of_file
from ti_core.store import Store, put_blob


def import_word(spec: ImportSpec, base_model: str, settings: Settings, store: Store) -> tuple[Outcome, Imported]:
    """Keep and publish the word of a file, unjudged; what is there already is told. `base_model` "" takes the settings'
    own.

    Raises InputError for a file that cannot be used, WithdrawnError for a word that was forgotten, ServiceError when
    the store fails. A failure leaves nothing that readers see; the same call again completes it.
    """
    settings.check_place(base_model, settings.base_model)
    base = find_base(base_model or settings.base_model)
    if spec.class_word:
        check_class_word(spec.class_word, base)
    start = of_file(spec.file, base, settings)
    train_key = keys.imported_key(start.given, base.digest)
    word = Imported(
        concept=spec.model_copy(update={"file": start.given.source}), base=base, given=start.given, train_key=train_key,
        judge_key=keys.unjudged_key(train_key),
    )  # fmt: skip
    refuse_forgotten(pointer_of(store, spec.name, base.slug))
    there = {one.judge_key: one for one in imports_of(store, spec.name, base.slug)}
    if earlier := there.get(word.judge_key):
        if ended := outcome_of(store, earlier):
            return ended, earlier
        word = earlier  # an attempt was torn off: its files tell the day that it tells
    put_blob(store, formats.write_checkpoint(start.vectors))
    files = []
    for layout in formats.LAYOUTS:
        data = published_file(store, word, layout)
        name = formats.filename(spec.name)
        files.append(PublishedFile(layout=layout, filename=name, sha256=put_blob(store, data), size=len(data)))
    word = word.model_copy(update={"files": tuple(files)})
    return publish_import(store, word), word
