"""Copies of words in a reader's folder, and a note beside each.

A file's name is the word, for those who read it from there; where words of several base models come together, each of
them has a folder of its own. The note, `.<name>.json`, says which version it is: with it a copy can be verified, and
served, while the store is away. Files without a note are somebody else's. This module knows no store.
"""

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from ti_core import formats
from ti_core.errors import InputError, IntegrityError, NotFoundError
from ti_core.publishing.catalogue import base_for
from ti_core.records import Copy, Format, Row
from ti_core.settings import Settings


def note_of(path: Path) -> Path:
    """Where the note of a copy lies."""
    return path.with_name(f".{path.stem}.json")


def told(path: Path) -> Copy | None:
    """Which version of which word a copy is, by its note; None without one that can be read."""
    try:
        return Copy.from_bytes(note_of(path).read_bytes(), str(path))
    except (IntegrityError, OSError):
        return None


def copies(folder: Path, namespace: str) -> dict[tuple[str, str], Row]:
    """The copies of a namespace's words that lie in the folders of their base models in a folder, by base model and
    name."""
    found = {}
    for note in sorted(folder.glob("*/.*.json")):
        copy = told(note.with_name(f"{note.stem[1:]}.safetensors"))
        row = copy and copy.namespace == namespace and copy.word
        if row and note == note_of(folder / row.base / formats.filename(row.concept)):
            found[row.base, row.concept] = row
    return found


def is_copied(path: Path, row: Row, namespace: str, layout: Format) -> bool:
    """Whether a copy is this version, whole."""
    sha256, layout = digest_as_published(path, row.placeholder, layout), formats.published_as(layout)
    return told(path) == Copy(word=row, namespace=namespace) and any(
        file.layout == layout and file.sha256 == sha256 for file in row.files
    )


def copied(paths: Sequence[Path], concept: str, base: str | None, layout: Format, settings: Settings) -> Path:
    """The verified copy of a word among these. Raises NotFoundError when there is none."""
    notes = [(path, note) for path in paths if (note := told(path)) and note.namespace == settings.namespace]
    here = {note.word.base: (path, note.word) for path, note in notes if note.word.concept == concept}
    path, row = here.get(base_for(base or "", settings, list(here)), (None, None))
    if path is None or row is None or not is_copied(path, row, settings.namespace, layout):
        where = paths[0].parent if paths else "this folder"
        raise NotFoundError(
            f"There is no verified copy of {concept} as {layout} in {where}: fetch it while the store is up."
        )
    return path


def refuse_foreign(path: Path) -> None:
    """Raise InputError where a file lies that has no note: somebody else's is kept."""
    if path.exists() and not note_of(path).exists():
        raise InputError(f"{path} was not written by Pseudoword and is kept: move it away, or name another folder.")


def remove(path: Path) -> list[Path]:
    """Remove a copy that has a note, and the note. Returns the paths of what was there."""
    if not note_of(path).exists():
        return []
    try:
        path.unlink(missing_ok=True)
        note_of(path).unlink()
    except OSError as error:
        raise InputError(f"{path} is withdrawn and cannot be removed: {error.strerror}.") from error
    return [path]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def digest_as_published(path: Path, placeholder: str, layout: Format) -> str:
    """The sha256 of the published file that a copy in this format is, or was made of; of whatever else lies there, one
    that no published file has."""
    data = read(path)
    if layout in formats.MADE:
        try:
            published = formats.in_format(data, placeholder, formats.published_as(layout))
            data = published if formats.in_format(published, placeholder, layout) == data else b""
        except IntegrityError:
            data = b""
    return hashlib.sha256(data).hexdigest()


def keep_copy(path: Path, row: Row, namespace: str, data: bytes | None) -> None:
    """Write a copy and its note, or the note alone where the bytes are there. A first copy gets its note first: from
    then on the file is known to be one."""
    note = Copy(word=row, namespace=namespace).to_bytes()
    first = data is not None and not note_of(path).exists()
    if first:
        write(note_of(path), note)
    if data is not None:
        try:
            write(path, data)
        except InputError:
            if first:
                note_of(path).unlink()
            raise
    if read(note_of(path)) != note:
        write(note_of(path), note)


def write(path: Path, data: bytes) -> None:
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
