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
