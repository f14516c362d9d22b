"""The stations of the line: what is done to a list of concepts at each of them, whoever calls it.

Every station may be called again with the same works: what lies in the store is not done twice. Torch and MLflow are
imported by the first station that needs them, so that a list in which all is known costs neither. This module knows no
Prefect, and not in which order it is called.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ti_core import outbox, progress
from ti_core.choosing.selection import choose, over_neutral, report, survivors
from ti_core.config import Packing
from ti_core.duels import settle
from ti_core.errors import InputError, PausedError, PseudowordError, ServiceError, TrainingError
from ti_core.images.ingest import keep_pictures
from ti_core.keys import protocol_digest
from ti_core.known import pages_as_asked
from ti_core.nouns import NEUTRAL
from ti_core.planning.batch import BatchItem
from ti_core.planning.plan import make_plan, wanted_of
from ti_core.planning.protocols import NEUTRAL_SEEDS
from ti_core.publishing.catalogue import champion_of, duel_of, known, manifest_of
from ti_core.publishing.pointer import forgotten
from ti_core.records import Champion, Duel, JudgeRequest, Manifest, Plan, Scores, Split
from ti_core.reporting.pages import write_page
from ti_core.settings import Settings
from ti_core.starts import find_given, keep_given
from ti_core.store import Store, get_blob
from ti_core.works import Asked, Mark, Work, marked, rounds_of, standing

if TYPE_CHECKING:
    from ti_core.registry import Registry

log = logging.getLogger(__name__)

WRITERS = 4
"""Concepts that are published at the same time: it is waiting for servers."""

_planned: ContextVar[Sequence[Work]] = ContextVar("planned", default=())


@contextmanager
def planned_already(works: Sequence[Work]) -> Iterator[None]:
    """Within it the line takes `works` as planned: a command that has looked what is known plans nothing twice."""
    token = _planned.set(works)
    try:
        yield
    finally:
        _planned.reset(token)


def plan(items: Sequence[BatchItem], asked: Asked, settings: Settings, store: Store) -> list[Work]:
    """Decide every run of a list, and find the outcomes that are there already. Nothing is written or loaded."""
    works = []
    for place, item in enumerate(items):
        work = Work(place, item.name, base_model=item.base_model or asked.base_model)
        if item.spec is None:
            works.append(replace(work, error=InputError(item.reason)))
            continue
        progress.tell(progress.Stage(item.name, "reading pictures"))
        try:
            given = find_given(item.spec, work.base_model, settings)
            training = item.training(asked.training)
            decided = make_plan(
                item.spec, training, asked.evaluation, asked.rule, work.base_model, settings, None, given, asked.preset
            )
            works.append(replace(work, plan=decided))
        except PseudowordError as error:
            works.append(replace(work, error=error))
    open_works = [one for one in works if one.open]
    gone = dict(
        zip((one.place for one in open_works), forgotten(store, [one.planned for one in open_works]), strict=True)
    )
    works = [replace(one, error=one.error or gone.get(one.place)) for one in works]
    open_works = [one for one in works if one.open]
    outcomes = known(store, [one.planned for one in open_works], asked.renew)
    found = {one.place: outcome for one, outcome in zip(open_works, outcomes, strict=True)}
    return [replace(one, outcome=found.get(one.place), known=found.get(one.place) is not None) for one in works]


def look(items: Sequence[BatchItem], asked: Asked, settings: Settings, store: Store) -> list[Work]:
    """Decide every run of a list (`plan`), and see to the pages of what is known."""
    return pages_as_asked(list(_planned.get()) or plan(items, asked, settings, store), settings, store)


class Stations:
    """What is done to a list at each station. All may be called again with the same works: nothing is done twice."""

    def __init__(self, settings: Settings, store: Store, packing: Packing, batch: str) -> None:
        self._settings, self._store, self._packing, self._batch = settings, store, packing, batch

    def ingest(self, items: Sequence[BatchItem], asked: Asked) -> list[Work]:
        """Decide every run (`look`), tell what was found of their pictures, and keep the pictures of those that have no
        outcome yet."""
        works = look(items, asked, self._settings, self._store)
        progress.tell(progress.Looked(tuple((one.name, one.planned.images) for one in works if one.open)))
        return _one_by_one(works, self._keep_pictures)

    def _keep_pictures(self, work: Work) -> Work:
        plan = work.planned
        keep_pictures(plan.concept.pictures, plan.images, wanted_of(plan.training), self._settings, self._store)
        keep_given(plan, self._settings, self._store)
        progress.tell(progress.Kept(plan))
        return work

    def prepare(self, works: Sequence[Work]) -> list[Work]:
        """Squares and latents."""
        from ti_core.training.running import prepare

        def prepared(work: Work) -> Work:
            progress.tell(progress.Stage(work.name, "preparing its pictures"))
            return replace(work, prepared=prepare(work.planned, self._settings, self._store))

        progress.tell(progress.Stage(works[0].name, "loading the base model"))
        return _one_by_one(works, prepared)

    def train(self, works: Sequence[Work]) -> list[Work]:
        """Train all in packs, each under a tracking run of its own; checkpoints and states are in the store. What is
        imported brings its one checkpoint."""
        from ti_core.registry import Curves, Registry
        from ti_core.training.running import checkpoint_of_import, run_key, run_training

        registry = Registry(self._settings)
        works = self._opened(works, registry)
        run_ids = {run_key(one.planned): one.run_id for one in works}

        def on_progress(event: progress.Trained) -> None:
            progress.tell(event)
            values = {name: getattr(event, name) for name in ("loss", "norm", "samples_per_second")}
            if run_ids[event.key]:
                curves.add(run_ids[event.key], event.step, values)

        def say(text: str) -> None:
            log.info("%s", text)
            progress.tell(progress.Stage(works[0].name, text))

        works = [
            replace(one, checkpoints=(checkpoint_of_import(one.planned),)) if one.planned.concept.imported else one
            for one in works
        ]
        to_train = [one for one in works if not one.planned.concept.imported]
        if not to_train:
            return works
        progress.tell(progress.Stage(to_train[0].name, "training"))
        pairs = [(one.planned, one.ready) for one in to_train]
        try:
            with Curves(self._settings, registry) as curves:
                made = run_training(pairs, self._packing, self._settings, self._store, on_progress, say)
        except BaseException:
            self.close(works, "FAILED")
            raise
        after = {work.place: work for work in works}
        for work, trained in zip(to_train, made, strict=True):
            kind = PausedError if trained.paused else ServiceError if trained.unkept else TrainingError
            error = kind(trained.reason) if trained.reason else None
            after[work.place] = replace(work, checkpoints=trained.checkpoints, error=error)
        return self._closing(list(after.values()))

    def _opened(self, works: Sequence[Work], registry: "Registry") -> list[Work]:
        """The works with their tracking runs; without, where the server does not answer: it gets a run with the
        outcome, and training waits for nobody. Once it was silent, it is not asked again."""
        from ti_core.publishing.mirroring import open_run

        after = list[Work]()
        for number, work in enumerate(works):
            try:
                after.append(replace(work, run_id=open_run(self._store, registry, work.planned, self._batch)))
            except ServiceError as error:
                log.warning("%s Training goes on; the server is told of it with the outcome, without curves.", error)
                return [*after, *works[number:]]
        return after

    def evaluate(self, works: Sequence[Work], step: int, rung: int) -> list[Mark]:
        """Judge one step of all works that have it, in full batches, on the seeds of a rung; step 0 is the class word,
        on all seeds."""
        from ti_core.judging.rounds import judge_together
        from ti_core.judging.scoring import anchors

        wanted = list[tuple[Work, JudgeRequest]]()
        done, total = _judged_before(works, step, rung)
        for work in works:
            of = rounds_of(work)
            vectors = next((one.vectors for one in standing(work) if one.step == step), None)
            if (step == 0 or vectors) and rung < len(of):
                seeds = of[rung].seeds if step and len(of) > 1 else ()
                wanted.append((work, _request(work, step, vectors, "select", seeds)))
                progress.tell(progress.Stage(work.name, f"judging {f'step {step}' if step else 'the class word'}"))
        on_scores = _Counted(done, total)
        made = judge_together([[request] for _, request in wanted], self._settings, self._store, on_scores)
        marks = []
        for (work, _), result in zip(wanted, made, strict=True):
            if isinstance(result, PseudowordError):
                marks.append(Mark(work.place, step, error=result))
                continue
            (scores,) = result
            ends = None if step else anchors(work.planned, work.ready, scores, self._settings, self._store)
            marks.append(Mark(work.place, step, scores, ends))
        return marks

    def halve(self, works: Sequence[Work], marks: Sequence[Sequence[Mark]], rung: int) -> list[Work]:
        """Take down what a rung said, and let the weaker steps go out, by each plan's rule."""

        def halved(work: Work) -> Work:
            of = rounds_of(work)
            if rung >= len(of) or not of[rung].keep or work.ends is None:
                return work
            present = [work.scores[one.step] for one in standing(work)]
            stay = survivors(present, work.ends, work.planned.rule, of[rung].keep)
            return replace(work, out=work.out | {one.step for one in present} - set(stay))

        return _one_by_one(marked(works, marks), halved)

    def select(self, works: Sequence[Work], marks: Sequence[Sequence[Mark]]) -> list[Work]:
        """Take down what the last rung said, and choose a step of each run."""

        def chosen(work: Work) -> Work:
            progress.tell(progress.Stage(work.name, "choosing"))
            if work.ends is None:
                raise InputError(f"There is no checkpoint of {work.name} to judge.")
            images = work.planned.images.with_findings(work.ends.unlike)
            decision = choose(list(work.scores.values()), work.ends, work.planned.rule)
            return replace(work, plan=work.planned.model_copy(update={"images": images}), decision=decision)

        return self._closing(_one_by_one(marked(works, marks), chosen))

    def evaluate_report(self, works: Sequence[Work]) -> list[Work]:
        """Judge class word, chosen step and neutral word of all works on the reporting set, which had no say in the
        choice."""
        from ti_core.judging.rounds import judge_together
        from ti_core.judging.scoring import anchors

        requests = []
        for work in works:
            progress.tell(progress.Stage(work.name, "judging for the report"))
            chosen = _request(work, work.chosen.step, work.chosen.vectors, "report")
            requests.append([_request(work, 0, None, "report"), chosen, _neutral(work)])
        on_scores = _Counted(0, 3 * len(requests))
        results = judge_together(requests, self._settings, self._store, on_scores)
        made = {work.place: result for work, result in zip(works, results, strict=True)}

        def reported(work: Work) -> Work:
            result = made[work.place]
            if isinstance(result, PseudowordError):
                raise result
            class_word, chosen, neutral = result
            ends = anchors(work.planned, work.ready, class_word, self._settings, self._store)
            rule, word = work.planned.rule, NEUTRAL[work.planned.concept.kind]
            return replace(work, report=over_neutral(report(chosen, ends, rule), word, neutral, rule))

        return self._closing(_one_by_one(works, reported))

    def evaluate_rivals(self, works: Sequence[Work]) -> list[Work]:
        """Judge the present champions beside the accepted runs that they are to be compared with."""
        rivals = list[tuple[Work, Champion]]()
        for work in works:
            plan = work.planned
            champion = champion_of(self._store, work.name, plan.base.slug)
            met = champion and duel_of(self._store, work.name, plan.base.slug, plan.judge_key, champion.judge_key)
            accepted = work.report is not None and work.report.verdict == "accepted"
            other = champion is not None and champion.judge_key != plan.judge_key
            if (
                champion
                and champion.judged
                and accepted
                and other
                and not met
                and champion.base_digest == plan.base.digest
            ):
                rivals.append((work, champion))
        made = settle(rivals, self._settings, self._store)

        def compared(work: Work) -> Work:
            result = made.get(work.place)
            if isinstance(result, Exception):
                raise result
            return replace(work, duels=work.duels | {result.rival: result}) if result else work

        return self._closing(_one_by_one(works, compared))

    def register(self, works: Sequence[Work], asks: bool = False) -> list[Work]:
        """Assemble and publish in the store, then tell the tracking server. What waits for servers overlaps; drawing is
        done one after the other. A silent tracking server is told later, from the outbox: it holds nothing up. Where it
        `asks`, what would become champion awaits approval."""
        from ti_core.publishing.mirroring import mirror
        from ti_core.publishing.transaction import RivalError, publish
        from ti_core.registry import Registry

        registry = Registry(self._settings)
        manifests = dict[int, Manifest]()

        def assembled(work: Work) -> Work:
            progress.tell(progress.Stage(work.name, "publishing"))
            manifests[work.place] = self.manifest(work)
            progress.tell(progress.Assembled(work.name, manifests[work.place]))
            return work

        def published(work: Work) -> Work:
            try:
                outcome = publish(self._store, manifests[work.place], work.run_id, work.duels, asks)
            except RivalError as error:  # somebody else's run has become champion meanwhile
                return replace(work, rival=error.champion)
            return replace(work, outcome=outcome)

        def mirrored(work: Work) -> Work:
            if work.outcome:
                try:
                    mirror(self._store, registry, manifests[work.place], work.outcome)
                except ServiceError as error:
                    log.warning("%s The run of %s is told to it later.", error, work.name)
            return work

        works = _one_by_one(works, assembled)
        with ThreadPoolExecutor(WRITERS, "publish") as threads:
            works = [one for (one,) in threads.map(lambda work: _one_by_one([work], published), works)]
            while pairs := [(work, work.rival) for work in works if work.open and work.rival]:
                met = settle(pairs, self._settings, self._store)
                works = [_after(work, met.get(work.place)) for work in works]
                works = [one for (one,) in threads.map(lambda work: _one_by_one([work], published), works)]
            works = list(threads.map(mirrored, works))
        self._drain(registry)
        for work in works:
            if work.outcome:
                html = get_blob(self._store, manifests[work.place].page)
                page = write_page(self._settings, work.name, work.planned.base.slug, work.planned.judge_key, html)
                link = registry.run_url(work.run_id) or page.as_uri()
                progress.tell(progress.Ended(work.name, work.outcome, link))
        return self._closing(works)

    def _drain(self, registry: "Registry") -> None:
        """Tell the tracking server what earlier runs could not."""
        from ti_core.registry import drain_curves

        outbox.tell(self._settings, self._store, registry)
        try:
            drain_curves(self._settings, registry)
        except ServiceError as error:
            log.warning("%s It is told of the curves at a later run.", error)

    def again(self, old: Manifest, plan: Plan) -> list[Work]:
        """The stored checkpoints of a judged run, to be judged as `plan` says; without any work where that is done.

        Raises InputError for a plan of another training.
        """
        if plan.train_key != old.plan.train_key:
            raise InputError(
                f"The plan is of another training of {plan.concept.name}: plan the judging of this one anew."
            )
        work = Work(0, plan.concept.name, plan, old.prepared, checkpoints=old.checkpoints)
        return [replace(work, known=manifest_of(self._store, plan) is not None)]

    def keep_judged(self, works: Sequence[Work]) -> list[Work]:
        """Keep the manifests of what was judged again."""
        from ti_core.publishing.transaction import keep

        def kept(work: Work) -> Work:
            made = keep(self._store, self.manifest(work))
            progress.tell(progress.Assembled(work.name, made))
            html = get_blob(self._store, made.page)
            write_page(self._settings, work.name, made.plan.base.slug, made.plan.judge_key, html)
            return replace(work, known=True)

        return _one_by_one(works, kept)

    def judged(self, works: Sequence[Work]) -> Manifest:
        """What was kept of a work judged again. Raises why there is nothing."""
        (work,) = works
        if work.error:
            raise work.error
        found = manifest_of(self._store, work.planned)
        assert found is not None  # noqa: S101  # for the type checker
        return found

    def manifest(self, work: Work) -> Manifest:
        """All that is known of a judged run; the blobs it names are in the store."""
        from ti_core.backbone.resident import place_of_work
        from ti_core.publishing.assembly import assemble

        assert work.ends and work.decision and work.report  # noqa: S101  # for the type checker
        scores = tuple(work.scores[step] for step in sorted(work.scores))
        place, judged = place_of_work(self._settings.device, self._settings.precision), (work.decision, work.report)
        return assemble(
            work.planned, work.ready, work.checkpoints, work.ends, scores, *judged, self._store, place
        )  # fmt: skip

    def close(self, works: Sequence[Work], status: Literal["FAILED", "KILLED"]) -> None:
        """End the tracking runs of works that go no further now; a later attempt takes them up again. A silent server
        only warns: what failed before is what a person must hear of."""
        from ti_core.registry import Registry

        try:
            for work in works:
                if work.run_id:
                    Registry(self._settings).close_run(work.run_id, status)
        except ServiceError:
            log.warning("The tracking server cannot be told that this run ended.")

    def _closing(self, works: list[Work]) -> list[Work]:
        self.close([work for work in works if work.error], "FAILED")
        return works


