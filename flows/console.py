"""What the command line shows: progress of a run, outcomes, tables, and errors in one sentence.

It knows what tasks tell; it starts nothing.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from ti_core.choosing.comparing import differences
from ti_core.config import placeholder
from ti_core.forecast import Forecast
from ti_core.progress import Event, Judged, Lines, Stage, Trained, duration, listening
from ti_core.records import AWAITS, BatchRow, Champion, Imported, Manifest, Outcome, Row, blob_key
from ti_core.reporting.figures import averages, caveats, figures
from ti_core.reporting.words import TOY, command_of, in_words, is_toy, namer, real_lines
from ti_core.store import Store

if TYPE_CHECKING:
    from ti_core.reporting.checking import Checked

# Reasons, paths and numbers are shown as they are: brackets in them are no markup.
out = Console(markup=False)
err = Console(stderr=True)


@contextmanager
def live(quiet: bool) -> Iterator[None]:
    """Show the progress of the runs of this process while the block runs: bars on a terminal's stderr; where stdout is
    a pipe or a file, lines there, as they happen."""
    if quiet:
        yield
        return
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        with listening(Lines(_to_stderr if sys.stdout.isatty() else _to_stdout)):
            yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars, listening(_Bars(bars)):
        yield


def _to_stdout(line: str) -> None:
    _print(line, sys.stdout)


def _to_stderr(line: str) -> None:
    _print(line, sys.stderr)


def _print(line: str, file: TextIO) -> None:
    with suppress(OSError):  # whoever read the pipe has gone, and the work goes on
        print(line, file=file, flush=True)


class _Bars:
    """A line for the stage at hand, a bar for the training of all concepts, and one for a round of judging."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stage = bars.add_task("", total=None, note="")
        self._long = dict[str, TaskID]()

    def __call__(self, event: Event) -> None:
        match event:
            case Stage():
                self._bars.update(self._stage, description=f"[bold]{event.concept}[/] {event.name}")
            case Trained():
                note = f"loss {event.loss:.4f}  norm {event.norm:.3f}  {event.samples_per_second:.0f}/s"
                self._advance("trained", event, f"  {event.concept} step {event.step} of {event.steps}", note)
            case Judged():
                scores = event.scores
                note = f"CLIP-I {scores.clip_i.mean:.3f}  CLIP-T {scores.clip_t.mean:.3f}"
                self._advance("judged", event, f"  judged {event.done} of {event.total}", note)

    def _advance(self, bar: str, event: Trained | Judged, text: str, note: str) -> None:
        if bar not in self._long:
            self._long[bar] = self._bars.add_task("", note="")
        self._bars.update(self._long[bar], description=text, completed=event.done, total=event.total, note=note)


