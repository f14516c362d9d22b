"""Fetch a published word: champion.json, then its file, verified, written whole or not at all.

This is all an inference service needs. It reads the store and nothing else: no torch, no MLflow, no orchestrator;
boto3 is imported only for a store in S3.

    from ti_core.client import get
    pipeline.load_textual_inversion(get("cat-toy"))
"""

import secrets
from difflib import get_close_matches
from pathlib import Path

from ti_core.config import check_slug
from ti_core.errors import InputError, IntegrityError, NotFoundError
from ti_core.publishing.catalogue import base_for, champion_of
from ti_core.records import Champion, Layout, PublishedFile
from ti_core.settings import Settings, load_settings
from ti_core.store import Store, get_blob, open_store


def get(
    concept: str,
    base: str | None = None,
    layout: Layout = "diffusers",
    out: Path | str | None = None,
    settings: Settings | None = None,
) -> Path:
    """Fetch the champion's file of a concept. Returns its path.

    `base` is a base model (its slug, folder, file or hub name); None takes `PSEUDOWORD_BASE_MODEL`, or else the only
    one the concept is published for. `out` is a folder, made if needed; None is `words` in the data folder. `settings`
    are read from the environment by default. A file of the same name is replaced in one step.

    Raises NotFoundError when there is no such word, IntegrityError when stored data is damaged or written by a newer
    version, InputError when `out` cannot be written; nothing is written in these cases. Raises ServiceError when the
    store cannot be reached.
    """
    settings = settings or load_settings()
    store = open_store(settings)
    found = _find(store, concept, base, settings)
    file = _file(found, layout)
    folder = settings.home / "words" if out is None else Path(out).expanduser()
    return _write(folder / file.filename, get_blob(store, file.sha256))


def champion(concept: str, base: str | None = None, settings: Settings | None = None) -> Champion:
    """What readers of a concept get: step, score, version and files. Arguments and errors are those of `get`."""
    settings = settings or load_settings()
    return _find(open_store(settings), concept, base, settings)


def concepts(store: Store) -> list[tuple[str, str]]:
    """All published words as (concept, base), sorted. Walks all keys of all concepts."""
    return _published(store, "concepts/")


def _published(store: Store, prefix: str) -> list[tuple[str, str]]:
    parts = (key.split("/") for key in store.keys(prefix))
    return sorted((part[1], part[2]) for part in parts if len(part) == 4 and part[3] == "champion.json")


def _find(store: Store, concept: str, base: str | None, settings: Settings) -> Champion:
    check_slug(concept)
    chosen = base_for(base or "", settings, [] if base else _bases(store, concept))
    found = champion_of(store, concept, chosen)
    if found is None:
        raise NotFoundError(f"No word {concept} for {chosen} is published in {store.uri}.{_hint(store, concept)}")
    return found


def _bases(store: Store, concept: str) -> list[str]:
    return [base for _, base in _published(store, f"concepts/{concept}/")]


def _hint(store: Store, concept: str) -> str:
    """What there is instead: the concept's base models, else names like it, else some names."""
    if bases := _bases(store, concept):
        return f" It is published for {', '.join(bases)}: choose one as the base model."
    names = sorted({name for name, _ in concepts(store)})
    if close := get_close_matches(concept, names, n=3, cutoff=0.5):
        return f" Did you mean {' or '.join(close)}?"
    return f" There are: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}." if names else " It holds no words."


def _file(found: Champion, layout: Layout) -> PublishedFile:
    for file in found.files:
        if file.layout == layout:
            # The name comes from the store and becomes a path here.
            if file.filename != Path(file.filename).name or file.filename in {"", ".", ".."}:
                raise IntegrityError(
                    f"The champion of {found.concept} names a file {file.filename!r}, which is no name."
                )
            return file
    layouts = ", ".join(file.layout for file in found.files)
    raise NotFoundError(f"{found.concept} on {found.base} is not published as {layout}: choose one of {layouts}.")


def _write(path: Path, data: bytes) -> Path:
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    return path
