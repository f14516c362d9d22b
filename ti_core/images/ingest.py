"""Ingestion: read the pictures of one concept from a folder, a zip file or a bucket, check them, keep the good ones.

One bad picture is left out with a warning; a set without a usable picture is an error. Nothing is written before the
whole set has been read. This module knows nothing of resolutions other than "too small", and nothing of models.
"""

import hashlib
import io
import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from ti_core.errors import InputError, NotFoundError
from ti_core.images.preprocess import oriented
from ti_core.records import ImageSet, Picture
from ti_core.settings import Settings
from ti_core.store import Store, open_store, put_blob

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
FEW = 3
"""Fewer usable pictures than this train, with a warning: the paper uses three to five (arXiv 2208.01618, section 4)."""
MANY = 200
"""More picture files than this are taken for a mistaken folder."""
MAX_FILE_BYTES = 100 * 2**20
MASK = "-masklabel"
"""A file named like a picture with this before its suffix is the picture's mask, white where it shows (OneTrainer's
convention). In order of name it comes before its picture."""


def ingest(source: str, resolution: int, settings: Settings, store: Store | None) -> ImageSet:
    """Read, check and keep the pictures at `source`, each as the blob of its unchanged file; without a store they are
    checked only.

    `resolution` is the training resolution in pixels: a picture whose shorter side is under half of it is too small to
    use, one under the whole is enlarged with a warning. Files directly at `source` count, not those in sub-folders.

    A mask picture (see `MASK`) counts as part of its picture.

    Raises InputError for a missing or forbidden source and when no picture is usable; ServiceError for an unreachable
    bucket.
    """
    found: dict[str, tuple[Picture, tuple[bytes, ...]]] = {}
    warnings: list[str] = []
    masks: dict[str, tuple[str, bytes]] = {}
    seen = 0
    for name, read in _candidates(source, settings):
        stem = str(PurePosixPath(name).with_suffix(""))
        seen += 1
        if seen > MANY:
            raise InputError(f"{source} holds more than {MANY} pictures; textual inversion learns from three to five.")
        try:
            data = read()
            if stem.endswith(MASK):
                masks[stem.removesuffix(MASK)] = name, data
                continue
            picture = _check(name, data, resolution, settings.max_picture_pixels)
            files: tuple[bytes, ...] = (data,)
            if stem in masks:
                mask_name, mask = masks.pop(stem)
                picture = _masked(picture, _check(mask_name, mask, resolution, settings.max_picture_pixels))
                files = data, mask
        except InputError as error:
            warnings.append(str(error))
            continue
        if picture.sha256 in found:
            warnings.append(f"{name} is the same file as {found[picture.sha256][0].name}; it is used once.")
            continue
        if min(picture.width, picture.height) < resolution:
            warnings.append(
                f"{name} is enlarged: {picture.width}×{picture.height} is under {resolution} pixels a side."
            )
        found[picture.sha256] = (picture, files)
    warnings += [f"{name} is the mask of no picture here." for name, _ in masks.values()]

    if not found:
        reasons = f": {' '.join(warnings)}" if warnings else f"; looked for {', '.join(sorted(SUFFIXES))} files."
        raise InputError(f"No usable picture in {source}{reasons}")
    if len(found) < FEW:
        warnings.append(f"Only {len(found)} usable picture{'s' * (len(found) > 1)}; three to five work better.")
    if store is not None:
        for data in itertools.chain.from_iterable(files for _, files in found.values()):
            put_blob(store, data)
    return ImageSet(pictures=tuple(found[sha][0] for sha in sorted(found)), warnings=tuple(warnings))


def keep_pictures(source: str, images: ImageSet, settings: Settings, store: Store) -> None:
    """Keep the pictures of a set that was checked without a store, each as the blob of its file, and their masks.

    Raises InputError when one has changed meanwhile; what `ingest` raises for a source that cannot be read.
    """
    wanted = {sha256 for one in images.pictures for sha256 in (one.sha256, one.mask) if sha256}
    for _, read in _candidates(source, settings):
        try:
            data = read()
        except InputError:
            continue  # it was left out of the set with a warning
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in wanted:
            put_blob(store, data)
            wanted.remove(sha256)
    if wanted:
        changed = next(one.name for one in images.pictures if {one.sha256, one.mask} & wanted)
        raise InputError(f"{changed} in {source} has changed since it was checked: run it again.")


def _masked(picture: Picture, mask: Picture) -> Picture:
    if (mask.width, mask.height) != (picture.width, picture.height):
        raise InputError(f"{picture.name} is left out: its mask {mask.name} has another size.")
    return picture.model_copy(update={"mask": mask.sha256})


def _check(name: str, data: bytes, resolution: int, max_pixels: int) -> Picture:
    """Decode one picture completely. Raises InputError with the reason why it is not used."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise InputError(f"{name} is left out: {image.width}×{image.height} is over {max_pixels} pixels.")
            upright = oriented(image)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name} is left out: it is no picture in a form that can be read.") from None
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
        raise InputError(
            f"{name} is left out: it does not read as a picture ({str(error) or type(error).__name__})."
        ) from None
    if min(upright.size) * 2 < resolution:
        raise InputError(
            f"{name} is left out: {upright.width}×{upright.height} is too small, at least {resolution // 2} pixels "
            "a side are needed."
        )
    return Picture(name=name, sha256=hashlib.sha256(data).hexdigest(), width=upright.width, height=upright.height)


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


def _candidates(source: str, settings: Settings) -> Iterator[tuple[str, _File | _Member | _Object]]:
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
