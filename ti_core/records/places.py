"""Where everything lies in the store: the keys of its objects."""

import hashlib
from typing import Protocol

from ti_core.records.kept import Change, Imported
from ti_core.records.scores import JudgeRequest

BLOBS = "blobs/sha256/"
"""All blobs lie under this prefix."""


def blob_key(sha256: str) -> str:
    """Key of a content-addressed blob."""
    return f"{BLOBS}{sha256[:2]}/{sha256}"


ASIDE = "aside/"
"""Blobs that nothing names, on their way out, lie under this prefix."""


def aside_key(sha256: str) -> str:
    """Key of a blob that was put aside."""
    return f"{ASIDE}{sha256[:2]}/{sha256}"


def concept_prefix(concept: str, base: str) -> str:
    """Everything about one concept on one base model lies under this prefix."""
    return f"concepts/{concept}/{base}"


def run_prefix(concept: str, base: str, train_key: str) -> str:
    """Everything about one training run lies under this prefix."""
    return f"{concept_prefix(concept, base)}/runs/{train_key}"


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _Slugged(Protocol):
    @property
    def slug(self) -> str: ...


class Keyed(Protocol):
    """What has a place among the runs of a concept: a plan, or an imported word."""

    @property
    def concept(self) -> _Named: ...
    @property
    def base(self) -> _Slugged: ...
    @property
    def train_key(self) -> str: ...
    @property
    def judge_key(self) -> str: ...


def manifest_key(plan: Keyed) -> str:
    """Key of a run's manifest."""
    return f"{run_prefix(plan.concept.name, plan.base.slug, plan.train_key)}/manifest-{plan.judge_key}.json"


def imported_key(word: Imported) -> str:
    """Key of a word that was imported and not judged."""
    return f"{run_prefix(word.concept.name, word.base.slug, word.train_key)}/imported-{word.judge_key}.json"


def outcome_key(plan: Keyed) -> str:
    """Key of a run's outcome."""
    return f"{run_prefix(plan.concept.name, plan.base.slug, plan.train_key)}/outcome-{plan.judge_key}.json"


def scores_key(request: JudgeRequest, digest: str) -> str:
    """Key of a request's kept scores; `digest` is `keys.request_digest`. They do not lie with a training run: the class
    word's serve all runs of a concept."""
    return f"{concept_prefix(request.plan.concept.name, request.plan.base.slug)}/scores/{digest}.json"


def champion_key(concept: str, base: str) -> str:
    """Key of the champion pointer."""
    return f"{concept_prefix(concept, base)}/champion.json"


def former_champion_key(concept: str, base: str, judge_key: str) -> str:
    """Key of the copy of a champion that is kept when another takes its place."""
    return f"{concept_prefix(concept, base)}/champions/{judge_key}.json"


def changes_prefix(concept: str, base: str) -> str:
    """The records of people's decisions about a word lie under this prefix."""
    return f"{concept_prefix(concept, base)}/changes/"


def change_key(concept: str, base: str, change: Change) -> str:
    """Key of the record of a person's decision."""
    about = change.judge_key[:12] or "word"
    when = f"{change.when:%Y%m%dT%H%M%S}" + (f"{change.when:.%f}" if change.when.microsecond else "")
    return f"{changes_prefix(concept, base)}{when}-{change.action}-{about}.json"


INDEX = "index/"
"""The index of published words lies under this prefix."""
INDEX_WHOLE = f"{INDEX}whole.json"
"""It is there when the index covers everything that was published."""


def shard_key(concept: str, base: str) -> str:
    """Key of the part of the index that a word belongs to. Names spread evenly, whatever they are like."""
    return f"{INDEX}{base}/{hashlib.sha256(concept.encode()).hexdigest()[0]}.json"


def versions_prefix(concept: str, base: str) -> str:
    """The numbered versions of a concept lie under this prefix."""
    return f"{concept_prefix(concept, base)}/versions/"


def version_key(concept: str, base: str, number: int) -> str:
    """Key of the version of this number; keys sort as numbers do."""
    return f"{versions_prefix(concept, base)}{number:06d}.json"


def duel_key(concept: str, base: str, newcomer: str, rival: str) -> str:
    """Key of the duel between two runs, named by their judge_keys."""
    return f"{concept_prefix(concept, base)}/duels/{newcomer}-{rival}.json"


BATCHES = "batches/"
"""Pages of batches, and what their packs came to, lie under this prefix."""


def batch_page_key(batch: str) -> str:
    """Key of a batch's page."""
    return f"{BATCHES}{batch}/page.html"


def batch_rows_key(batch: str) -> str:
    """Key of how a batch's concepts ended."""
    return f"{BATCHES}{batch}/rows.json"


def split_key(batch: str) -> str:
    """Key of the packs that a batch was split into."""
    return f"{BATCHES}{batch}/split.json"


def reports_prefix(batch: str) -> str:
    """Where what came of a batch's packs lies."""
    return f"{BATCHES}{batch}/packs/"


def report_key(batch: str, pack: str) -> str:
    """Key of what came of a pack."""
    return f"{reports_prefix(batch)}{pack}.json"


def paces_prefix(base: str) -> str:
    """How fast machines were on a base model lies under this prefix."""
    return f"paces/{base}/"


def pace_key(base: str, device: str, dtype: str) -> str:
    """Key of how fast machines of one kind were on a base model."""
    return f"{paces_prefix(base)}{hashlib.sha256(f'{device} {dtype}'.encode()).hexdigest()[:16]}.json"


SEEN, TAKEN = "looks/seen/", "looks/taken/"
"""Which folders of the inbox a look has seen, and which were dealt with."""


def seen_key(digest: str) -> str:
    """Key of the note that a folder of the inbox was seen whose listing has this digest."""
    return f"{SEEN}{digest}"


def taken_key(digest: str) -> str:
    """Key of what was done about a folder of the inbox whose listing has this digest."""
    return f"{TAKEN}{digest}.json"


OUTBOX = "outbox/"
"""What the tracking server has still to be told lies under this prefix."""
FORGET = "forget.json"
"""The entry of a word that the tracking server is to forget."""


def outbox_key(plan: Keyed) -> str:
    """Key of a run's entry in the outbox."""
    return f"{OUTBOX}{plan.concept.name}/{plan.base.slug}/{plan.train_key}-{plan.judge_key}.json"


AWAITING = "awaiting/"
"""A list of the runs that await approval, so that nobody walks all concepts to find them, lies under this prefix."""


def awaiting_key(plan: Keyed) -> str:
    """Key of a run's entry among those that await approval."""
    return f"{AWAITING}{plan.concept.name}/{plan.base.slug}/{plan.train_key}-{plan.judge_key}.json"