def show_forecast(ahead: Forecast) -> None:
    """Tell what a command would take."""
    many = f"{len(ahead.concepts)} concepts" if len(ahead.concepts) > 1 else "".join(ahead.concepts)
    out.print(f"Plan of {many or 'nothing'}{f' on {ahead.base}' if ahead.base else ''} (nothing is written)")
    effort, memory, rates = ahead.effort, ahead.memory, ahead.rates
    lines = dict[str, str]()
    if effort:
        lines["training"] = (
            f"{effort.steps:,} steps, {effort.samples:,} samples: as many passes of the U-Net forward and back; "
            f"{effort.checkpoints} checkpoints"
        )
        times = effort.judging_passes / effort.training_passes if effort.training_passes else 0.0
        lines["judging"] = f"{effort.pictures:,} pictures, {effort.judging_passes:,} passes of the U-Net" + (
            f": {times:.1f} times the training" if times else ""
        )
    if rates and ahead.training_seconds is not None and ahead.judging_seconds is not None:
        whole = duration(ahead.training_seconds + ahead.judging_seconds)
        lines["time"] = (
            f"{whole}: training {duration(ahead.training_seconds)}, judging {duration(ahead.judging_seconds)}, at "
            f"{rates.samples_per_second:.3g} samples and {rates.pictures_per_second:.3g} pictures a second, measured "
            f"now on {rates.device} in {rates.dtype}{', one concept at a time' if len(ahead.concepts) > 1 else ''}"
        )
    if memory:
        fits = f"{memory.samples:,} samples fit in a pass" if memory.samples else "not one sample fits as it is"
        lines["memory"] = (
            f"weights {_size(memory.weights)}, a sample's training pass {_size(memory.sample)}, a picture's U-Net call "
            f"{_size(memory.picture)} (counted); {_size(memory.free)} are free: {fits}"
        )
    if ahead.disk:
        lines["disk"] = f"about {_size(ahead.disk)}; {_size(ahead.disk_free)} are free"
    lines["download"] = f"{_size(ahead.download)}, the base model" if ahead.download else "no base model"
    for name, text in lines.items():
        out.print(f"  {name:<10}{text}", soft_wrap=True, highlight=False)
    if ahead.download:
        out.print("  Memory and time can be told once it is here.")
    for name in ahead.known:
        out.print(f"  {name} has its outcome already and is not done again.")
    for name, reason in ahead.failed:
        out.print(f"  {name} cannot be done: {reason}", soft_wrap=True)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def show_outcome(outcome: Outcome, manifest: Manifest, page: str, earlier: str = "") -> None:
    """Tell how a run ended and where to look; `earlier` says that an earlier version did it."""
    toy = is_toy(manifest.plan)
    colour = {"published": "yellow" if toy else "green", "rejected": "red"}.get(outcome.status, "yellow")
    word = manifest.plan.concept.placeholder
    out.print(Text.assemble("\n", (outcome.status, f"bold {colour}"), f" {word}: {outcome.reason}"))
    if manifest.plan.concept.imported:
        out.print(f"Imported from {manifest.plan.started_from}: nothing was trained here.", soft_wrap=True)
    if earlier:
        out.print(earlier)
    words = in_words(manifest)
    out.print(" ".join([words.standing, words.learned, words.lacks]))
    for advice in words.advice:
        out.print(f"  Try: {advice}")
    out.print(manifest.decision.explanation)
    gain = manifest.report.gain
    out.print(
        f"On prompts and seeds it was not chosen on: score {outcome.score:.3f}, CLIP-I {gain.value:+.3f} over the "
        f"class word (interval {gain.low:+.3f} to {gain.high:+.3f})."
    )
    _tell_protocol(manifest)
    if outcome.status == AWAITS:
        name = outcome.concept
        out.print(f"Readers get it after `ti approve {name}` (--step N: another step), or never: `ti decline {name}`.")
    if outcome.version is not None:
        out.print(f"Registered as version {outcome.version} of {outcome.concept}.{outcome.base}.")
    if toy:
        show_toy(command_of(manifest.plan.concept), out)
    out.print(f"Page: {page}", soft_wrap=True)


def show_import(outcome: Outcome, word: Imported) -> None:
    """Tell of a word that was imported and not judged."""
    placed = placeholder(outcome.concept)
    out.print(Text.assemble("\n", (outcome.status, "bold yellow"), f" {placed}: {outcome.reason}"))
    out.print(f"Imported from {word.given.told()}, not judged.", soft_wrap=True)
    out.print("  Try: pictures of the thing (`--pictures`, `--class-word`) let it be judged as a trained word is.")
    out.print(f"Registered as version {outcome.version} of {outcome.concept}.{outcome.base}.")


def show_toy(command: str, console: Console) -> None:
    """Tell that this is the miniature, and the two lines that make it real; `command` is the second."""
    console.print(TOY, style="yellow")
    for line in real_lines(command):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _tell_protocol(manifest: Manifest) -> None:
    """The figures of a published protocol and what to know of them; nothing for other protocols."""
    quoted = [f"{name} {value:.3f}" for name, value in figures(manifest).items()]
    if quoted:
        out.print(f"By the protocol {manifest.plan.evaluation.protocol}: {', '.join(quoted)}.")
    for caveat in caveats(manifest.plan):
        out.print(f"  {caveat}")


