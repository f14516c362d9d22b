"""`ti` as a person meets it: in a process of its own, in an empty working folder."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main
import typer.rich_utils
from typer.testing import CliRunner

from flows.cli import app
from flows.cli.ending import Code, code_of
from tests.builders import done as published
from tests.builders import judged
from tests.flows.moss import MOSS, Run
from ti_core.backbone.folder import MINIATURE
from ti_core.keys import older
from ti_core.publishing.catalogue import manifest_at
from ti_core.records import Outcome, manifest_key, outcome_key
from ti_core.store import get_blob
from ti_core.store.folder import FolderStore

ROOT = Path(__file__).parents[2]
GOOD = [str(MOSS), "--name", "moss", "--class-word", "monster"]


@dataclass
class Shell:
    """A working folder and an environment for `ti`; `home` is its data folder, which does not exist at first."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "data"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "true",
            "PSEUDOWORD_HOME": str(self.home),
            "PSEUDOWORD_ALLOWED_ROOTS": f"{self.folder}:{MOSS.parent}",
        }
        # As from a terminal, however the tests were started: what ignores Ctrl-C hands that on to its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments], text=True, cwd=self.folder, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment | self.environment,
        )  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def refuses(self, *arguments: str, code: int = 1) -> str:
        """`ti` ends with this exit code, one sentence on stderr and nothing in the store; returns the sentence."""
        done = self.run(*arguments)
        assert done.returncode == code, done
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ") and line.endswith((".", "?"))
        assert not (self.home / "store").exists()
        return line


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_missing_folder(shell: Shell) -> None:
    assert "There is no nowhere" in shell.refuses("train", "nowhere", *GOOD[1:])
    assert list(shell.folder.iterdir()) == []


def test_a_folder_without_usable_pictures(shell: Shell) -> None:
    (shell.folder / "pictures").mkdir()
    (shell.folder / "pictures/text.png").write_text("no picture")
    line = shell.refuses("train", "pictures", *GOOD[1:])
    assert "No usable picture in pictures: text.png is left out" in line


def test_an_unknown_class_word(shell: Shell) -> None:
    line = shell.refuses("train", *GOOD[:-1], "monsterr")
    assert "'monsterr'" in line and "Did you mean monster" in line


def test_a_name_that_is_no_slug(shell: Shell) -> None:
    line = shell.refuses("train", str(MOSS), "--name", "My Toy", "--class-word", "toy", code=2)
    assert "'My Toy' cannot name a concept" in line


@pytest.mark.parametrize(
    ("option", "value"), [("--steps", "-5"), ("--vectors", "99"), ("--learning-rate", "7"), ("--seeds", "65")]
)
def test_a_number_out_of_range(shell: Shell, option: str, value: str) -> None:
    assert f"{option} is" in shell.refuses("train", *GOOD, option, value, code=2)


def test_checkpoints_rarer_than_steps(shell: Shell) -> None:
    assert "Checkpoint every" in shell.refuses("train", *GOOD, "--steps", "5", "--checkpoint-every", "9")


def test_a_path_outside_the_allowed_roots(shell: Shell) -> None:
    assert "/etc lies outside the folders that may be read" in shell.refuses("train", "/etc", *GOOD[1:])


def test_a_damaged_base_model(shell: Shell) -> None:
    shutil.copytree(MINIATURE / "mini-sd", shell.folder / "model")
    unet = shell.folder / "model/unet/diffusion_pytorch_model.safetensors"
    unet.write_bytes(unet.read_bytes()[:-100])
    line = shell.refuses("train", *GOOD, "--base-model", "./model")
    assert f"{unet} is damaged or cut short" in line


def test_a_wrong_setting(shell: Shell) -> None:
    shell.environment["PSEUDOWORD_S3_ADDRESSING"] = "sideways"
    assert "PSEUDOWORD_S3_ADDRESSING is 'sideways'" in shell.refuses("train", *GOOD)


def test_a_data_folder_that_cannot_be_made(shell: Shell) -> None:
    (shell.folder / "data").write_text("a file")
    done = shell.run("train", *GOOD)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and str(shell.home) in line


