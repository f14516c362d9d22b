"""Where does a night of a million concepts get stuck? A discrete-event simulation, fed with what was measured.

    python benchmarks/scale.py          # a quarter of an hour; needs docs/benchmarks/services.json, which services.py writes

A coordinator reads a batch and asks for packs, workers with a card each take them, and every pack asks the Prefect
server, the tracking server and the bucket for what one asked for in the measurement. A server works off what it is asked
in order, so many at a time; what is sent at intervals while a card works (progress, polls, looks at one's own state)
takes its share of the server first, so the rest waits longer. What a word takes on a card comes from docs/benchmarks/hours.md
and was computed, not measured. One point is checked: the batch of 200 tiny concepts on two workers that services.py ran, with
all processes on the two cores of one machine. Made with simpy. Writes docs/scale.md and docs/scale.png.
"""

import argparse
import json
import math
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import simpy
from matplotlib.figure import Figure

from benchmarks.services import FIGURES
from flows.executors import ASKED, POLL_SECONDS
from tasks.artifacts import PROGRESS_SECONDS, PROGRESS_SHARE
from tasks.asking import AGAIN_SECONDS
from ti_core.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SLICE = 1.0
"""Seconds for which a process keeps a core where cores are shared."""
FULL = 0.98
"""More than this share of a server is never taken by what is sent at intervals: it is dropped or late then."""
LOOK = AGAIN_SECONDS
"""Seconds between a run's looks at its own state."""
S3_READS = 5_500
"""Requests a second that Amazon S3 serves under one prefix, by its manual; for writing it says 3,500."""
OPEN_PACKS: int = Settings.model_fields["open_packs"].default
SPARE = 20
"""Packs that wait for a worker where a site has more cards than OPEN_PACKS: it is set so much above their number."""
CONCEPTS, CARDS = (1_000, 10_000, 100_000, 1_000_000), (1, 10, 100, 1_000)
WORDS = {"SD 1.5 on an A10": 15.0, "SD 1.5 on an H100": 2.0}
"""Minutes of a card for one word: docs/benchmarks/hours.md."""

FOR_EVER = "for ever"

Events = Generator[simpy.Event, Any, Any]


@dataclass(frozen=True)
class Costs:
    """What a batch, a pack and a concept ask for, in seconds of CPU time or of the wall, rows, requests or bytes: `of[what]`
    are the three figures, fitted to three measured batches and not below zero."""

    of: dict[str, tuple[float, float, float]]
    call: dict[str, float]
    """CPU seconds of the Prefect server for one request of a kind."""
    gap: float
    """Seconds from a pack's end on a worker to the beginning of the next."""
    start: float
    """Seconds that a coordinator takes to ask for one pack."""

    @classmethod
    def read(cls) -> "Costs":
        """From docs/benchmarks/services.json."""
        batches = json.loads(FIGURES.read_text())["batches"]
        counts = np.array([[1, one["packs"], one["concepts"]] for one in batches], dtype=float)
        measured: dict[str, list[float]] = {}
        for one in batches:
            told = {name: one[name] for name in ("before the first pack", "after the last pack")}
            told |= one["cpu seconds"] | one["new"] | {"packs' wall": sum(one["packs' seconds"])}
            for name, value in told.items():
                measured.setdefault(name, []).append(value)
        fitted = {name: np.linalg.solve(counts, np.array(values)) for name, values in measured.items()}
        for name in ("before the first pack", "after the last pack"):  # the coordinator has no packs then
            batch, concept = np.linalg.lstsq(counts[:, [0, 2]], np.array(measured[name]))[0]
            fitted[name] = np.array([batch, 0.0, concept])
        of = {name: (max(0.0, float(a)), max(0.0, float(b)), max(0.0, float(c))) for name, (a, b, c) in fitted.items()}
        return cls(
            of=of,
            call=batches[0]["cpu seconds of a call"],
            gap=float(np.mean([one["between packs"] for one in batches if one["packs"] > 1])),
            start=float(np.mean([one["between starts"] for one in batches if one["packs"] > 1])),
        )

    def total(self, what: str, packs: float, concepts: float) -> float:
        """Of a whole batch."""
        batch, pack, concept = self.of[what]
        return batch + pack * packs + concept * concepts


@dataclass(frozen=True)
class Site:
    """What a batch runs on."""

    cards: int
    minutes: float
    """Of a card for one word; 0 takes what the tiny concepts of the measurement took."""
    pack_size: int = 16
    batches: int = 1
    """The concepts lie in so many sources, each a batch with a coordinator of its own, all at once."""
    prefect: int = 1
    """Processes that serve Prefect's API; each uses one core."""
    tracking: int = 1
    poll: float = 10.0
    """Seconds between a worker's polls (PREFECT_WORKER_QUERY_SECONDS)."""
    cores: int = 0
    """Of the one machine that everything runs on; 0 where everything has its own."""

    @property
    def window(self) -> int:
        """PSEUDOWORD_OPEN_PACKS: the packs that each batch asks for and that have not ended."""
        return max(OPEN_PACKS, math.ceil(self.cards / self.batches) + SPARE)