def show_rejudged(old: Manifest, made: Manifest, page: str, as_json: bool) -> None:
    """Tell what judging again chose, beside what was chosen before, and whether the two compare."""
    if as_json:
        fields = {
            "judge_key": made.plan.judge_key,
            "protocol": made.plan.protocol_digest,
            "decision": made.decision.model_dump(mode="json"),
            "verdict": made.verdict,
            "reason": made.report.reason,
            "report": made.report.score,
            "figures": figures(made),
            "before": {"judge_key": old.plan.judge_key, "step": old.decision.step, "report": old.report.score},
            "differences": differences(old.plan.protocol, made.plan.protocol),
            "page": page,
        }
        print(json.dumps(fields))
        return
    out.print(_steps(made))
    out.print(made.decision.explanation)
    before, now = f"step {old.decision.step}", f"step {made.decision.step}"
    if made.report.reason:
        out.print(f"{made.verdict.capitalize()}: {made.report.reason}")
    out.print(f"Chosen before: {before} (run {old.plan.judge_key[:12]}); now: {now} (run {made.plan.judge_key[:12]}).")
    _tell_protocol(made)
    differs = differences(old.plan.protocol, made.plan.protocol)
    if differs:
        out.print(f"Their scores do not compare: the protocols differ in {', '.join(differs)}.")
    else:
        out.print(f"On the reporting set: {old.report.score:.3f} before, {made.report.score:.3f} now.")
    out.print(f"Page: {page}", soft_wrap=True)


def show_concept(
    store: Store, runs: Sequence[tuple[Sequence[Outcome], Champion | None, Manifest | Imported]], as_json: bool
) -> None:
    """Show a concept on each of its base models: how its runs ended, and scores and files of the champion (or of the
    last run)."""
    if as_json:
        print(json.dumps([_as_json(store, *one) for one in runs]))
        return
    for outcomes, pointer, manifest in runs:
        out.print(_versions(outcomes, pointer))
        for change in pointer.changes if pointer else ():
            about = f" version {change.version}" if change.version else ""
            out.print(f"{change.action}{about} {change.told()}")
        if isinstance(manifest, Imported):
            out.print(f"Imported from {manifest.given.told()}, not judged. Files:", soft_wrap=True)
        else:
            if manifest.plan.given:
                how = "Imported from" if manifest.plan.concept.imported else "Training started from"
                out.print(f"{how} {manifest.plan.started_from}.", soft_wrap=True)
            out.print(_steps(manifest))
            out.print(manifest.decision.explanation)
            out.print(f"Chosen step: {manifest.decision.step}. Files:")
        for name, place in _places(store, manifest).items():
            out.print(f"  {name}: {place}", soft_wrap=True, highlight=False)


def _as_json(
    store: Store, outcomes: Sequence[Outcome], pointer: Champion | None, run: Manifest | Imported
) -> dict[str, object]:
    imported = isinstance(run, Imported)
    given = run.given if imported else run.plan.given
    return {
        "base": run.base.slug if imported else run.plan.base.slug,
        "champion": pointer and pointer.model_dump(mode="json"),
        "outcomes": [one.model_dump(mode="json") for one in outcomes],
        "imported": imported or run.plan.concept.imported,
        "judged": not imported,
        "given": given and given.model_dump(mode="json"),
        "decision": None if imported else run.decision.model_dump(mode="json"),
        "files": _places(store, run),
    }


def _places(store: Store, run: Manifest | Imported) -> dict[str, str]:
    """Where the published files lie, by layout, and the page."""
    blobs: dict[str, str] = {file.layout: file.sha256 for file in run.files}
    if isinstance(run, Manifest):
        blobs["page"] = run.page
    return {name: store.url(blob_key(sha256)) for name, sha256 in blobs.items()}


def show_words(rows: Sequence[Row], as_json: bool) -> None:
    """List published words."""
    if as_json:
        print(json.dumps([one.model_dump(mode="json") for one in rows]))
        return
    table = Table("concept", "base model", "word", "version", "step", "score", title="Published words")
    for one in rows:
        table.add_row(
            one.concept, one.base, one.placeholder, str(one.version), str(one.step) if one.step else "–",
            f"{one.score:.3f}" if one.judged else "imported, not judged",
        )  # fmt: skip
    out.print(table if rows else "No word is published yet: `ti train` makes one.")


