"""Damaged pictures and archives by the ten thousand: none may end the process, hang it or take its memory.

    nice -n 15 python benchmarks/fuzz_pictures.py --seeds FOLDER [FOLDER …] --count 20000

Files of the folders, and archives made of them, are damaged: bytes flipped, cut off, repeated, exchanged with those of
another file; lengths and sizes overwritten with large numbers; headers of one form put before another. Each is taken in
under its name in a process that may use 2 GiB of address space above what it starts with; what is not an InputError is a
fault, and so is more than `SECONDS` for one file. The last line says what came of them.
"""

import argparse
import io
import resource
import signal
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from ti_core.errors import InputError
from ti_core.images.ingest import Wanted, look
from ti_core.settings import Settings

SECONDS = 20
ROOM = 2 * 2**30
LARGE = (
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\xff\xff",
    b"\xff\xff",
    b"\x80\x00",
    b"\x00",
)


def seeds_of(folders: list[Path], most_bytes: int = 300_000) -> list[tuple[str, bytes]]:
    """Files to damage, with archives of the first few of them."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    seeds = [(path.name, path.read_bytes()) for path in files if 0 < path.stat().st_size <= most_bytes]
    for start in range(0, min(len(seeds), 40), 8):
        few = seeds[start : start + 4]
        zipped, tarred = io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in few:
                archive.writestr(name, data)
        for mode, suffix in (("w", "tar"), ("w:gz", "tar.gz")):
            tarred = io.BytesIO()
            with tarfile.open(fileobj=tarred, mode=mode) as tar:
                for name, data in few:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            seeds.append((f"a.{suffix}", tarred.getvalue()))
        seeds.append(("a.zip", zipped.getvalue()))
    return seeds


def damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to six kinds of damage; headers, where lengths stand, are hit as often as all the rest."""
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 7))):
        if not made:
            break
        reach = min(len(made), 600) if rng.random() < 0.5 else len(made)
        place = int(rng.integers(reach))
        match int(rng.integers(7)):
            case 0:
                made[place] ^= 1 << int(rng.integers(8))
            case 1:
                made[place] = int(rng.integers(256))
            case 2:
                large = LARGE[int(rng.integers(len(LARGE)))]
                made[place : place + len(large)] = large
            case 3:
                del made[place : place + int(rng.integers(1, 64))]
            case 4:
                made[place:place] = made[place : place + int(rng.integers(1, 400))]
            case 5:
                made = made[: max(place, 1)]
            case 6:
                start = int(rng.integers(len(other)))
                made[place : place + 64] = other[start : start + 64]
    return bytes(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    seeds, rng = seeds_of(given.seeds), np.random.default_rng(given.seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (start + ROOM, start + ROOM))
    signal.signal(signal.SIGALRM, _late)
    came, slowest, began = Counter[str](), (0.0, ""), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        settings = Settings(home=Path(place, "home"), allowed_roots=(Path(place),))
        for number in range(given.count):
            name, data = seeds[int(rng.integers(len(seeds)))]
            made = damaged(data, seeds[int(rng.integers(len(seeds)))][1], rng)
            source = Path(place, "source")
            source.mkdir()
            file = source / name
            file.write_bytes(made)
            archive = name.endswith((".zip", ".tar", ".tar.gz"))
            clock = time.process_time()
            signal.alarm(SECONDS * 15)  # of a machine that has other work, too
            try:
                look(str(file if archive else source), Wanted(64), settings)
                came["used"] += 1
            except InputError:
                came["refused in a sentence"] += 1
            except Exception as error:
                came[f"FAULT {type(error).__name__}"] += 1
                kept = Path(f"fault-{number}-{name}")
                kept.write_bytes(made)
                traceback.print_exc()
                print(f"FAULT: kept as {kept}", flush=True)
            signal.alarm(0)
            slowest = max(slowest, (time.process_time() - clock, f"{number} {name}"))
            file.unlink()
            source.rmdir()
            if number % 1000 == 999:
                print(f"{number + 1}: {dict(came)}, {time.monotonic() - began:.0f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{given.count} damaged files of {len(seeds)}: {dict(came)}; slowest {slowest[0]:.1f} CPU seconds ({slowest[1]}); "
        f"peak memory {peak / 1024:.0f} MB, {before / 1024:.0f} MB before the first"
    )


def _late(*_: object) -> None:
    raise TimeoutError("too slow")


if __name__ == "__main__":
    main()