def test_bad_sources_of_a_batch(shell: Shell) -> None:
    assert "There is no folder nowhere" in shell.refuses("batch", "nowhere")
    (shell.folder / "empty").mkdir()
    assert "empty holds no concept" in shell.refuses("batch", "empty")
    (shell.folder / "t.csv").write_text("name,class_word\ncat,monster\n")
    assert "t.csv lacks the column pictures" in shell.refuses("batch", "t.csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", *GOOD, "--colour", "red"], "No such option: --colour"),
        (["train"], "Missing argument 'pictures'."),
        (["fly"], "No such command 'fly'."),
        (["train", *GOOD, "--steps", "many"], "Invalid value for '--steps': Input should be a valid integer"),
        (["train", *GOOD, "--rule", "best"], "'best' is not one of 'balanced', 'fidelity', 'editability'."),
        (["train", *GOOD, "--floor", "3"], "--floor is 3.0: Input should be less than or equal to 1."),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(shell: Shell, arguments: list[str], words: str) -> None:
    assert words in shell.refuses(*arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["train", "nowhere", *GOOD[1:]], "InputError", 1),
        (["fetch", "nothing"], "NotFoundError", 1),
        (["train", *GOOD, "--seeds", "65"], "UsageError", 2),
        (["batch"], "UsageError", 2),
    ],
)
def test_errors_are_json_where_json_is_asked_for(shell: Shell, arguments: list[str], kind: str, code: int) -> None:
    """One value on stdout whatever happens, and nothing else."""
    done = shell.run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    error = json.loads(done.stdout)["error"]
    assert (error["kind"], error["exit_code"]) == (kind, code)
    assert error["message"].endswith((".", "?"))


def test_exit_codes_differ_and_are_told_by_help() -> None:
    assert len(set(Code)) == len(Code) == 6
    told = " ".join(CliRunner().invoke(app, ["batch", "--help"]).stdout.split())
    assert all(f"{code.value} {word}" in told for word, code in zip(
        ("done", "failed", "wrong usage", "rejected", "undecided", "paused"), Code, strict=True
    ))  # fmt: skip
    assert "the first of failed, paused, undecided, rejected" in told


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["published", "skipped"], Code.DONE),
        (["published", "rejected"], Code.REJECTED),
        (["rejected", "undecided"], Code.UNDECIDED),
        (["undecided", "paused", "rejected"], Code.PAUSED),
        (["paused", "failed", "published"], Code.FAILED),
    ],
)
def test_a_batch_ends_with_the_code_of_what_asks_for_a_hand_first(statuses: list[str], code: Code) -> None:
    assert code_of(statuses) is code


def test_the_version_is_that_of_the_package(shell: Shell) -> None:
    done = shell.run("--version")
    assert (done.returncode, done.stdout.strip()) == (0, version("pseudoword"))


