"""Archives judged by what comes out of them, whatever they claim."""

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from ti_core.errors import InputError
from ti_core.images import archives, sources
from ti_core.images.opening import opened
from ti_core.images.sources import Entry, TooMuchError
from ti_core.settings import Settings


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def contents(source: Path) -> dict[str, bytes | str]:
    """What each member holds, or why it cannot be read."""

    def read(entry: Entry) -> bytes | str:
        try:
            return entry.read()
        except TooMuchError:
            raise
        except InputError as error:
            return str(error)

    with opened(str(source), Settings()) as entries:
        return {entry.path: read(entry) for entry in entries}


MEMBERS = {"pics/1.png": b"one", "pics/2.png": b"two"}


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("A.TAR", "w:gz")])
def test_tars_are_read_like_zips(tmp_path: Path, name: str, mode: str) -> None:
    assert contents(tarred(tmp_path / name, MEMBERS | {"./.hidden": b"x"}, mode)) == MEMBERS
    assert contents(zipped(tmp_path / "a.zip", MEMBERS | {"__MACOSX/._1.png": b"x"})) == MEMBERS


def test_links_and_devices_in_a_tar_are_no_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert contents(tmp_path / "a.tar") == {}


@pytest.mark.parametrize(
    ("pack", "name"),
    # In a tar file a backslash is a letter of a name: such files come from systems where it is one.
    [
        (zipped, "../../evil.jpg"),
        (zipped, "/abs.jpg"),
        (zipped, "C:\\win\\c.jpg"),
        (tarred, "../../evil.jpg"),
        (tarred, "/abs.jpg"),
    ],
)
def test_names_that_lead_out_are_left_out_and_write_nothing(tmp_path: Path, name: str, pack: object) -> None:
    path = pack(tmp_path / f"a.{'zip' if pack is zipped else 'tar'}", {name: b"x", "good.jpg": b"y"})
    found = contents(path)
    assert found.pop("good.jpg") == b"y"
    (told,) = found.values()
    assert "is left out: its name leads out of the archive" in str(told)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_size_that_a_zip_claims_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    path = zipped(tmp_path / "a.zip", {"bomb.png": bytes(5000), "good.png": b"x"})
    data = bytearray(path.read_bytes())
    for header, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):  # it claims 10 bytes, twice
        start = data.index(header)
        data[start + place : start + place + 4] = struct.pack("<I", 10)
    path.write_bytes(data)
    found = contents(path)
    assert "bomb.png is left out" in str(found["bomb.png"]) and found["good.png"] == b"x"


@pytest.mark.parametrize("pack", ["zip", "tar", "tar.gz"])
def test_a_source_that_holds_too_much_in_all_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str
) -> None:
    for room in (sources, archives):
        monkeypatch.setattr(room, "MAX_SOURCE_BYTES", 12_000)
    members = {f"{number}.png": bytes(5000) for number in range(3)}
    make = zipped if pack == "zip" else tarred
    path = make(tmp_path / f"a.{pack}", members, **({"mode": "w:gz"} if pack == "tar.gz" else {}))
    with pytest.raises(TooMuchError, match="MiB"):
        contents(path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
@pytest.mark.parametrize(
    "data",
    [b"", b"nothing of the kind", gzip.compress(b"no tar inside" * 100), b"\x1f\x8bcut"],
    ids=["empty", "words", "no tar", "cut"],
)
def test_what_is_no_archive_is_told(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=r"does not read as a (zip|tar) file"):
        contents(tmp_path / name)


def test_names_of_any_bytes_in_a_zip_are_harmless(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"cafe.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"cafe.png", b"caf\xe9.png"))
    assert list(contents(path).values()) == [b"x"]


# --- what archives say about their files ------------------------------------------------------------------------------


def headers(count: int, **fields: object) -> bytes:
    """A tar of so many members that hold nothing."""
    info = tarfile.TarInfo("a")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT) * count + bytes(1024)


LONG = tarfile.TarInfo("a" * 3000).tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_members_of_every_kind_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes, suffix: str) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 100)
    data = headers(101, type=kind)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == "tar.gz" else data)
    with pytest.raises(TooMuchError, match="holds more than 100 files and folders"):
        contents(path)
    path.write_bytes(headers(100, type=kind))
    assert set(contents(path)) <= {"a"}


def test_folders_in_a_zip_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 100)
    with pytest.raises(TooMuchError, match="holds more than 100 files and folders"):
        contents(zipped(tmp_path / "a.zip", {f"{number}/": b"" for number in range(101)}))


@pytest.mark.parametrize(
    "data",
    [
        LONG + headers(1),
        tarfile.TarInfo("a").create_pax_global_header({"comment": "a" * 3000}) + headers(1),
        # A map of holes, as long as its writer likes (GNU's sparse format 1.0).
        tarfile.TarInfo("a").create_pax_global_header({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
        + headers(1, size=5000)[:512] + b"2000\n" + b"0\n" * 2500 + bytes(1000),
    ],
    ids=["long name", "pax", "sparse"],
)  # fmt: skip
def test_what_a_tar_says_about_its_files_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(archives, "MAX_LIST_BYTES", 2500)
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(TooMuchError, match="about its files"):
        contents(tmp_path / "a.tar")


def test_what_a_zip_says_about_its_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", {f"{number}.txt": b"" for number in range(100)})
    assert len(contents(path)) == 100
    monkeypatch.setattr(archives, "MAX_LIST_BYTES", 2500)
    with pytest.raises(TooMuchError, match="about its files"):
        contents(path)


def test_headers_of_headers_and_sizes_beyond_numbers_are_damage(tmp_path: Path) -> None:
    for data in (LONG[:3584] * 1500, headers(2, size=2**70)):
        (tmp_path / "a.tar").write_bytes(data)
        with pytest.raises(InputError, match="does not read as a tar file"):
            contents(tmp_path / "a.tar")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_whose_size_python_does_not_bound_are_not_unpacked(tmp_path: Path, packing: int) -> None:
    """Forty bytes of bzip2 may hold forty megabytes, and all of a member is unpacked at once."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as archive:
        archive.writestr("bomb.png", bytes(10**6))
        archive.writestr("good.png", b"x", zipfile.ZIP_STORED)
    found = contents(tmp_path / "a.zip")
    assert "packed in a rare way" in str(found["bomb.png"]) and found["good.png"] == b"x"