def show_awaiting(waiting: Sequence[tuple[Outcome, str]], as_json: bool) -> None:
    """List what awaits approval, each with the place of its page."""
    if as_json:
        print(json.dumps([one.model_dump(mode="json") | {"page": page} for one, page in waiting]))
        return
    run = Column("run", no_wrap=True, min_width=12)  # it is to be typed
    table = Table("concept", "base model", run, "step", "score", "since", "", title="Awaiting approval")
    for one, _ in waiting:
        table.add_row(
            one.concept, one.base, one.judge_key[:12], str(one.step), f"{one.score:.3f}",
            f"{one.ended:%Y-%m-%d %H:%M}", one.reason,
        )  # fmt: skip
    out.print(table if waiting else "Nothing awaits approval.")
    for one, page in waiting:
        out.print(f"  {one.concept}, run {one.judge_key[:12]}: {page}", soft_wrap=True, highlight=False)


def show_batch(rows: Sequence[BatchRow], page: Path) -> None:
    """Show how each concept of a batch ended."""
    table = Table("concept", "outcome", "step", "score", "reason", title="Batch")
    name_of = namer(rows)
    for row in rows:
        score = "" if row.score is None else f"{row.score:.3f}"
        ended = f"skipped ({row.outcome})" if row.status == "skipped" and row.outcome else row.status
        table.add_row(name_of(row), ended, "" if row.step is None else str(row.step), score, row.reason)
    out.print(table)
    if any(row.toy for row in rows):
        show_toy("ti batch SOURCE", out)
    for one in averages(rows):
        reach = "" if one.reach is None else f" ± {one.reach:.3f}"
        quoted = "" if one.quoted is None else f" (published, on Stable Diffusion: {one.quoted:.3f})"
        out.print(f"{one.name} {one.mean:.3f}{reach}{quoted}")
    for caveat in dict.fromkeys(text for row in rows for text in row.caveats):
        out.print(f"  {caveat}")
    out.print(f"Page: {page}", soft_wrap=True)


def show_checked(checked: "Sequence[Checked]") -> None:
    """Show what was found of pictures, worst first within each concept."""
    table = Table("concept", "", "file", "finding", title="Pictures")
    order = {"problem": 0, "warning": 1, "hint": 2}
    for one in checked:
        name = Path(one.name).name or one.name
        if one.error:
            table.add_row(name, "not usable", "", one.error)
        for finding in sorted(one.images.findings, key=lambda finding: order[finding.severity]):
            table.add_row(name, finding.severity, finding.file, finding.text)
    if table.row_count:
        out.print(table)
    pictures = sum(len(one.images.pictures) for one in checked)
    findings = sum(len(one.images.findings) for one in checked)
    out.print(f"{pictures} usable pictures, {findings} findings.")


def _steps(manifest: Manifest) -> Table:
    table = Table("step", "CLIP-I", "CLIP-T", "score", "", title=f"Scores of {manifest.plan.concept.name} by step")
    word = manifest.anchors.class_word
    table.add_row("class word", f"{word.clip_i.mean:.3f}", f"{word.clip_t.mean:.3f}", "", "")
    for one in manifest.decision.candidates:
        marks = ["chosen"] if one.step == manifest.decision.step else []
        if one.step == manifest.decision.looks_bad_from:
            marks.append("starts to look bad")
        table.add_row(
            str(one.step), f"{one.clip_i.value:.3f}", f"{one.clip_t.value:.3f}", f"{one.score:.3f}", ", ".join(marks)
        )
    return table


def _versions(outcomes: Sequence[Outcome], pointer: Champion | None) -> Table:
    table = Table("version", "outcome", "step", "score", "ended", "", title="Versions, oldest first")
    for one in outcomes:
        version = "–" if one.version is None else str(one.version)
        mark = _mark(one.judge_key, pointer) if pointer else ""
        step, score = (str(one.step), f"{one.score:.3f}") if one.status != "imported" else ("–", "not judged")
        table.add_row(version, one.status, step, score, f"{one.ended:%Y-%m-%d %H:%M}", mark)
    return table


def _mark(judge_key: str, pointer: Champion) -> str:
    """What a version is to readers."""
    if gone := pointer.withdrawal(judge_key):
        return f"withdrawn {gone.told()}"
    if pointer.judge_key != judge_key:
        return ""
    given = "best version" if pointer.judged else "what readers get"
    return f"{given}, pinned {pointer.pin.told()}" if pointer.pin else given
