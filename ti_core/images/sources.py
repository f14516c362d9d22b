"""Where pictures come from: a folder, a zip file or a bucket, and the texts that lie beside them.

It finds files by their names and reads them when it is asked to; it decodes none.
"""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from ti_core.errors import InputError, NotFoundError
from ti_core.settings import Settings
from ti_core.store import Store, open_store

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_FILE_BYTES = 100 * 2**20


class _File:
    """A picture file that has been found but not read."""

    def __init__(self, name: str, path: Path, settings: Settings) -> None:
        self.name, self.path, self.settings = name, path, settings

    def __call__(self) -> bytes:
        path = self.settings.allowed(self.path)  # again for every file: a link may lead out of an allowed folder
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise InputError(f"{self.name} is left out: the file is over {MAX_FILE_BYTES // 2**20} MiB.")
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.name} is left out: it cannot be read ({error.strerror}).") from None


class _Member:
    """A picture inside a zip file."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.archive, self.info = archive, info

    def __call__(self) -> bytes:
        if self.info.file_size > MAX_FILE_BYTES:
            raise InputError(f"{self.info.filename} is left out: it unpacks to over {MAX_FILE_BYTES // 2**20} MiB.")
        try:
            return self.archive.read(self.info)
        except Exception as error:  # BadZipFile, zlib's own error, EOFError, RuntimeError for a password, …
            reason = str(error) or type(error).__name__
            raise InputError(f"{self.info.filename} is left out: it does not unpack ({reason}).") from None


class _Object:
    """A picture in a bucket."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key

    def __call__(self) -> bytes:
        return self.store.get(self.key).data


def candidates(source: str, settings: Settings) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield (name, reader) of every picture file directly at the source, in order of name."""
    if source.startswith("s3://"):
        bucket = open_store(settings, source)
        keys = [key for key in bucket.keys("") if "/" not in key and _is_picture(key)]
        yield from ((key, _Object(bucket, key)) for key in keys)
        return
    if "://" in source:
        raise InputError(f"{source} cannot be read: pictures come from a folder, a .zip file or an s3:// prefix.")
    path = settings.allowed(Path(source))
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if _is_picture(file.name) and file.is_file():
                yield file.name, _File(file.name, file, settings)
    elif path.suffix.lower() == ".zip" and path.is_file():
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
            raise InputError(f"{source} does not read as a zip file.") from None
        with archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                if not info.is_dir() and _is_picture(info.filename):
                    yield info.filename, _Member(archive, info)
    elif path.exists():
        raise InputError(f"{source} is neither a folder nor a .zip file: put the pictures into a folder and name that.")
    else:
        raise InputError(f"There is no {source}: name a folder, a .zip file or an s3:// prefix with pictures.")


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith((".", "._")) and "__MACOSX" not in path.parts


def concept_folders(source: str, settings: Settings) -> dict[str, str]:
    """Map the name of each sub-folder at `source` to its own source string, in order of name.

    Raises InputError for a missing or forbidden folder.
    """
    if source.startswith("s3://"):
        root = source.rstrip("/")
        names = {key.split("/", 1)[0] for key in open_store(settings, root).keys("") if "/" in key}
        return {name: f"{root}/{name}" for name in sorted(names)}
    path = settings.allowed(Path(source))
    if not path.is_dir():
        raise InputError(f"There is no folder {source}: name one with a sub-folder of pictures for each concept.")
    return {sub.name: str(sub) for sub in sorted(path.iterdir()) if sub.is_dir() and not sub.name.startswith(".")}


def read_text(source: str, name: str, settings: Settings) -> str | None:
    """The text of the file `name` at `source` (a folder or s3:// prefix), or None when there is none.

    Raises InputError when it lies outside the allowed folders, UnicodeDecodeError when it is no text.
    """
    if source.startswith("s3://"):
        try:
            return open_store(settings, source).get(name).data.decode()
        except NotFoundError:
            return None
    path = Path(source) / name
    return settings.allowed(path).read_text(encoding="utf-8") if path.is_file() else None