def test_help_answers_in_less_than_a_second(shell: Shell) -> None:
    """Of processor time, and the best of three, which company on the machine lengthens least."""

    def seconds(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell.run(*arguments).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    for arguments in (["--help"], ["train", "--help"]):
        assert min(seconds(*arguments) for _ in range(3)) < 1.0


# --- servers that do not answer ---------------------------------------------------------------------------------------


def test_an_unreachable_prefect_server(shell: Shell, closed_port: int) -> None:
    shell.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{closed_port}/api"
    line = shell.refuses("train", *GOOD)
    assert f"The Prefect server at http://127.0.0.1:{closed_port}/api does not answer" in line


def test_an_unreachable_tracking_server(shell: Shell, closed_port: int) -> None:
    shell.environment["PSEUDOWORD_TRACKING_URI"] = f"http://user:secret@127.0.0.1:{closed_port}"
    line = shell.refuses("train", *GOOD)
    assert f"The tracking server at http://127.0.0.1:{closed_port} does not answer" in line
    assert "secret" not in line


@pytest.mark.parametrize("command", [["train", *GOOD], ["fetch", "cat-toy"], ["show"]], ids=["train", "fetch", "show"])
def test_an_unreachable_store(shell: Shell, closed_port: int, command: list[str]) -> None:
    shell.environment |= {
        "PSEUDOWORD_STORE": "s3://words",
        "PSEUDOWORD_S3_ENDPOINT_URL": f"http://127.0.0.1:{closed_port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert "The store s3://words does not answer" in shell.refuses(*command)


# --- looking and fetching ---------------------------------------------------------------------------------------------


def test_unknown_concepts(shell: Shell) -> None:
    assert "No word nothing for miniature is published" in shell.refuses("fetch", "nothing")
    assert "No run of nothing has ended" in shell.refuses("show", "nothing")
    assert "cannot name a concept" in shell.refuses("show", "No Name")
    assert "cannot name a concept" in shell.refuses("fetch", "../secret")


def test_an_empty_store(shell: Shell) -> None:
    done = shell.run("show")
    assert (done.returncode, done.stderr) == (0, "")
    assert "No word is published yet" in done.stdout
    assert json.loads(shell.run("show", "--json").stdout) == []
    assert list(shell.folder.iterdir()) == []


def test_published_words_are_shown_and_fetched(shell: Shell) -> None:
    store = FolderStore(shell.home / "store")
    for base in ("miniature", "sd15"):
        published(store, judged(store, base=base))

    (one, two) = json.loads(shell.run("show", "--json").stdout)
    assert (one["concept"], one["base"], two["base"]) == ("cat-toy", "miniature", "sd15")
    assert "cat-toy" in shell.run("show").stdout

    both = json.loads(shell.run("show", "cat-toy", "--json").stdout)
    assert [each["base"] for each in both] == ["miniature", "sd15"]
    for each in both:
        assert each["champion"]["step"] == each["decision"]["step"] == 20
        assert all(Path(place).is_file() for place in each["files"].values())
    (only,) = json.loads(shell.run("show", "cat-toy", "--base-model", "models/SD15.safetensors", "--json").stdout)
    assert only["base"] == "sd15"
    assert "best version" in " ".join(shell.run("show", "cat-toy").stdout.split())

    assert [one["base"] for one in json.loads(shell.run("show", "--base-model", "sd15", "--json").stdout)] == ["sd15"]

    path = Path(json.loads(shell.run("fetch", "cat-toy", "--out", "words", "--json").stdout)["path"])
    assert (shell.folder / path).read_bytes() == Path(both[0]["files"]["diffusers"]).read_bytes()
    lost = shell.run("fetch", "cat-tpy")
    assert lost.returncode == 1 and "Did you mean cat-toy" in lost.stderr


def test_the_base_model_of_the_environment_is_obeyed(shell: Shell) -> None:
    store = FolderStore(shell.home / "store")
    published(store, judged(store, base="sd15"))
    assert shell.run("fetch", "cat-toy").returncode == 0  # there is only one
    shell.environment["PSEUDOWORD_BASE_MODEL"] = "other/base"
    refused = shell.run("fetch", "cat-toy")
    assert refused.returncode == 1 and "No word cat-toy for base is published" in refused.stderr
    assert "No run of cat-toy on base was judged" in shell.run("judge", "cat-toy").stderr
    assert "The model other/base is neither" in shell.run("generate", "a <cat-toy>", "--out", "a.png").stderr
    assert shell.run("fetch", "cat-toy", "--base-model", "sd15").returncode == 0


def test_brackets_in_a_path_are_shown(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "words [old]")
    shell.folder.mkdir()
    store = FolderStore(shell.home / "store")
    published(store, judged(store))
    (told,) = json.loads(shell.run("show", "cat-toy", "--json").stdout)
    assert "[old]" in told["files"]["page"]
    assert told["files"]["page"] in shell.run("show", "cat-toy").stdout


@pytest.mark.parametrize("command", [*typer.main.get_command(app).commands])
def test_help_shows_every_word_of_every_option(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", 240)
    group: Any = typer.main.get_command(app)
    shown = CliRunner().invoke(app, [command, "--help"]).stdout
    words = [word for option in group.commands[command].params for word in (option.help or "").split()]
    assert [word for word in words if word not in shown] == []


def test_a_plan_tells_what_it_takes_and_writes_nothing(shell: Shell) -> None:
    short = ["--steps", "4", "--batch-size", "2", "--checkpoint-every", "2", "--seeds", "2", "--sampler-steps", "2"]
    told = shell.run("train", *GOOD, *short, "--plan")
    assert told.returncode == 0 and not told.stderr
    assert "4 steps, 8 samples" in told.stdout and "2 checkpoints" in told.stdout
    assert "measured now on cpu in float32" in told.stdout and "samples fit in a pass" in told.stdout
    assert list(shell.folder.iterdir()) == [], "nothing was written, no data folder made"
    assert "Unknown class word" in shell.refuses("train", *GOOD[:-1], "xyzzy", "--plan")


# --- judging again ----------------------------------------------------------------------------------------------------


def test_judging_again_refuses_in_a_sentence(shell: Shell) -> None:
    assert "No run of nothing on miniature was judged" in shell.refuses("judge", "nothing")
    assert "cannot name a concept" in shell.refuses("judge", "No Name")
    assert "--floor is 3.0" in shell.refuses("judge", "nothing", "--floor", "3", code=2)


OWN_PROMPTS = """[select]
plain = ["a photo of a {}", "a {}"]
edit = ["a {} on a blue background", "a {} on a green background"]
[report]
plain = ["a picture of a {}", "a rendering of a {}", "a picture of one {}", "the {}"]
edit = ["a {} on a red background", "a {} on a pink background"]
"""


def test_judging_again_changes_nothing_that_is_not_asked_for(shell: Shell, moss: Run) -> None:
    done = shell.run("judge", "moss", "--no-halving", "--home", str(moss.home), "--json")
    assert json.loads(done.stdout)["judge_key"] == moss.outcome.judge_key
    assert (done.returncode, done.stderr) == (code_of([moss.outcome.status]), "")


def test_a_run_is_judged_again_by_another_rule_and_prompts_of_one_s_own(shell: Shell, moss: Run) -> None:
    file = shell.folder / "prompts.toml"
    file.write_text(OWN_PROMPTS)
    few = ["--seeds", "2", "--sampler-steps", "2", "--home", str(moss.home)]
    done = shell.run("judge", "moss", "--prompts", str(file), "--rule", "editability", "--floor", "0", *few, "--json")
    told = json.loads(done.stdout)
    assert told["decision"]["rule"]["name"] == "editability"
    assert told["before"]["judge_key"] == moss.outcome.judge_key != told["judge_key"]
    assert (done.returncode, done.stderr) == (code_of([told["verdict"]]), "")
    assert "the choosing prompts or seeds" in told["differences"] and told["figures"] == {}
    assert "a picture of a &lt;moss&gt;" in Path(told["page"]).read_text().replace("<wbr>", "")


def test_prompts_that_cannot_be_used_are_told(shell: Shell) -> None:
    file = shell.folder / "prompts.toml"
    for text, reason in (
        (OWN_PROMPTS.replace("red", "blue"), "is in the choosing and in the reporting set"),
        (OWN_PROMPTS.replace("a picture of a {}", "a picture"), "--prompts, report.plain: 'a picture' must hold"),
        (OWN_PROMPTS.replace("edit", "edits", 1), "--prompts, select.edits"),
        ("[select]\nplain = ['a {}']\n", "both for choosing and for reporting"),
        ("[select", "are damaged"),
    ):
        file.write_text(text)
        assert reason in shell.refuses("train", *GOOD, "--prompts", str(file))
    assert "cannot be read" in shell.refuses("judge", "nothing", "--prompts", "nowhere.toml")


def test_a_run_is_judged_again_by_a_published_protocol(shell: Shell, moss: Run) -> None:
    few = ["--seeds", "2", "--sampler-steps", "2", "--home", str(moss.home)]
    done = shell.run("judge", "moss", "--protocol", "textual-inversion-paper", *few, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (code_of([told["verdict"]]), "")
    assert set(told["figures"]) == {"CLIP-I", "CLIP-T"}
    assert "what stands for the new word (class-word and removed)" in told["differences"]
    words = shell.run("judge", "moss", "--protocol", "textual-inversion-paper", *few)
    assert "By the protocol textual-inversion-paper: CLIP-I" in words.stdout
    assert "no Stable Diffusion" in " ".join(words.stdout.split())
    assert "--data" in shell.refuses("train", *GOOD, "--protocol", "dreambench")
    (shell.folder / "mine/toy").mkdir(parents=True)
    assert "there is none in" in shell.refuses("batch", "mine", "--protocol", "dreambench")


# --- a known outcome, and Ctrl-C --------------------------------------------------------------------------------------


SMALL = ["--steps", "20", "--checkpoint-every", "10", "--batch-size", "4", "--seeds", "2", "--sampler-steps", "4"]


def test_work_that_has_an_outcome_is_told_at_once(shell: Shell, moss: Run) -> None:
    done = shell.run("train", *GOOD, *SMALL, "--home", str(moss.home), "--json")
    told = json.loads(done.stdout)
    assert told["judge_key"] == moss.outcome.judge_key and told["earlier_version"] == ""
    assert Path(told["page"]).is_file()
    assert (done.returncode, done.stderr) == (code_of([moss.outcome.status]), "")
    words = shell.run("train", *GOOD, *SMALL, "--home", str(moss.home))
    assert words.returncode == done.returncode and words.stderr == ""
    assert words.stdout.lstrip().startswith(f"{moss.outcome.status} <moss>: ")
    assert "Traceback" not in words.stdout


@pytest.fixture
def known(shell: Shell, moss: Run) -> Outcome:
    """The moss' outcome, in a data folder of this test's own, of which no tracking server knows."""
    shutil.copytree(moss.home / "store", shell.home / "store")
    (shell.folder / "night").mkdir()
    shutil.copytree(MOSS, shell.folder / "night/moss")
    return moss.outcome


NIGHT = ["batch", "night", "--class-word", "monster", *SMALL]


def test_a_batch_tells_how_what_it_skips_had_ended(shell: Shell, known: Outcome) -> None:
    done = shell.run(*NIGHT, "--json")
    (row,) = json.loads(done.stdout)
    assert (row["status"], row["outcome"], row["reason"]) == ("skipped", known.status, known.reason)
    assert (done.returncode, done.stderr) == (code_of([known.status]), "")
    assert (shell.home / "pages" / row["page"]).is_file()


def test_pictures_of_known_work_are_hidden_until_they_are_shown_again(shell: Shell, known: Outcome) -> None:
    def pictures(*options: str) -> int:
        told = json.loads(shell.run("train", *GOOD, *SMALL, *options, "--json").stdout)
        manifest = manifest_at(FolderStore(shell.home / "store"), known.manifest)
        assert Path(told["page"]).read_bytes() == get_blob(FolderStore(shell.home / "store"), manifest.page)
        return Path(told["page"]).read_text().count("data:image/")

    all_of_them = pictures()
    assert pictures("--no-show-pictures") == all_of_them - len(list(MOSS.glob("*.png")))
    assert pictures() < all_of_them  # who says nothing shows nothing that somebody has hidden
    assert pictures("--show-pictures") == all_of_them


def test_work_of_an_earlier_version_is_known_and_said_to_be_until_it_is_renewed(
    shell: Shell, known: Outcome, closed_port: int
) -> None:
    store = FolderStore(shell.home / "store")
    manifest = manifest_at(store, known.manifest)
    train, judge = older(manifest.plan)[0]
    plan = manifest.plan.model_copy(update={"train_key": train, "judge_key": judge})
    then = known.model_copy(update={"train_key": train, "judge_key": judge, "manifest": manifest_key(plan)})
    store.delete(outcome_key(manifest.plan))
    store.create(manifest_key(plan), manifest.model_copy(update={"plan": plan}).to_bytes())
    store.create(outcome_key(plan), then.to_bytes())

    done = shell.run("train", *GOOD, *SMALL)
    said = "An earlier version of Pseudoword did this on"
    assert said in done.stdout and "--renew" in done.stdout and done.returncode == code_of([known.status])
    told = json.loads(shell.run("train", *GOOD, *SMALL, "--json").stdout)
    assert told["judge_key"] == judge and told["earlier_version"].startswith(said)
    assert said in Path(told["page"]).read_text()
    (row,) = json.loads(shell.run(*NIGHT, "--json").stdout)
    assert row["reason"].startswith(said) and row["reason"].endswith(known.reason)
    assert said in (shell.home / "pages/batch.html").read_text()
    # It would be done again now, which needs a server.
    shell.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{closed_port}/api"
    for command in (["train", *GOOD, *SMALL], NIGHT):
        done = shell.run(*command, "--renew")
        assert done.returncode == 1 and "The Prefect server at" in done.stderr


def test_a_run_whose_time_is_spent_is_paused(shell: Shell) -> None:
    done = shell.run("train", *GOOD, *SMALL, "--minutes", "1e-9", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"], error["exit_code"]) == (5, "PausedError", 5)
    assert "paused at step 0 of 20" in error["message"]


@pytest.mark.parametrize(("send", "number", "code"), [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_a_sentence_and_keeps_its_state(
    shell: Shell, send: Callable[[int, int], None], number: int, code: int
) -> None:
    """The terminal sends Ctrl-C to every process of the run, Prefect's own API among them; a service manager sends
    SIGTERM to the first."""
    command = ["train", *GOOD, "--checkpoint-every", "2", "--batch-size", "1", "--seeds", "2", "--steps"]
    process = shell.start(*command, "5000")
    states = shell.home / "store"
    until = time.monotonic() + 240
    while not list(states.glob("concepts/*/*/runs/*/state/*")):
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.1)
    send(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert out.splitlines() and all(line.startswith("moss: ") for line in out.splitlines()), "progress, no result"
    assert err.strip().splitlines()[-1] == "Stopped. The same command goes on from where it was."
    assert "Traceback" not in err and "Error" not in err
    assert err.count("This trains the miniature, a toy") == 1
    assert not list(states.glob("concepts/*/*/runs/*/outcome-*"))


def test_few_pictures_are_warned_about(shell: Shell, closed_port: int) -> None:
    (shell.folder / "pictures").mkdir()
    for name in ("01.png", "02.png"):
        shutil.copy(MOSS / name, shell.folder / "pictures")
    shell.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{closed_port}/api"  # so that it ends at once
    done = shell.run("train", "pictures", *GOOD[1:])
    first, last = done.stderr.splitlines()
    assert first == "Warning: Only 2 usable pictures; three to five work better."
    assert last.startswith("Error: The Prefect server")
