"""What taking in photographs costs, beside the data set class of diffusers' textual-inversion script.

    python benchmarks/ingest.py --photographs FOLDER --count 1000

It makes as many JPEGs of 12 megapixels out of those in FOLDER in a temporary folder, in concepts of five: each shows
another crop of a photograph, scaled and encoded anew, so no two files are the same. Each side runs in a process of its
own, which says its CPU seconds and its peak memory. The script's class opens a picture, converts it to RGB, crops it in
the middle and resizes it, once for every sample that is drawn; nothing is checked.
Here a picture is checked, looked at for findings, cut and encoded, once.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ti_core.images.ingest import Wanted, ingest
from ti_core.settings import Settings

SIDE, EACH = 512, 5
SIZE = (4000, 3000)


def make_photographs(source: Path, target: Path, count: int) -> None:
    """Write `count` JPEGs of 12 megapixels, `EACH` to a folder: crops of 70 to 100% of what fits into a photograph."""
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = target / f"concept-{number // EACH:04}"
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(files[number % len(files)]) as image:
            scale = rng.uniform(0.7, 1.0) * min(image.width / SIZE[0], image.height / SIZE[1])
            width, height = SIZE[0] * scale, SIZE[1] * scale
            x, y = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
            box = (x, y, x + width, y + height)
            scene = image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC, box=box)
        scene.save(folder / f"{number:04}.jpg", "JPEG", quality=int(rng.integers(80, 96)))


def ours(folder: Path) -> None:
    """Check, cut and encode every picture, as a plan and its keeping do, without a store."""
    settings = Settings(home=folder.parent / "home", allowed_roots=(folder,))
    for concept in sorted(folder.iterdir()):
        ingest(str(concept), Wanted(SIDE), settings)


def script(folder: Path) -> None:
    """What `TextualInversionDataset.__getitem__` of diffusers' examples does to every picture, `center_crop` on."""
    for path in sorted(folder.rglob("*.jpg")):
        image = Image.open(path)
        if image.mode != "RGB":
            image = image.convert("RGB")
        pixels = np.array(image).astype(np.uint8)
        crop = min(pixels.shape[0], pixels.shape[1])
        height, width = pixels.shape[0], pixels.shape[1]
        pixels = pixels[(height - crop) // 2 : (height + crop) // 2, (width - crop) // 2 : (width + crop) // 2]
        made = Image.fromarray(pixels).resize((SIDE, SIDE), resample=Image.Resampling.BICUBIC)
        (np.array(made).astype(np.uint8) / 127.5 - 1.0).astype(np.float32)


def measured(side: str, folder: Path) -> dict[str, float]:
    """Run one side in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "side", side, str(folder)], capture_output=True, text=True, check=True
    )
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def run_side(side: str, folder: Path) -> None:
    """Do the work of a side, and say what it cost."""
    before = time.perf_counter()
    {"ours": ours, "script": script}[side](folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    count = sum(1 for _ in folder.rglob("*.jpg"))
    print(
        json.dumps(
            {
                "pictures": count,
                "cpu_seconds": used.ru_utime + used.ru_stime,
                "wall_seconds": time.perf_counter() - before,
                "peak_mb": peak_mb(),
            }
        )
    )


def peak_mb() -> float:
    """The most memory that this program has held. `ru_maxrss` would count what its parent held when it was started."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def photographs(source: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        make_photographs(source, folder, count)
        for side in ("script", "ours"):
            said = measured(side, folder)
            rate = said["pictures"] / said["cpu_seconds"]
            print(f"{side}: {rate:.1f} pictures per CPU-second, peak {said['peak_mb']:.0f} MB, {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    given = parser.parse_args()
    photographs(given.photographs, given.count)


if __name__ == "__main__":
    if sys.argv[1:2] == ["side"]:  # what `measured` starts
        run_side(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
