"""`ti import`: a word from elsewhere. With pictures it is judged on them, as a trained word is; without, it is kept and
given to readers as it is, and said to be not judged."""

import json
from typing import Annotated

import typer

from flows.cli.ending import Code
from flows.cli.starting import quiet_libraries, settings_of
from flows.cli.training import run_one
from flows.options import BaseModel, Home, Json, Only, UsageError, options_of
from ti_core.config import EvaluationConfig, ImportSpec, SelectionRule, TrainingConfig, given


@options_of()
def import_(
    *,
    word: ImportSpec,
    pictures: Annotated[TrainingConfig, Only(("resolution", "crop"), "Pictures")],
    evaluation: EvaluationConfig,
    rule: SelectionRule,
    base_model: BaseModel = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Take in a word of another program. With --pictures it is judged and meets the best version; without, it takes an
    empty place alone."""
    from ti_core.works import Asked

    settings = settings_of(home)
    if word.pictures:
        return run_one(word.to_be_judged, Asked(pictures, evaluation, rule, base_model), settings, as_json)
    if any(map(given, (pictures, evaluation, rule))):
        raise UsageError("How it is to be judged says nothing without pictures: name some with --pictures.")
    from flows import console
    from ti_core.importing import import_word
    from ti_core.store import open_store

    quiet_libraries()
    outcome, kept = import_word(word, base_model, settings, open_store(settings))
    if as_json:
        typer.echo(json.dumps(outcome.model_dump(mode="json") | {"given": kept.given.model_dump(mode="json")}))
    else:
        console.show_import(outcome, kept)
    return Code.DONE