def _after(work: Work, met: Duel | PseudowordError | None) -> Work:
    """A work that has met the champion that stood in its way."""
    if isinstance(met, PseudowordError):
        return replace(work, error=met)
    return replace(work, duels=work.duels | {met.rival: met}, rival=None) if met else work


class _Counted:
    """Tells of every set of pictures as soon as it is judged: how many of the `total` of a round are, `done` of them
    before."""

    def __init__(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._seen = set[tuple[str, str, int, str]]()

    def __call__(self, request: JudgeRequest, scores: Scores) -> None:
        plan = request.plan
        self._seen.add((plan.concept.name, plan.judge_key, request.step, plan.protocol.class_word))
        done = self._done + len(self._seen)
        what = f"step {request.step}" if request.step else f"“{plan.protocol.class_word}”"
        progress.tell(progress.Judged(plan.concept.name, what, scores, done, self._total))


def _judged_before(works: Sequence[Work], step: int, rung: int) -> tuple[int, int]:
    """Of the sets of pictures that a rung judges: how many come before this step, and how many there are."""
    steps = [
        one
        for work in works
        if rung < len(rounds_of(work))
        for one in ([] if rung else [0]) + [checkpoint.step for checkpoint in standing(work)]
    ]
    return sum(one < step for one in steps), len(steps)


def _neutral(work: Work) -> JudgeRequest:
    """The neutral word on the reporting set's plain prompts: the same pictures for every concept of a base model."""
    plan, word = work.planned, NEUTRAL[work.planned.concept.kind]
    prompts = plan.protocol.report.model_copy(update={"edit": ()})
    protocol = plan.protocol.model_copy(update={"class_word": word, "report": prompts})
    concept = plan.concept.model_copy(update={"class_word": word})
    there = {"concept": concept, "protocol": protocol, "protocol_digest": protocol_digest(protocol)}
    return JudgeRequest(
        plan=plan.model_copy(update=there), prepared=work.ready, step=0, vectors=None, split="report",
        seeds=prompts.seeds[:NEUTRAL_SEEDS],
    )  # fmt: skip


def _request(work: Work, step: int, vectors: str | None, split: Split, seeds: tuple[int, ...] = ()) -> JudgeRequest:
    return JudgeRequest(plan=work.planned, prepared=work.ready, step=step, vectors=vectors, split=split, seeds=seeds)


def _one_by_one(works: Sequence[Work], station: Callable[[Work], Work]) -> list[Work]:
    """Call a station for every open work alone. What fails leaves with its reason; the others go on."""
    after = []
    for work in works:
        try:
            after.append(station(work) if work.open else work)
        except PseudowordError as error:
            after.append(replace(work, error=error))
        except Exception as error:
            log.exception("The work on %s failed.", work.name)
            after.append(replace(work, error=error))
    return after
