"""The audit: what in the store is not as it should be, each finding in a sentence, and what mends it.

Every document is read, every blob that one names is verified, every pointer followed, the index compared, the outbox
looked at. A document that is damaged is a finding and hides no other.
A repair may be done any number of times. What cannot be made again from what is there is told as such: it has to come
from a backup, or from a new run. This module does not know MLflow: the mirror has an audit of its own.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import (
    READERS,
    blobs_of,
    imports_of,
    manifests_of,
    outcomes_of,
    pointer_of,
    run_at,
    versions_of,
)
from ti_core.publishing.collecting import legible
from ti_core.publishing.files import published_file
from ti_core.publishing.following import entry_of, follow, unfollowed
from ti_core.publishing.index import rebuild, row_of, words
from ti_core.publishing.pointer import standing, verify
from ti_core.records import (
    ASIDE,
    AWAITING,
    AWAITS,
    BATCHES,
    BLOBS,
    OUTBOX,
    BatchRows,
    Champion,
    Decided,
    Document,
    Duel,
    Fault,
    Imported,
    KeptScores,
    Keyed,
    Manifest,
    Outcome,
    PackReport,
    Packs,
    Untold,
    Version,
    awaiting_key,
    change_key,
    concept_prefix,
    version_key,
)
from ti_core.store import Store, bring_back, get_blob, put_blob


def audit(store: Store, repair: bool = False) -> list[Fault]:
    """Look through the whole store; with `repair` mend what can be mended. What is fine is not told.

    Raises ServiceError when the store fails.
    """
    there = words_of(store)
    found = [fault for word in there for fault in _documents(store, *word, repair)]
    runs = list[Manifest | Imported]()
    for word in there:
        runs += [*manifests_of(store, *word), *imports_of(store, *word)]
    found += _blobs(store, runs, repair)
    for word in there:
        found += _pointer(store, *word)
        found += _interrupted(store, *word, repair)
    found += _index(store, repair)
    found += _of_batches(store)
    left = list(store.keys(OUTBOX))
    found += [fault for key in left if (fault := _fault_of(store, key, Untold, "delete it, then `ti audit --repair`"))]
    found += _awaiting(store, runs, repair)
    if left:
        text = f"The tracking server was not told of {len(left)} runs yet, the first is {left[0]}."
        found.append(Fault(kind="untold", what=text))
    return found + _unnamed(store)


def words_of(store: Store) -> list[tuple[str, str]]:
    """All words that the store holds anything of, as (concept, base)."""
    parts = (key.split("/") for key in store.keys("concepts/"))
    return sorted({(part[1], part[2]) for part in parts if len(part) > 3})


def _documents(store: Store, concept: str, base: str, repair: bool) -> Iterator[Fault]:
    """Every document of a word but its pointer: whether it can be read."""
    prefix = f"{concept_prefix(concept, base)}/"
    for key in store.keys(prefix):
        for part, (kind, advice) in _KINDS.items():
            if not key.endswith(".json") or part not in key.removeprefix(prefix):
                continue
            if fault := _fault_of(store, key, kind, advice):
                mended = repair and _write_anew(store, concept, base, key)
                yield fault.model_copy(update={"repaired": mended})


_KINDS: dict[str, tuple[type[Document], str]] = {
    "/manifest-": (Manifest, "it comes back from a backup, or delete it and run the concept again"),
    "/imported-": (Imported, "it comes back from a backup, or delete it and import the file again"),
    "/outcome-": (Outcome, "delete it and run the concept again: nothing is trained anew"),
    "versions/": (Version, "`ti audit --repair` writes it anew where an outcome tells it, else it needs a backup"),
    "changes/": (Decided, "`ti audit --repair` writes it anew from champion.json, else it needs a backup"),
    "champions/": (Champion, "it comes back from a backup; until then readers get nothing older in its place"),
    "duels/": (Duel, "delete it: the two are judged anew when they meet again"),
    "scores/": (KeptScores, "delete it: the same pictures are judged anew when they are needed"),
}
"""The documents of a word by what their keys have in them, and what to do about a damaged one."""


def _of_batches(store: Store) -> Iterator[Fault]:
    """What is kept of batches: whether it can be read."""
    kinds: dict[str, type[Document]] = {"rows.json": BatchRows, "split.json": Packs}
    for key in store.keys(BATCHES):
        kind = PackReport if "/packs/" in key else kinds.get(key.rpartition("/")[2])
        if kind and (fault := _fault_of(store, key, kind, "delete it, when its batch has ended")):
            yield fault


def _fault_of(store: Store, key: str, kind: type[Document], advice: str) -> Fault | None:
    try:
        kind.from_bytes(store.get(key).data, store.url(key))
    except NotFoundError:
        return None
    except IntegrityError as error:
        return Fault(kind="damaged", what=f"{error} What to do: {advice}.")
    return None


def _write_anew(store: Store, concept: str, base: str, key: str) -> bool:
    """Write a damaged document anew where others say what stood in it: a version, or the record of a decision."""
    for outcome in outcomes_of(store, concept, base):
        if outcome.version is not None and version_key(concept, base, outcome.version) == key:
            store.put(key, Version(judge_key=outcome.judge_key).to_bytes())
            return True
    try:
        pointer = pointer_of(store, concept, base)
    except IntegrityError:
        return False
    for change in pointer.changes if pointer else ():
        if change_key(concept, base, change) == key:
            store.put(key, Decided(change=change).to_bytes())
            return True
    return False


def _blobs(store: Store, runs: list[Manifest | Imported], repair: bool) -> Iterator[Fault]:
    """Every blob that a judged run or an imported word names, read and verified."""
    of = dict[str, Manifest | Imported]()
    for run in runs:
        for sha256 in blobs_of(run):
            of.setdefault(sha256, run)

    def check(sha256: str) -> tuple[str, Literal["damaged", "missing"], str] | None:
        try:
            get_blob(store, sha256)
        except IntegrityError as error:
            return sha256, "damaged", str(error)
        except NotFoundError as error:
            return sha256, "missing", str(error)
        return None

    with ThreadPoolExecutor(READERS, "audit") as threads:
        for bad in threads.map(check, sorted(of)):
            if bad:
                sha256, kind, reason = bad
                run = of[sha256]
                plan: Keyed = run.plan if isinstance(run, Manifest) else run
                mended = repair and _mend(store, sha256, run)
                whose = f"A run of {plan.concept.name} on {plan.base.slug} names it (manifest {plan.judge_key[:12]})."
                advice = "" if mended else " It comes back from a backup, or with the run done anew."
                yield Fault(kind=kind, what=f"{reason} {whose}{advice if repair else ''}", repaired=mended)


def _mend(store: Store, sha256: str, run: Manifest | Imported) -> bool:
    """Bring back a blob that was put aside, or make a published file again from the vectors."""
    if bring_back(store, sha256):
        return True
    for file in run.files:
        if file.sha256 == sha256:
            try:
                data = published_file(store, run, file.layout)
            except (IntegrityError, NotFoundError):
                return False
            return put_blob(store, data) == sha256
    return False


def _pointer(store: Store, concept: str, base: str) -> Iterator[Fault]:
    try:
        pointer = pointer_of(store, concept, base)
    except IntegrityError as error:
        yield Fault(
            kind="pointer", what=f"{error} Until then readers get nothing: `ti rollback {concept} --to VERSION`."
        )
        return
    if pointer is None or pointer.vacant:
        return
    reason = _why_not(store, pointer)
    if reason:
        whole = next((one for one in standing(store, pointer) if not _why_not(store, one)), None)
        instead = f"readers get version {whole.version} instead" if whole else "readers get nothing"
        yield Fault(
            kind="pointer",
            what=f"Version {pointer.version}, the best of {concept} on {base}, is not whole, {instead}: {reason}",
        )


def _why_not(store: Store, one: Champion) -> str:
    try:
        run_at(store, one.manifest)
        verify(store, one)
    except (IntegrityError, NotFoundError) as error:
        return str(error)
    return ""


def _interrupted(store: Store, concept: str, base: str, repair: bool) -> Iterator[Fault]:
    ended = {one.judge_key: one.status for one in outcomes_of(store, concept, base)}
    try:
        versions, pointer = versions_of(store, concept, base), pointer_of(store, concept, base)
    except IntegrityError:
        return  # the pointer's own finding tells it
    for number, judge_key in versions.items():
        leads = pointer is not None and pointer.judge_key == judge_key
        ending = ended.get(judge_key)
        if judge_key and (ending in {None, AWAITS} or (ending == "declined" and leads)):
            approve = f"`ti approve {concept} --run {judge_key[:12]}`"
            declined = f"it was declined, yet readers get it; `ti withdraw {concept}` takes it back"
            advice = {None: "run the concept again", AWAITS: approve, "declined": declined}[ending]
            text = f"Publishing version {number} of {concept} on {base} was torn off: {advice}."
            yield Fault(kind="interrupted", what=text)
    left = unfollowed(store, pointer) if pointer else []
    if pointer and left and repair:
        follow(store, pointer)
    for change in left:
        yield Fault(
            kind="interrupted",
            what=f"The decision to {change.action} version {change.version} of {concept} on {base} was torn off after "
            "it took effect: the index and the tracking server may not know of it.",
            repaired=repair,
        )


def _awaiting(store: Store, runs: list[Manifest | Imported], repair: bool) -> Iterator[Fault]:
    """The list of what awaits approval, beside the outcomes that it lists."""
    listed = list(store.keys(AWAITING))
    for key in listed:
        if fault := _fault_of(store, key, Untold, "delete it: `ti approve` and `ti decline` find the run without it"):
            yield fault
    plans = [run.plan for run in runs if isinstance(run, Manifest)]
    words = {(plan.concept.name, plan.base.slug) for plan in plans}
    ended = {one.judge_key: one.status for word in words for one in outcomes_of(store, *word)}
    for plan in plans:
        key, ending = awaiting_key(plan), ended.get(plan.judge_key)
        waits = ending == AWAITS
        if ending is None or waits == (key in listed):  # without an outcome it is torn off, or just being written
            continue
        if repair and waits:
            store.put(key, entry_of(plan).to_bytes())
        elif repair:
            store.delete(key)
        how = "awaits approval and is not in the list" if waits else "awaits nothing and is still in the list"
        run = f"Run {plan.judge_key[:12]} of {plan.concept.name} on {plan.base.slug}"
        yield Fault(kind="interrupted", what=f"{run} {how} of `ti list --awaiting`.", repaired=repair)


def _index(store: Store, repair: bool) -> Iterator[Fault]:
    told = {(row.concept, row.base): row for row in words(store)}
    true = dict[tuple[str, str], object]()
    for word in words_of(store):
        try:
            pointer = pointer_of(store, *word)
        except IntegrityError:
            true[word] = told.get(word)  # damage unpublishes nothing
            continue
        if pointer and not pointer.vacant:
            true[word] = row_of(pointer)
    wrong = sorted(word for word in told.keys() | true.keys() if told.get(word) != true.get(word))
    if wrong:
        if repair:
            rebuild(store)
        concept, base = wrong[0]
        yield Fault(
            kind="index",
            what=f"The index tells {len(wrong)} words otherwise than champion.json, the first is {concept} on {base}.",
            repaired=repair,
        )


def _unnamed(store: Store) -> list[Fault]:
    names, damaged = legible(store, store.keys("concepts/"))
    if damaged:
        return []  # what these named is not known
    lone = [one for one in store.entries(BLOBS) if one.key.rpartition("/")[2] not in names]
    aside = list(store.entries(ASIDE))
    if not lone and not aside:
        return []
    size = sum(one.size for one in [*lone, *aside]) / 2**20
    text = f"{len(lone)} blobs are named by nothing, {len(aside)} were put aside ({size:.1f} MiB): `ti gc`."
    return [Fault(kind="unnamed", what=text)]
