"""Ingestion: read the pictures of one concept from where they lie, check them, keep the good ones.

One bad picture is left out with a warning; a set without a usable picture is an error. Nothing is written before the
whole set has been read. This module knows nothing of resolutions other than "too small", and nothing of models.
"""

import hashlib
import io
import itertools
from pathlib import PurePosixPath

from PIL import Image, UnidentifiedImageError

from ti_core.errors import InputError
from ti_core.images.preprocess import oriented
from ti_core.images.sources import SUFFIXES, candidates
from ti_core.records import ImageSet, Picture
from ti_core.settings import Settings
from ti_core.store import Store, put_blob

FEW = 3
"""Fewer usable pictures than this train, with a warning: the paper uses three to five (arXiv 2208.01618, section 4)."""
MANY = 200
"""More picture files than this are taken for a mistaken folder."""
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
    for name, read in candidates(source, settings):
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
    for _, read in candidates(source, settings):
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