@dataclass
class Told:
    """What came of a simulated batch."""

    seconds: float
    cards: float
    """Share of the cards' time in which they train and judge."""
    prefect: float
    """Share of the Prefect server that is asked for; above 1 it is asked for more than there is."""
    tracking: float
    reading: float
    """Share of the time in which the busiest coordinator reads, or asks for packs."""
    s3: float
    """Requests a second, on average."""

    @property
    def takes(self) -> str:
        """How long; that it never ends where a server is asked for more than there is."""
        return FOR_EVER if max(self.prefect, self.tracking) > 1 else duration(self.seconds)

    @property
    def bottleneck(self) -> str:
        """What is busiest."""
        shares = {"cards": self.cards, "Prefect's server": self.prefect, "MLflow's server": self.tracking,
                  "the coordinator": self.reading}  # fmt: skip
        return max(shares, key=lambda name: shares[name])


@dataclass
class Night:
    """One simulated batch."""

    site: Site
    concepts: int
    costs: Costs
    env: simpy.Environment = field(default_factory=simpy.Environment)

    def __post_init__(self) -> None:
        self.packs = math.ceil(self.concepts / self.site.pack_size)
        self.prefect = simpy.Resource(self.env, self.site.prefect)
        self.tracking = simpy.Resource(self.env, self.site.tracking)
        self.cores = simpy.Resource(self.env, self.site.cores) if self.site.cores else None
        self.queue = simpy.Store(self.env)
        size = self.site.window
        self.places = [simpy.Container(self.env, size, size) for _ in range(self.site.batches)]
        self.busy, self.open, self.since = 0, 0, 0.0
        self.background = self.asked_prefect = self.asked_tracking = self.worked = 0.0
        self.coordinated = [0.0] * self.site.batches

    def run(self) -> Told:
        """Simulate it."""
        coordinators = [self.env.process(self._coordinator(number)) for number in range(self.site.batches)]
        self.env.process(self._end_of_packs(coordinators))
        workers = [self.env.process(self._worker()) for _ in range(min(self.site.cards, self.packs))]
        self.env.run(self.env.all_of(workers))
        self._account()
        each = self.concepts / self.site.batches
        self.env.run(self.env.process(self._spend(self.costs.total("after the last pack", 0, each))))
        seconds = self.env.now
        return Told(
            seconds=seconds,
            cards=self.worked / (self.site.cards * seconds),
            prefect=(self.asked_prefect + self.background) / (self.site.prefect * seconds),
            tracking=self.asked_tracking / (self.site.tracking * seconds),
            reading=max(self.coordinated) / seconds,
            s3=self.costs.total("s3 requests", self.packs, self.concepts) / seconds,
        )

    def _coordinator(self, number: int) -> Events:
        left = self.concepts // self.site.batches + (number < self.concepts % self.site.batches)
        yield from self._spend(self.costs.total("before the first pack", 0, left))
        self.coordinated[number] = self.env.now
        while left:
            size = min(self.site.pack_size, left)
            left -= size
            yield self.places[number].get(1)
            yield self.env.timeout(self.costs.start)
            self.coordinated[number] += self.costs.start
            self._account()
            self.open += 1
            yield self.queue.put((size, number))

    def _end_of_packs(self, coordinators: list[simpy.Process]) -> Events:
        yield self.env.all_of(coordinators)
        for _ in range(self.site.cards):
            yield self.queue.put((0, 0))

    def _worker(self) -> Events:
        while (taken := (yield self.queue.get()))[0]:
            size, number = taken
            self._account()
            self.busy += 1
            yield self.env.timeout(self.costs.gap)
            _, pack, concept = self.costs.of["packs' wall"]
            _, cpu_pack, cpu_concept = self.costs.of["worker-0"]
            if self.site.minutes:
                yield self.env.timeout(pack + self.site.minutes * 60 * size)
                self.worked += self.site.minutes * 60 * size
            else:
                cpu = cpu_pack + cpu_concept * size
                yield self.env.timeout(max(0.0, pack + concept * size - cpu))
                yield from self._spend(cpu)
                self.worked += cpu
            _, of_pack, of_concept = self.costs.of["prefect"]
            yield from self._serve(self.prefect, of_pack + of_concept * size)
            _, of_pack, of_concept = self.costs.of["mlflow"]
            yield from self._serve(self.tracking, of_pack + of_concept * size)
            self._account()
            self.busy -= 1
            self.open -= 1
            yield self.places[number].put(1)

    def _serve(self, server: simpy.Resource, seconds: float) -> Events:
        """One asks a server, in pieces, so that others come between."""
        share = min(FULL, self._intervals() / self.site.prefect) if server is self.prefect else 0.0
        while seconds > 0:
            piece = min(SLICE, seconds)
            with server.request() as turn:
                yield turn
                yield from self._spend(piece / (1 - share))
            seconds -= piece
            if server is self.prefect:
                self.asked_prefect += piece
            else:
                self.asked_tracking += piece

    def _spend(self, seconds: float) -> Events:
        """CPU time: of a machine of one's own, or in slices of the one that all share."""
        if self.cores is None:
            yield self.env.timeout(seconds)
            return
        while seconds > 0:
            piece = min(SLICE, seconds)
            with self.cores.request() as turn:
                yield turn
                yield self.env.timeout(piece)
            seconds -= piece

    def _intervals(self) -> float:
        """Seconds of the Prefect server that are asked for in each second by what is sent at intervals."""
        call = self.costs.call
        updates = min(
            1 / PROGRESS_SECONDS, 1 / PROGRESS_SHARE / (60 * self.site.pack_size * self.site.minutes or math.inf)
        )
        each = call["progress"] * updates + call["a look at one's own state"] / LOOK
        packs = self.open / self.site.batches
        one, most = call["a look at one's own state"], call[f"a look at {ASKED} packs"]
        look = math.ceil(packs / ASKED) * one + packs / ASKED * (most - one)
        looks = self.site.batches * look / POLL_SECONDS
        alone, among = call["a worker's poll"], call[f"a worker's poll where {ASKED} packs wait"]
        # A poll is answered with the first packs that wait, with all that they are given.
        poll = alone + (among - alone) * min(1.0, (self.open - self.busy) / ASKED)
        return self.busy * each + self.site.cards * poll / self.site.poll + looks

    def _account(self) -> None:
        """Add up what was sent at intervals since the last change."""
        self.background += (self.env.now - self.since) * self._intervals()
        self.since = self.env.now


