"""What importing costs and what users may rely on: light doors stay light, public names stay."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "open_clip", "prefect", "mlflow")
ABSENT = (*HEAVY, "PIL", "pandas", "jinja2", "matplotlib", "psutil")
"""What the base install, which is the client's, does not bring."""


def loaded_after(code: str, cwd: Path, libraries: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of the libraries a fresh process has imported at the end of `code`, whatever its exit code."""
    script = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', *({set(libraries)!r} & sys.modules.keys()), file=sys.stderr))\n{code}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, cwd=cwd, timeout=60, env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    (last,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    assert "Traceback" not in done.stderr, done.stderr
    return set(last.split()[1:])


@pytest.mark.parametrize(
    "command", ["--help", "train --help", "fetch nothing", "show", "list", "show nothing", "--version"]
)
def test_light_commands_load_nothing_that_the_client_s_install_lacks(command: str, tmp_path: Path) -> None:
    code = f"sys.argv = ['ti', *{command.split()!r}]\nfrom flows.cli import main\nmain()"
    assert loaded_after(code, tmp_path, ABSENT) == set()
    assert list(tmp_path.iterdir()) == []


LIGHT = (
    "backbone.folder", "choosing.selection", "client", "config", "duels", "errors", "formats", "images.ingest",
    "keys", "line", "packs", "planning.batch", "planning.plan", "publishing.catalogue", "publishing.transaction",
    "records", "settings", "stations", "store", "summary", "works",
)  # fmt: skip


def test_configuration_records_selection_and_client_import_without_torch(tmp_path: Path) -> None:
    assert loaded_after("\n".join(f"import ti_core.{name}" for name in LIGHT), tmp_path) == set()


def test_the_coordinator_of_a_batch_imports_no_torch(tmp_path: Path) -> None:
    code = "import flows.train_batch, ti_core.registry\nfrom ti_core.reporting import report"
    assert loaded_after(code, tmp_path) & {"torch", "diffusers", "transformers", "open_clip"} == set()


def test_the_client_imports_no_boto3_for_a_folder(tmp_path: Path) -> None:
    code = (
        "from ti_core import client\n"
        "from ti_core.errors import NotFoundError\n"
        "try:\n    client.get('nothing')\nexcept NotFoundError:\n    pass\n"
        "assert 'boto3' not in sys.modules and 'pandas' not in sys.modules and 'PIL' not in sys.modules"
    )
    assert loaded_after(code, tmp_path) == set()


PUBLIC = {
    "ti_core.client": (
        "Synced champion concepts get get_many hub_folder load_words noticed sync vectors words words_in"
    ),
    "ti_core.config": (
        "BackboneKind ConceptDetails ConceptSpec DEFAULTS EvaluationConfig FEWEST_SEEDS ImportSpec MOST_VECTORS "
        "OwnPrompts PRESETS PROTOCOLS Packing Precision PresetName Prompts ProtocolName Sampler SelectionRule Slug "
        "TrainingConfig WORD_FILES base_slug check_slug given placeholder preset_of"
    ),
    "ti_core.errors": (
        "ConflictError InputError IntegrityError NotFoundError PausedError PseudowordError ServiceError TrainingError "
        "WithdrawnError"
    ),
    "ti_core.formats": (
        "FORMATS LAYOUTS MADE Vectors about diffusers_lines digest_of_vectors filename in_format published_as "
        "read_checkpoint read_published same_vectors write write_checkpoint"
    ),
    "ti_core.records": (
        "ASIDE AWAITING AWAITS Anchors BATCHES BLOBS BaseModelInfo BatchRow BatchRows BatchStatus Came Candidate "
        "Cells Champion Change Checkpoint Copy Decided Decision Document Duel FORGET Fault Finding "
        "Format Given Imported Keyed imported_key "
        "INDEX INDEX_WHOLE ImageSet Interval JudgeInfo JudgeRequest KeptScores Layout Manifest "
        "Naming OUTBOX OpinionInfo Outcome Pace PackReport Packs Picture Plan PreparedSet PromptSet "
        "Protocol PublishedFile Record Report Row SEEN Scale Scores Shard Split Status TAKEN Taken Trained Untold "
        "Verdict Version aside_key awaiting_key batch_page_key batch_rows_key blob_key champion_key change_key "
        "changes_prefix concept_prefix duel_key former_champion_key manifest_key now outbox_key outcome_key "
        "pace_key paces_prefix report_key reports_prefix run_prefix scores_key seen_key shard_key split_key taken_key "
        "version_key versions_prefix"
    ),
    "ti_core.store": "Listed Store Stored bring_back get_blob has_blob lease open_store put_blob",
}


def public_names(module: ModuleType) -> set[str]:
    """`__all__`, or else the names without underscore that the module's own text defines or assigns."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    names = set()
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_surface_is_what_was_promised(name: str) -> None:
    assert public_names(import_module(name)) == set(PUBLIC[name].split())
