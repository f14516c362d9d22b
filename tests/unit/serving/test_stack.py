"""What a stack is decided to be, and what is written of it."""

import os
import subprocess
from pathlib import Path

import pytest

from flows.serving.stack import Options, Stack, decided, keep, kept
from ti_core.errors import InputError


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PSEUDOWORD_S", "AWS_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Options(host="0.0.0.0"), "--auth"),  # noqa: S104 (it is refused)
        (Options(host="10.0.0.7"), "anybody in the network"),
        (Options(workers=2), "2 GPU workers need PostgreSQL"),
        (Options(postgres="mysql://user@host"), "postgresql://user:password@host"),
        (Options(store="./folder"), "s3://bucket/prefix"),
    ],
)
def test_what_no_stack_can_be_is_refused_in_a_sentence(asked: Options, said: str) -> None:
    with pytest.raises(InputError, match=said):
        decided(None, asked)


def test_what_was_chosen_once_is_kept_with_its_keys(tmp_path: Path) -> None:
    first = decided(None, Options(mlflow_port=5001, host="10.0.0.7", auth=True, alerts="slack-webhook/words"))
    keep(first, tmp_path)
    again = decided(kept(tmp_path), Options())
    assert again == first
    changed = decided(kept(tmp_path), Options(prefect_port=4201))
    assert (changed.mlflow_port, changed.prefect_port) == (5001, 4201)
    assert changed.secret_key == first.secret_key
    assert (changed.alerts, decided(changed, Options(alerts="")).alerts) == ("slack-webhook/words", "")


def test_keys_are_each_stack_s_own_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    stack = Stack(auth=True)
    keep(stack, tmp_path)
    secrets = [stack.secret_key, stack.reader_secret_key, stack.password]
    assert len({*secrets, Stack().secret_key, Stack().password}) == 5
    for file in tmp_path.iterdir():
        if any(secret in file.read_text() for secret in secrets):
            assert file.stat().st_mode & 0o777 == 0o600, file
    assert stack.secret_key not in (tmp_path / "reader.env").read_text()


def test_a_terminal_that_reads_env_sh_finds_the_stack(tmp_path: Path) -> None:
    home = tmp_path / "my servers' $HOME"
    home.mkdir()
    stack = Stack(auth=True)
    keep(stack, home)
    done = subprocess.run(
        ["sh", "-c", '. "$0/env.sh"; . "$0/env.sh"; env', str(home)],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert stack.environment(home).items() <= found.items()


def test_a_store_of_one_s_own_comes_from_the_environment_at_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOWORD_STORE", "s3://team/words")
    monkeypatch.setenv("PSEUDOWORD_S3_ENDPOINT_URL", "https://s3.example.com")
    first = decided(None, Options())
    assert not first.own_store
    assert first.pictures == "s3://team/pictures"
    environment = first.environment(tmp_path)
    assert environment["PSEUDOWORD_S3_ENDPOINT_URL"] == "https://s3.example.com"
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert environment["PSEUDOWORD_PICTURES"] == first.pictures
    assert environment["PSEUDOWORD_INBOX"] == "s3://team/inbox"


def test_env_sh_of_the_stack_itself_names_no_store_of_one_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decided(None, Options())
    for name, value in first.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert decided(first, Options()).own_store


def test_a_store_of_one_s_own_inherits_nothing_of_seaweedfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal that has read env.sh before, and reads it again after."""
    first = decided(None, Options())
    keep(first, tmp_path)
    before = (tmp_path / "env.sh").read_text()
    for name, value in first.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PSEUDOWORD_S3_CHECKSUMS", "when_required")  # a person's own
    own = decided(first, Options(store="s3://team/words"))
    assert own.s3 == {"PSEUDOWORD_S3_CHECKSUMS": "when_required"}
    gone = {"PSEUDOWORD_S3_ENDPOINT_URL", "PSEUDOWORD_S3_ADDRESSING", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
            "AWS_DEFAULT_REGION"}  # fmt: skip
    assert own.left_behind(os.environ) == gone
    keep(own, tmp_path)
    found = sourced(before, (tmp_path / "env.sh").read_text())
    assert found["PSEUDOWORD_STORE"] == "s3://team/words"
    assert not gone & set(found)
    assert not (tmp_path / "reader.env").exists()


def test_keys_and_an_endpoint_of_one_s_own_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = decided(None, Options())
    given = {"PSEUDOWORD_S3_ENDPOINT_URL": "https://s3.example.com", "PSEUDOWORD_S3_ADDRESSING": "path"}
    keys = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "my secret", "AWS_DEFAULT_REGION": "eu-1"}
    for name, value in (given | keys).items():
        monkeypatch.setenv(name, value)
    own = decided(first, Options(store="s3://team/words"))
    assert own.s3 == given
    keep(own, tmp_path)
    exports = "".join(f"export {name}='{value}'\n" for name, value in keys.items())
    assert (given | keys).items() <= sourced(exports, (tmp_path / "env.sh").read_text()).items()


def sourced(*scripts: str) -> dict[str, str]:
    """What a process has in its environment whose shell, which stops at an error, has run these."""
    done = subprocess.run(
        ["sh", "-euc", "\n".join([*scripts, "env"])], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def test_a_damaged_stack_is_told(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(InputError, match=r"stack\.json cannot be read"):
        kept(tmp_path)
    assert kept(tmp_path / "nowhere") is None