def duration(seconds: float) -> str:
    """In the unit a person would use."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def check(costs: Costs) -> tuple[dict[str, Any], Told]:
    """The batch that was really run on two workers, and what the simulation says of it."""
    real = json.loads(FIGURES.read_text())["checked"]
    site = Site(cards=real["workers"], minutes=0, pack_size=real["pack size"], cores=2)
    return real, Night(site, real["concepts"], costs).run()


def mends(site: Site) -> list[tuple[str, Site]]:
    """One thing after the other that makes a site larger."""
    slower = replace(site, poll=60.0)
    prefect = replace(slower, prefect=4)
    several = replace(prefect, batches=16)
    larger = replace(several, pack_size=64)
    return [
        ("as it is", site),
        ("workers that ask every minute (PREFECT_WORKER_QUERY_SECONDS=60) in place of 10 s", slower),
        ("and four processes of Prefect's server, on PostgreSQL and Redis", prefect),
        ("and sixteen batches at once in place of one, each over a folder of its own", several),
        ("and packs of 64 (--pack-size)", larger),
        ("and four processes of MLflow's server, on PostgreSQL", replace(larger, tracking=4)),
    ]


def page(costs: Costs) -> str:
    """The page in Markdown."""
    real, told = check(costs)
    lines = [
        "# How far it goes", "",
        "*Simulated*, by `python benchmarks/scale.py`, from what `benchmarks/services.py` measured on two cores with S3 (SeaweedFS), Prefect and MLflow on SQLite, and from the "
        "[computed](benchmarks/hours.md) time of a word on a card. No card and no cluster was used. One point was checked with a real run.", "",
        "![Words an hour by the number of cards, as it is and with everything mended](scale.png)", "",
        "## What a batch asks of its servers", "",
        "Measured: three batches, solved for what a batch, a pack and a concept ask each (below zero is zero).", "",
        "| what | a batch | a pack | a concept |", "|---|---|---|---|",
    ]  # fmt: skip
    shown = {
        "prefect": "CPU seconds of Prefect's server", "mlflow": "CPU seconds of MLflow's server", "s3": "CPU seconds of SeaweedFS",
        "coordinator": "CPU seconds of the coordinator", "prefect rows": "rows in Prefect's database",
        "mlflow rows": "rows in MLflow's database", "s3 requests": "requests to the bucket", "s3 bytes": "bytes in the bucket",
    }  # fmt: skip
    lines += [
        f"| {text} | {' | '.join(f'{one:,.2f}' if one < 10 else f'{one:,.0f}' for one in costs.of[what])} |"
        for what, text in shown.items()
    ]
    lines += [
        "", "And at intervals, in CPU seconds of Prefect's server: "
        + ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in costs.call.items()) + ".", "",
        "## One point, checked", "",
        f"{real['concepts']} tiny concepts on two workers, with the servers on the same two cores: {real['wall']:.0f} s in truth, {told.seconds:.0f} s simulated "
        f"({told.seconds / real['wall'] - 1:+.0%}); {real['packs']} packs. The simulation had seen batches of 8 and 24 on one worker only.", "",
        "## Nights", "",
        f"Each pack is 16 concepts, and a batch has {OPEN_PACKS} packs open (PSEUDOWORD_OPEN_PACKS), with more cards than that {SPARE} more than those. `busy` is the share of the time in which cards train and judge; the servers' shares are of one process each, and where more than 100% is asked of one the night does not end: *for ever*.", "",
        "| word | concepts | cards | takes | busy | Prefect | MLflow | requests to S3 a second | most busy |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for word, minutes in WORDS.items():
        for concepts in CONCEPTS:
            for cards in CARDS:
                if cards > concepts / 16:
                    continue
                night = Night(Site(cards, minutes), concepts, costs).run()
                lines.append(
                    f"| {word} | {concepts:,} | {cards:,} | {night.takes} | {night.cards:.0%} | {night.prefect:.0%} "
                    f"| {night.tracking:.0%} | {night.s3:.2g} | {night.bottleneck} |"
                )
    hardest, concepts = Site(CARDS[-1], min(WORDS.values())), CONCEPTS[-1]
    lines += [
        "", "## What stands in the way first, and what removes it", "",
        f"{concepts:,} concepts on {hardest.cards:,} cards, two minutes a word:", "",
        "| | takes | busy | Prefect | MLflow | most busy |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, site in mends(hardest):
        night = Night(site, concepts, costs).run()
        lines.append(
            f"| {name} | {night.takes} | {night.cards:.0%} | {night.prefect:.0%} | {night.tracking:.0%} | {night.bottleneck} |"
        )
    lines += [
        "", "What a million leave behind: "
        + ", ".join(f"{costs.total(what, CONCEPTS[-1] / 16, CONCEPTS[-1]):.2g} {text}" for what, text in (
            ("prefect rows", "rows in Prefect's database"), ("mlflow rows", "in MLflow's"),
            ("s3 requests", "requests to the bucket"))) + ". Amazon S3 "
        f"serves {S3_READS:,} reads a second under one prefix.", "",
        "## What a word costs", "",
        "The card's minutes, divided by the share in which it is busy, times what an hour of it costs you; the servers' share is small: a million concepts ask for "
        f"{costs.total('prefect', CONCEPTS[-1] / 16, CONCEPTS[-1]) / 3600:.0f} hours of a core for Prefect and {costs.total('mlflow', CONCEPTS[-1] / 16, CONCEPTS[-1]) / 3600:.0f} for MLflow.", "",
        "| cards, two minutes a word, a million concepts, all of the above | minutes of a card that are paid for each word |", "|---|---|",
    ]  # fmt: skip
    for cards in CARDS:
        night = Night(mends(Site(cards, 2.0))[-1][1], CONCEPTS[-1], costs).run()
        lines.append(f"| {cards:,} | {night.seconds * cards / 60 / CONCEPTS[-1]:.2f} |")
    lines += [
        "", "## What it leaves out", "",
        "Networks, disks, PostgreSQL in place of SQLite (services were measured on SQLite), failures, a bucket's own limits, and databases that grow slower as they fill. Servers are "
        "taken to work with one core a process. Rows that heartbeats leave while a card works (one event in 30 s) are not counted.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def picture(costs: Costs, path: Path) -> None:
    """Words an hour by the number of cards."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    cards = np.unique(np.logspace(0, 3, 13).round().astype(int))
    minutes = min(WORDS.values())
    axes.plot(cards, cards * 60 / minutes, color="0.7", linestyle="--", label="if only cards took time")
    ends = mends(Site(1, minutes))
    for (name, site), style in zip((ends[0], ends[-1]), ("o-", "s-"), strict=True):
        rates = []
        for count in cards:
            concepts = int(count) * 640
            told = Night(replace(site, cards=int(count)), concepts, costs).run()
            rates.append(math.nan if told.takes == FOR_EVER else concepts / told.seconds * 3600)
        axes.plot(
            cards, rates, style, markersize=4, label="as it is" if name == ends[0][0] else "with all that removes it"
        )
    axes.set(xscale="log", yscale="log", xlabel="cards, each with a worker", ylabel="words an hour, two minutes each")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    costs = Costs.read()
    (ROOT / "docs" / "scale.md").write_text(page(costs))
    picture(costs, ROOT / "docs" / "scale.png")
    print((ROOT / "docs" / "scale.md").read_text())


if __name__ == "__main__":
    main()
