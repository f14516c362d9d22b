"""Digests remembered across processes: right whatever happens to the file, and to what is remembered."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ti_core.backbone import digests


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache folder, the test's own; files of a hundred bytes and more are remembered, as soon as they are there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "REMEMBERED_FROM", 100)
    monkeypatch.setattr(digests, "SETTLED", -1)
    digests._digest.cache_clear()
    return tmp_path / "cache/pseudoword/digests"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole."""
    read, seen = digests._read, list[Path]()
    monkeypatch.setattr(digests, "_read", lambda path: seen.append(path) or read(path))
    return seen


def anew(path: Path) -> str:
    """The digest as another process finds it."""
    digests._digest.cache_clear()
    return digests.digest_file(path)


def weights(path: Path, filled: bytes = b"w") -> Path:
    path.write_bytes(filled * 1000)
    return path


def test_a_second_process_reads_no_gigabytes(tmp_path: Path, reads: list[Path], kept: Path) -> None:
    file = weights(tmp_path / "unet.safetensors")
    first = digests.digest_file(file)
    assert first == hashlib.sha256(file.read_bytes()).hexdigest()
    assert anew(file) == first and len(reads) == 1
    code = "import sys; from pathlib import Path; from ti_core.backbone import digests as d; d.REMEMBERED_FROM = 100\n"
    code += "d._read = lambda path: sys.exit('it was read')\nprint(d.digest_file(Path(sys.argv[1])))"
    other = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == first
    assert len(list(kept.iterdir())) == 1


def test_a_changed_file_is_read_again_even_with_its_old_size_and_time(tmp_path: Path) -> None:
    file = weights(tmp_path / "unet.safetensors")
    before, stat = digests.digest_file(file), file.stat()
    with file.open("r+b") as opened:  # the same inode
        opened.write(b"x")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert anew(file) == hashlib.sha256(file.read_bytes()).hexdigest() != before


def test_another_file_in_its_place_is_read(tmp_path: Path, reads: list[Path]) -> None:
    file = weights(tmp_path / "unet.safetensors")
    before = digests.digest_file(file)
    weights(tmp_path / "new", b"n").replace(file)
    assert anew(file) != before and len(reads) == 2


def test_a_link_of_another_snapshot_to_the_same_blob_is_not_read_again(tmp_path: Path, reads: list[Path]) -> None:
    blob = weights(tmp_path / "blob")
    for name in ("snapshot-1", "snapshot-2"):
        (tmp_path / name).symlink_to(blob)
        anew(tmp_path / name)
    assert len(reads) == 1


@pytest.mark.parametrize("left", [b"", b"half", b"\xff" * 64], ids=["nothing", "half", "noise"])
def test_what_is_remembered_wrongly_is_not_believed(tmp_path: Path, kept: Path, left: bytes) -> None:
    file = weights(tmp_path / "unet.safetensors")
    before = digests.digest_file(file)
    (one,) = kept.iterdir()
    one.write_bytes(left)
    assert anew(file) == before
    assert one.read_text() == before


def test_a_file_that_was_only_just_written_is_not_remembered(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED", 60_000_000_000)
    digests.digest_file(weights(tmp_path / "unet.safetensors"))
    assert not kept.exists()


def test_small_files_leave_nothing_behind(tmp_path: Path, kept: Path) -> None:
    small = tmp_path / "config.json"
    small.write_text("{}")
    digests.digest_file(small)
    assert not kept.exists()


def test_without_a_place_to_remember_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    file = weights(tmp_path / "unet.safetensors")
    assert digests.digest_file(file) == anew(file) == hashlib.sha256(file.read_bytes()).hexdigest()
