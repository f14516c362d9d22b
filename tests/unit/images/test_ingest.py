"""Ingestion judged by what it keeps, what it says and what it leaves behind."""

import hashlib
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ti_core.errors import InputError
from ti_core.images import ingest as ingestion
from ti_core.images import sources
from ti_core.images.ingest import MANY, Wanted, ingest, keep_pictures
from ti_core.images.preprocess import Prepared, prepare
from ti_core.images.sources import concept_folders
from ti_core.records import ImageSet
from ti_core.settings import Settings
from ti_core.store import get_blob
from ti_core.store.folder import FolderStore

DREAMBENCH = Path(__file__).parents[4] / "shared/data/dreambench"


def picture(number: int = 0, size: tuple[int, int] = (64, 64), form: str = "PNG") -> bytes:
    """The bytes of a noise picture; another number, another picture."""
    rng = np.random.default_rng(number)
    noise = rng.integers(0, 256, (size[1], size[0], 3)) * rng.uniform(0.1, 1, 3)  # a colour of its own
    buffer = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(buffer, form)
    return buffer.getvalue()


def enormous(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size and which holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pixels(store: FolderStore, sha256: str) -> Image.Image:
    """A picture in the store."""
    return Image.open(io.BytesIO(get_blob(store, sha256)))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three good pictures."""
    path = tmp_path / "pictures"
    path.mkdir()
    for number in range(3):
        (path / f"{number}.png").write_bytes(picture(number))
    return path


@pytest.fixture
def take(store: FolderStore) -> Callable[..., ImageSet]:
    def call(source: Path | str, resolution: int = 64, **settings: object) -> ImageSet:
        wanted, given = Wanted(resolution), Settings(**settings)
        images = ingest(str(source), wanted, given)
        keep_pictures(str(source), images, wanted, given, store)
        return images

    return call


def refused(take: Callable[..., ImageSet], store: FolderStore, source: Path | str, *words: str) -> None:
    """Taking in the source fails with a message that holds all words, and nothing is left in the store."""
    with pytest.raises(InputError) as caught:
        take(source)
    for word in words:
        assert word in str(caught.value)
    assert list(store.keys("")) == []


def names(images: ImageSet) -> set[str]:
    return {one.name for one in images.pictures}


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_of_good_pictures_the_store_keeps_what_training_sees(take, store: FolderStore, folder: Path) -> None:
    images = take(folder)
    assert images.findings == ()
    assert [one.sha256 for one in images.pictures] == sorted(one.sha256 for one in images.pictures)
    for one in images.pictures:
        data = (folder / one.name).read_bytes()
        assert one.sha256 == hashlib.sha256(data).hexdigest()
        assert (np.asarray(pixels(store, one.square)) == np.asarray(Image.open(io.BytesIO(data)))).all()
        assert (one.width, one.height, one.crop, one.shown) == (64, 64, (0, 0, 64, 64), "")
    assert len(list(store.keys(""))) == 3


def test_the_store_keeps_nothing_that_a_camera_wrote(take, store: FolderStore, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.open(io.BytesIO(picture(9))).save(folder / "9.jpg", exif=exif, icc_profile=profile, comment=b"at home")
    images = take(folder)
    for key in store.keys(""):
        kept = Image.open(io.BytesIO(store.get(key).data))
        assert kept.format == "PNG" and not kept.info and not kept.getexif()
    originals = take(folder, keep_originals=True)
    assert originals == images
    assert {get_blob(store, one.sha256) for one in images.pictures} == {file.read_bytes() for file in folder.iterdir()}


def test_what_is_known_of_an_unchanged_folder_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ingest(str(folder), Wanted(64), Settings())

    def read(*_: object) -> None:
        pytest.fail("a picture was read again")

    with monkeypatch.context() as patched:
        patched.setattr("ti_core.images.ingest._read", read)
        assert ingest(str(folder), Wanted(64), Settings()) == first
    (folder / "1.png").write_bytes(picture(7))
    assert ingest(str(folder), Wanted(64), Settings()) != first
    assert ingest(str(folder), Wanted(32), Settings()) != first


@pytest.fixture
def another_decoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Calling it is an upgrade: a new process, in which the same files are decoded to slightly other pixels."""

    def upgrade() -> None:
        monkeypatch.setattr(ingestion, "_squares", ingestion._Squares())
        monkeypatch.setattr(ingestion, "decoders", lambda _: ("pil 99",))
        monkeypatch.setattr(ingestion, "prepare", brighter)

    def brighter(*arguments: object) -> Prepared:
        made = prepare(*arguments)
        return replace(made, square=made.square.point(lambda value: min(value + 1, 255)))

    return upgrade


def test_what_the_store_has_is_used_as_it_is_after_an_upgrade(
    store: FolderStore, folder: Path, another_decoder: Callable[[], None]
) -> None:
    images = ingest(str(folder), Wanted(64), Settings())
    keep_pictures(str(folder), images, Wanted(64), Settings(), store)
    kept = list(store.keys(""))
    another_decoder()
    keep_pictures(str(folder), images, Wanted(64), Settings(), store)  # of a plan that was made before
    assert list(store.keys("")) == kept


def test_what_was_noted_before_an_upgrade_is_not_believed(
    take, store: FolderStore, folder: Path, another_decoder: Callable[[], None]
) -> None:
    first = ingest(str(folder), Wanted(64), Settings())
    another_decoder()
    images = take(folder)
    assert [one.sha256 for one in images.pictures] == [one.sha256 for one in first.pictures]
    assert {one.square for one in images.pictures}.isdisjoint(one.square for one in first.pictures)
    assert all(get_blob(store, one.square) for one in images.pictures)


def test_a_note_that_is_true_no_more_is_forgotten_when_that_is_found_out(
    take, folder: Path, another_decoder: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a plugin changes and its version does not: the advice to run it again is worth something."""
    ingest(str(folder), Wanted(64), Settings())
    known = ingestion.decoders
    another_decoder()
    monkeypatch.setattr(ingestion, "decoders", known)
    with pytest.raises(InputError, match=r"0\.png in .* has changed since it was checked: run it again"):
        take(folder)
    assert len(take(folder).pictures) == 3


def test_originals_are_read_once_and_not_again_once_they_are_kept(
    store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "1-masklabel.png").write_bytes(picture(7))
    size = sum(file.stat().st_size for file in folder.iterdir())
    monkeypatch.setattr(sources, "MAX_SOURCE_BYTES", size)  # reading anything twice is too much
    keeping = Settings(keep_originals=True)
    images = ingest(str(folder), Wanted(64), keeping)
    monkeypatch.setattr(ingestion, "_squares", ingestion._Squares())
    keep_pictures(str(folder), images, Wanted(64), keeping, store)
    files = [file.read_bytes() for file in folder.iterdir()]
    assert all(get_blob(store, hashlib.sha256(data).hexdigest()) == data for data in files)
    for file in folder.iterdir():
        file.unlink()
    keep_pictures(str(folder), images, Wanted(64), keeping, store)


def test_an_archive_is_known_by_itself_and_not_by_times_and_sums_within_it(tmp_path: Path) -> None:
    """Two tars of members with the same names, sizes and times, which hold something else."""
    found = []
    for number in (1, 2):
        data = picture(number)[:-12]
        data += bytes(20_000 - len(data))  # as long as the other
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            info = tarfile.TarInfo("a.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        images = ingest(str(tmp_path / "a.tar"), Wanted(64), Settings())
        found.append(images.pictures[0].sha256)
        assert images == ingest(str(tmp_path / "a.tar"), Wanted(64), Settings())
    assert found[0] != found[1]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_every_announced_form_is_read(take, folder: Path, form: str) -> None:
    (folder / f"other.{form.lower()}").write_bytes(picture(9, form=form))
    images = take(folder)
    assert f"other.{form.lower()}" in names(images)
    assert images.warnings == ()


def test_only_picture_files_directly_in_the_folder_count_and_others_are_named(take, folder: Path) -> None:
    (folder / "notes.txt").write_text("not a picture")
    (folder / "concept.toml").write_text("class_word = 'toy'")
    (folder / "._0.png").write_bytes(b"what another system leaves beside files")
    (folder / "deeper").mkdir()
    (folder / "deeper/9.png").write_bytes(picture(9))
    (folder / "folder.png").mkdir()
    images = take(folder)
    assert names(images) == {"0.png", "1.png", "2.png"}
    (told,) = images.warnings
    assert told.startswith("The sub-folder deeper holds 1 picture, which")


def test_suffixes_are_read_in_any_case(take, folder: Path) -> None:
    (folder / "LOUD.JPG").write_bytes(picture(9, form="JPEG"))
    assert "LOUD.JPG" in names(take(folder))


def test_size_is_told_upright(take, folder: Path) -> None:
    image = Image.open(io.BytesIO(picture(9, (80, 120))))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif)
    turned = next(one for one in take(folder).pictures if one.name == "turned.jpg")
    assert (turned.width, turned.height) == (120, 80)


# --- what is left out, and said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("text.png", b"this is no picture", "it is no picture"),
        ("empty.png", b"", "it is empty"),
        ("cut.jpg", picture(9, (256, 256), "JPEG")[:2000], "does not read as a picture"),
        ("cut.png", picture(9)[:2000], "does not read as a picture"),
        ("tiny.png", picture(9, (31, 200)), "31×200 is too small, at least 32 pixels"),
        ("none.png", enormous(64, 64), "does not read as a picture"),
        ("bomb.png", enormous(20_000, 20_000), "20000×20000 is over 100000000 pixels"),
        ("worse.png", enormous(60_000, 60_000), "60000×60000 is over 100000000 pixels"),
    ],
    ids=["text", "empty", "jpeg cut short", "png cut short", "too small", "no pixels", "bomb", "larger bomb"],
)
def test_one_bad_picture_is_left_out_with_a_reason(
    take, store: FolderStore, folder: Path, name: str, data: bytes, reason: str
) -> None:
    (folder / name).write_bytes(data)
    images = take(folder)
    assert names(images) == {"0.png", "1.png", "2.png"}
    (warning,) = images.warnings
    assert warning.startswith(f"{name} is left out: ") and reason in warning
    assert len(list(store.keys("blobs/"))) == 3


def test_the_size_limit_is_a_setting(folder: Path) -> None:
    (folder / "wide.png").write_bytes(picture(9, (65, 64)))
    images = ingest(str(folder), Wanted(64), Settings(max_picture_pixels=64 * 64))
    assert names(images) == {"0.png", "1.png", "2.png"}
    assert images.warnings == ("wide.png is left out: 65×64 is over 4096 pixels.",)


def test_a_file_over_the_byte_limit_is_not_read(take, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "big.bmp").write_bytes(picture(9, (100, 100), "BMP"))
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 25_000)
    images = take(folder)
    assert names(images) == {"0.png", "1.png", "2.png"}
    assert "big.bmp is left out: the file is over" in images.warnings[0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged TIFF tags
def test_no_damage_ends_in_anything_but_a_reason(take, store: FolderStore, tmp_path: Path) -> None:
    """Flip bytes of good files of every form: each is used or left out, nothing else happens."""
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    path.mkdir()
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = picture(1, (40, 40), form)
        for number in range(30):
            data = bytearray(whole[: rng.integers(20, len(whole))] if number % 3 == 0 else whole)
            for _ in range(4):
                data[rng.integers(min(len(data), 200))] = rng.integers(256)
            (path / f"{number}.{form.lower()}").write_bytes(data)
    (path / "good.png").write_bytes(picture(2))
    images = take(path)
    assert "good.png" in names(images)
    assert len(images.pictures) + sum("left out" in one or "same file" in one for one in images.warnings) == 181


def test_small_pictures_are_enlarged_with_a_warning(take, folder: Path) -> None:
    (folder / "small.png").write_bytes(picture(9, (48, 50)))
    images = take(folder)
    assert "small.png" in names(images)
    assert images.warnings == ("small.png is enlarged: 48×50 is under 64 pixels a side.",)


def test_the_same_file_twice_is_used_once(take, folder: Path) -> None:
    (folder / "copy.png").write_bytes(picture(1))
    images = take(folder)
    assert len(images.pictures) == 3
    assert images.warnings == ("copy.png is the same file as 1.png; it is used once.",)


@pytest.mark.parametrize(("count", "words"), [(1, "Only 1 usable picture;"), (2, "Only 2 usable pictures;")])
def test_fewer_than_three_are_used_with_a_warning(take, folder: Path, count: int, words: str) -> None:
    for number in range(count, 3):
        (folder / f"{number}.png").unlink()
    images = take(folder)
    assert len(images.pictures) == count
    assert images.warnings[0].startswith(words)


def test_names_of_any_bytes_are_shown_safely_and_lose_nothing(take, store: FolderStore, folder: Path) -> None:
    odd = [b"caf\xe9.png", b"two\nlines.png", b"\x1b[31mred.png", "\u202egnp.png".encode(), b"a" * 250 + b".png"]
    for number, name in enumerate(odd):
        (folder / os.fsdecode(name)).write_bytes(picture(10 + number))
    images = take(folder)
    assert len(images.pictures) == 3 + len(odd) and images.findings == ()
    assert "caf\\xe9.png" in names(images)
    assert ImageSet.model_validate_json(images.model_dump_json()) == images


def test_what_is_no_file_is_named_and_stops_nothing(take, folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "round.png").symlink_to(folder / "round.png")
    (folder / "circle").symlink_to(folder)
    images = take(folder)
    assert names(images) == {"0.png", "1.png", "2.png"}
    assert [one.file for one in images.findings] == ["gone.png", "pipe.png", "round.png"]
    assert "no file but a pipe" in images.findings[1].text


@pytest.mark.parametrize("source", ["~nosuchuser/pictures", "a\0b", "/" + "x" * 300])
def test_places_that_cannot_be_are_refused(take, store: FolderStore, source: str) -> None:
    refused(take, store, source)


def test_an_animation_is_told_and_one_that_begins_black_is_left_out(take, folder: Path) -> None:
    frames = [Image.open(io.BytesIO(picture(number))) for number in (5, 6)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (64, 64)).save(folder / "black.gif", save_all=True, append_images=frames)
    images = take(folder)
    assert names(images) == {"0.png", "1.png", "2.png", "moving.gif"}
    assert {(one.kind, one.file) for one in images.findings} == {("unread", "black.gif"), ("frames", "moving.gif")}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_none_usable_is_refused_with_all_reasons(take, store: FolderStore, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.mkdir()
    (path / "text.png").write_bytes(b"text")
    (path / "tiny.png").write_bytes(picture(0, (8, 8)))
    refused(take, store, path, "No usable picture", "text.png is left out", "tiny.png is left out", "too small")


def test_an_empty_folder_is_refused_and_says_what_was_looked_for(take, store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(take, store, tmp_path / "empty", "No usable picture", ".jpeg", ".png", ".webp")


def test_more_than_200_are_taken_for_a_mistake(take, store: FolderStore, tmp_path: Path) -> None:
    path = tmp_path / "many"
    path.mkdir()
    for number in range(MANY + 1):
        (path / f"{number:03}.png").write_bytes(picture(number, (8, 8)))
    refused(take, store, path, "more than 200 pictures")
    (path / "000.png").unlink()
    (path / "001.png").write_bytes(picture(1))
    assert names(take(path)) == {"001.png"}


def test_missing_and_mistaken_sources_are_refused(take, store: FolderStore, tmp_path: Path, folder: Path) -> None:
    refused(take, store, tmp_path / "nowhere", "There is no", "nowhere")
    refused(take, store, folder / "0.png", "neither a folder nor a .zip or .tar file")
    refused(take, store, "ftp://example.org/pictures", "ftp://example.org/pictures cannot be read")


def test_a_folder_outside_the_allowed_roots_is_refused(
    store: FolderStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(tmp_path / "elsewhere"))
    for source in (folder, tmp_path / "elsewhere/../pictures"):
        with pytest.raises(InputError, match="lies outside the folders that may be read"):
            ingest(str(source), Wanted(64), Settings())
    assert list(store.keys("")) == []


def test_links_out_of_the_allowed_roots_are_not_followed(
    take, store: FolderStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(root))
    (root / "link").symlink_to(folder)
    with pytest.raises(InputError, match="lies outside the folders"):
        ingest(str(root / "link"), Wanted(64), Settings())
    (root / "mixed").mkdir()
    (root / "mixed/out.png").symlink_to(folder / "0.png")
    (root / "mixed/in.png").write_bytes(picture(5))
    (root / "mixed/near.png").symlink_to(root / "mixed/in.png")
    images = take(str(root / "mixed"))
    assert names(images) == {"in.png"}
    assert any("out.png lies outside the folders" in one for one in images.warnings)
    assert any("near.png is the same file as in.png" in one for one in images.warnings)
    assert len(list(store.keys(""))) == 1


# --- zip files --------------------------------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_of_a_folder_is_read_without_its_litter(take, tmp_path: Path) -> None:
    good = {f"photos/{number}.png": picture(number) for number in range(3)}
    litter = {"__MACOSX/photos/._0.png": b"litter", "photos/.hidden.png": picture(8), "readme.txt": b"hello"}
    images = take(zipped(tmp_path / "photos.zip", good | litter))
    assert names(images) == set(good)
    assert images.warnings == ()


def test_a_folder_and_a_zip_of_it_are_the_same_set(take, tmp_path: Path, folder: Path) -> None:
    archive = zipped(tmp_path / "p.ZIP", {file.name: file.read_bytes() for file in folder.iterdir()})
    assert take(archive) == take(folder)


def test_a_damaged_member_is_left_out(take, tmp_path: Path) -> None:
    """Damage to one byte after another of a member: a reason each time, whatever the unpacker raised."""
    good = {f"{number}.png": picture(number) for number in (1, 2, 3)}
    path = zipped(tmp_path / "p.zip", {"a.png": b"A" * 50 + picture(0)[:150]} | good)
    whole = path.read_bytes()
    start = whole.index(b"a.png") + 5
    for place in range(start, start + 120, 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        images = take(path)
        assert names(images) == set(good)
        assert "a.png is left out: it does not" in images.warnings[0]


def test_an_encrypted_member_is_left_out(take, tmp_path: Path) -> None:
    path = zipped(tmp_path / "p.zip", {f"{n}.png": picture(n) for n in range(4)})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag "encrypted" of the first local header, and of the first central one
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    images = take(path)
    assert names(images) == {"1.png", "2.png", "3.png"}
    assert images.warnings[0] == "0.png is left out: it is encrypted with a password; unpack the archive first."


def test_what_unpacks_to_too_much_is_not_unpacked(take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "p.zip", {"bomb.png": bytes(10**6), **{f"{n}.png": picture(n) for n in range(3)}})
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 10**5)
    images = take(path)
    assert names(images) == {"0.png", "1.png", "2.png"}
    assert "bomb.png is left out: the file is over" in images.warnings[0]


@pytest.mark.parametrize("data", [b"", b"not a zip", picture(0)])
def test_what_is_no_zip_file_is_refused(take, store: FolderStore, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.zip").write_bytes(data)
    refused(take, store, tmp_path / "p.zip", "does not read as a zip file")


def test_a_zip_file_cut_short_or_from_the_future_is_refused(take, store: FolderStore, tmp_path: Path) -> None:
    path = zipped(tmp_path / "p.zip", {f"{n}.png": picture(n) for n in range(3)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(take, store, path, "does not read as a zip file")
    central = whole.index(b"PK\x01\x02")
    path.write_bytes(whole[: central + 6] + bytes([200]) + whole[central + 7 :])  # needs version 20.0 to unpack
    refused(take, store, path, "does not read as a zip file")


def test_a_zip_file_without_pictures_is_refused(take, store: FolderStore, tmp_path: Path) -> None:
    refused(take, store, zipped(tmp_path / "p.zip", {"readme.txt": b"hello"}), "No usable picture")


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_pictures_come_from_a_bucket(take, bucket: FolderStore) -> None:
    for number in range(3):
        bucket.put(f"cats/{number}.png", picture(number))
    bucket.put("cats/deeper/9.png", picture(9))
    bucket.put("cats/notes.txt", b"no picture")
    bucket.put("cats/broken.png", b"no picture")
    images = take("s3://bucket/cats")
    assert names(images) == {"0.png", "1.png", "2.png"}
    assert [one.file for one in images.findings] == ["deeper", "broken.png"]


def test_a_bucket_s_listing_is_enough_for_what_is_known(take, bucket: FolderStore, monkeypatch) -> None:
    for number in range(3):
        bucket.put(f"cats/{number}.png", picture(number))
    first = take("s3://bucket/cats")
    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "get", lambda *_: pytest.fail("an object was read again"))
        assert ingest("s3://bucket/cats", Wanted(64), Settings()) == first
    bucket.put("cats/1.png", picture(9))
    assert ingest("s3://bucket/cats", Wanted(64), Settings()) != first


def test_the_store_itself_is_no_source(take, bucket: FolderStore, store: FolderStore) -> None:
    bucket.put("pseudoword/concepts/0.png", picture(1))
    mine = {"store": "s3://bucket/pseudoword"}
    for source in ("s3://bucket/pseudoword", "s3://bucket/pseudoword/concepts"):
        with pytest.raises(InputError, match="lies in the store"):
            take(source, **mine)
    bucket.put("cats/0.png", picture(1))
    assert list(concept_folders("s3://bucket", Settings(**mine))) == ["cats"]
    assert names(take("s3://bucket/cats", store="s3://bucket")) == {"0.png"}  # a store that is a whole bucket


def test_a_bucket_without_pictures_is_refused(take, store: FolderStore, bucket: FolderStore) -> None:
    refused(take, store, "s3://bucket/nothing", "No usable picture in s3://bucket/nothing")


# --- what pages show --------------------------------------------------------------------------------------------------


def test_a_cut_picture_is_kept_whole_and_small_for_pages(take, store: FolderStore, folder: Path) -> None:
    (folder / "0.png").write_bytes(picture(0, (640, 320)))
    (folder / "1.png").write_bytes(picture(1, (100, 64)))
    wide, small, square = sorted(take(folder).pictures, key=lambda one: one.name)
    assert pixels(store, small.whole).size == (100, 64)
    width, height = pixels(store, wide.whole).size
    assert width == 2 * height and 128 <= width <= 256
    assert square.whole == ""


def test_what_is_not_to_be_shown_is_not_kept_for_showing(take, store: FolderStore, folder: Path) -> None:
    (folder / "0.png").write_bytes(picture(0, (640, 320)))
    wanted, settings = Wanted(64), Settings()
    images = ingest(str(folder), wanted, settings).hidden()
    keep_pictures(str(folder), images, wanted, settings, store)
    assert sum(1 for _ in store.keys("blobs/")) == 3


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_mask_is_kept_with_its_picture_and_is_none_of_the_pictures(take, store: FolderStore, folder: Path) -> None:
    mask = picture(7)
    (folder / "1-masklabel.png").write_bytes(mask)
    images = take(folder)
    assert names(images) == {"0.png", "1.png", "2.png"} and not images.warnings
    (masked,) = [one for one in images.pictures if one.mask]
    assert masked.name == "1.png" and masked.mask == hashlib.sha256(mask).hexdigest()
    grey = Image.open(io.BytesIO(mask)).convert("L")
    assert (np.asarray(pixels(store, masked.shown)) == np.asarray(grey)).all()


def test_a_mask_that_fits_no_picture_is_told(take, folder: Path) -> None:
    (folder / "9-masklabel.png").write_bytes(picture(7))
    (told,) = take(folder).warnings
    assert told.startswith("9-masklabel.png is the mask of no picture here")


@pytest.mark.parametrize(
    ("mask", "words"), [(picture(7, (64, 65)), "has another size"), (b"no picture", "1-masklabel.png is left out")]
)
def test_a_picture_whose_mask_cannot_be_used_is_left_out(take, folder: Path, mask: bytes, words: str) -> None:
    (folder / "1-masklabel.png").write_bytes(mask)
    images = take(folder)
    assert names(images) == {"0.png", "2.png"}
    assert any(words in warning for warning in images.warnings)


# --- real photographs -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not DREAMBENCH.is_dir(), reason="the DreamBench photographs do not lie beside the checkout")
@pytest.mark.parametrize("subject", ["cat", "duck_toy", "red_cartoon"])
def test_photographs_are_taken_in_at_512(
    take, monkeypatch: pytest.MonkeyPatch, store: FolderStore, subject: str
) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(DREAMBENCH))
    source = concept_folders(str(DREAMBENCH), Settings())[subject]
    images = take(source, 512)
    assert len(images.pictures) == len(list(Path(source).iterdir())) >= 3, images.warnings
    first = pixels(store, images.pictures[0].square)
    assert first.size == (512, 512) and first.mode == "RGB"
