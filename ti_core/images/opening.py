"""The files at a source, whatever it is: a folder, an archive, an http(s) address or a bucket."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ti_core.errors import InputError
from ti_core.images.archives import is_archive, members
from ti_core.images.names import shown
from ti_core.images.remote import downloaded
from ti_core.images.sources import Entry, files, objects, stamp_of
from ti_core.settings import Settings


@contextmanager
def opened(source: str, settings: Settings) -> Iterator[list[Entry]]:
    """All files at a source and below it, but for litter, in order of their paths. They can be read within the block.

    Raises InputError for a source that is missing, forbidden, damaged or too large, ServiceError for an unreachable
    bucket.
    """
    if source.startswith("s3://"):
        yield objects(source, settings)
    elif source.startswith(("http://", "https://")):
        with downloaded(source, settings) as file, members(source, file) as found:
            yield found
    elif "://" in source:
        raise InputError(
            f"{shown(source)} cannot be read: pictures come from a folder, a .zip or .tar file, an http(s) address of "
            "one, or an s3:// prefix."
        )
    else:
        path = settings.allowed(Path(source))
        if path.is_dir():
            yield files(source, path, settings)
        elif path.is_file() and is_archive(path.name):
            try:
                file = path.open("rb")
            except OSError as error:
                raise InputError(f"{shown(source)} cannot be read: {error.strerror}.") from None
            with file, members(source, file, stamp_of(os.fstat(file.fileno()))) as found:
                yield found
        elif path.exists():
            raise InputError(
                f"{shown(source)} is neither a folder nor a .zip or .tar file: put the pictures into a folder and name "
                "that."
            )
        else:
            raise InputError(
                f"There is no {shown(source)}: name a folder, a .zip or .tar file, or an s3:// prefix with pictures."
            )
