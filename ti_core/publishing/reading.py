"""Reading a published word: the champion's bytes, verified; where they are damaged, those of the champion before it.

What was withdrawn is never given, whatever else is damaged. It writes nothing.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from ti_core import formats
from ti_core.errors import IntegrityError, NotFoundError, WithdrawnError
from ti_core.publishing.pointer import refuse_forgotten, standing
from ti_core.records import Champion, Layout, PublishedFile
from ti_core.store import Store, get_blob

log = logging.getLogger(__name__)

_T = TypeVar("_T")


def file_of(found: Champion, layout: Layout) -> PublishedFile:
    """The published file in this layout. Raises NotFoundError when there is none, IntegrityError for a file whose name
    is none."""
    for file in found.files:
        if file.layout == layout:
            name = file.filename
            if "/" in name or "\\" in name or name.startswith(".") or not name.endswith(".safetensors"):
                raise IntegrityError(f"The champion of {found.concept} names a file {name!r}, which is no name of one.")
            return file
    layouts = ", ".join(file.layout for file in found.files)
    raise NotFoundError(f"{found.concept} on {found.base} is not published as {layout}: choose one of {layouts}.")


def read_file(store: Store, file: PublishedFile) -> bytes:
    """The bytes of a published file, verified: digest, size, tensors, their types and shapes.

    Raises IntegrityError for anything else, NotFoundError when they are not there.
    """
    data = get_blob(store, file.sha256)
    if len(data) != file.size:
        raise IntegrityError(f"The file {file.filename} has {len(data)} bytes, {file.size} are told of it.")
    formats.read_published(data, file.filename)
    return data


def best(store: Store, pointer: Champion, read: Callable[[Champion], _T], strict: bool = False) -> tuple[Champion, _T]:
    """What `read` makes of the champion, or of the first one before it that is whole, with a warning then.

    With `strict` nothing takes the champion's place. Raises WithdrawnError for a word that people have withdrawn or
    forgotten, else what `read` raised of the champion.
    """
    refuse_forgotten(pointer)
    if gone := pointer.withdrawn:
        raise WithdrawnError(
            f"{pointer.concept} on {pointer.base} was withdrawn {gone.told()}; do not use copies of it."
        )
    if not pointer.judge_key:
        raise WithdrawnError(f"{pointer.concept} on {pointer.base} was forgotten, and nothing was published since.")
    first: IntegrityError | NotFoundError | None = None
    for one in standing(store, pointer):
        try:
            found = read(one)
        except (IntegrityError, NotFoundError) as error:
            if strict:
                raise
            first = first or error
            continue
        if first:
            log.warning(
                "%s Version %d of %s, the best before it, is given instead of version %d.",
                first, one.version, one.concept, pointer.version,
            )  # fmt: skip
        return one, found
    raise first or NotFoundError(f"Nothing of {pointer.concept} on {pointer.base} is published any more.")
