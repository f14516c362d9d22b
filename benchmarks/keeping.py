"""What reading costs as a store grows: fetch, sync, list, show, a misspelt name.

    .venv/bin/python benchmarks/keeping.py --concepts 500 2000
    .venv/bin/python benchmarks/keeping.py --rows 20000

Each size is a folder store of that many concepts with five versions each, made of one judged run; documents are written
without waiting for the disk, then read through the client's own doors. `--rows` makes pointers alone, and measures what
reads the index, in CPU time. It trains and judges nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.builders import done, judged
from ti_core import client
from ti_core.errors import NotFoundError
from ti_core.publishing.catalogue import manifests_of, outcomes_of, pointer_of
from ti_core.publishing.index import note, rebuild
from ti_core.settings import Settings
from ti_core.store import open_store

VERSIONS = 5


def build(settings: Settings, concepts: int) -> None:
    """Fill the settings' store."""
    store = open_store(settings)
    for seed in range(VERSIONS):
        done(store, judged(store, name="word-x", seed=seed, score=0.4 + seed / 10))
    root = Path(store.uri)
    prefix = root / "concepts" / "word-x"
    documents = {path.relative_to(prefix): path.read_text() for path in prefix.rglob("*.json")}
    for number in range(concepts):
        name = f"word-{number}"
        for relative, text in documents.items():
            path = root / "concepts" / name / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("word-x", name))
    rebuild(store)


def rows(count: int) -> dict[str, float]:
    """Milliseconds of CPU time of what reads the index, at so many words: other work on the machine does not count."""
    cpu = partial(timed, clock=time.process_time)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        store = open_store(settings)
        done(store, judged(store, name="word-x"))
        root = Path(store.uri)
        text = (root / "concepts/word-x/miniature/champion.json").read_text()
        for number in range(count):
            path = root / "concepts" / f"word-{number}" / "miniature" / "champion.json"
            path.parent.mkdir(parents=True)
            path.write_text(text.replace("word-x", f"word-{number}"))
        made = cpu(lambda: rebuild(store), 1)
        found = {
            "list all": cpu(lambda: client.words(settings=settings)),
            "a misspelt name": cpu(lambda: misspelt(settings)),
            "one more word into the index": cpu(lambda: note(store, "word-17", "miniature")),
            "the index made anew": made,
        }
    return {name: 1000 * seconds for name, seconds in found.items()}


def timed(work: Callable[[], object], times: int = 5, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds by a clock."""
    taken = []
    for _ in range(times):
        began = clock()
        work()
        taken.append(clock() - began)
    return sorted(taken)[times // 2]


def misspelt(settings: Settings) -> None:
    """A name that is not there."""
    try:
        client.get("wrod-17", "miniature", settings=settings)
    except NotFoundError:
        return
    raise AssertionError("it is there")


def show(settings: Settings) -> None:
    """What `ti show NAME` reads."""
    store = open_store(settings)
    outcomes_of(store, "word-17", "miniature")
    manifests_of(store, "word-17", "miniature")
    pointer_of(store, "word-17", "miniature")


def measure(concepts: int) -> dict[str, float]:
    """Milliseconds by what is done, in a store of this size."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        build(settings, concepts)
        out = Path(folder) / "words"
        first = timed(lambda: client.sync(out, settings=settings), 1)
        found = {
            "fetch (base model named)": timed(lambda: client.get("word-17", "miniature", settings=settings)),
            "fetch (found)": timed(lambda: client.get("word-17", settings=settings)),
            "a misspelt name": timed(lambda: misspelt(settings)),
            "show one": timed(lambda: show(settings)),
            "list all": timed(lambda: client.words(settings=settings)),
            "sync, nothing new": timed(lambda: client.sync(out, settings=settings), 3),
            "sync, all new": first,
        }
    return {name: 1000 * seconds for name, seconds in found.items()}


def main() -> None:
    """Print a table of milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--rows", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.rows:
        for name, taken in rows(arguments.rows).items():
            print(f"{name}: {taken:.1f} ms of CPU time")
        return
    sizes = arguments.concepts
    made = {size: measure(size) for size in sizes}
    print(f"| milliseconds | {' | '.join(f'{size} concepts × {VERSIONS}' for size in sizes)} |")
    print(f"|---|{'---|' * len(sizes)}")
    for name in made[sizes[0]]:
        print(f"| {name} | {' | '.join(f'{made[size][name]:.1f}' for size in sizes)} |")


if __name__ == "__main__":
    main()
