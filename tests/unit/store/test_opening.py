import subprocess
import sys
from pathlib import Path

import pytest

from ti_core.errors import InputError
from ti_core.settings import Settings
from ti_core.store import open_store

ROOT = Path(__file__).parents[3]


def test_the_settings_name_the_store(tmp_path: Path) -> None:
    assert open_store(Settings(home=tmp_path)).uri == str(tmp_path / "store")
    assert open_store(Settings(home=tmp_path, store=str(tmp_path / "other"))).uri == str(tmp_path / "other")
    assert open_store(Settings(home=tmp_path), str(tmp_path / "third")).uri == str(tmp_path / "third")


def test_a_bucket_may_have_a_prefix() -> None:
    assert open_store(Settings(), "s3://words").uri == "s3://words"
    assert open_store(Settings(), "s3://words/").url("a/b") == "s3://words/a/b"
    assert open_store(Settings(), "s3://words/some/prefix/").url("a/b") == "s3://words/some/prefix/a/b"


@pytest.mark.parametrize(
    "uri",
    [
        "gs://bucket",
        "file:///tmp/x",
        "s3://",
        "s3:///prefix",
        "://x",
        "s3://b/a//b",
        "http://",
        "http://[b",
        "http://b:x",
        "http://b c",
    ],
)
def test_what_names_no_store_is_refused(uri: str) -> None:
    with pytest.raises(InputError):
        open_store(Settings(), uri)


def test_a_web_address_with_a_secret_is_refused_without_telling_it() -> None:
    for address in ("https://ann:secret@words.example/x", "https://words.example/x?key=secret"):
        with pytest.raises(InputError, match=r"here at words\.example, holds no user") as caught:
            open_store(Settings(), address)
        assert "secret" not in str(caught.value)


def test_the_home_of_nobody_is_told() -> None:
    with pytest.raises(InputError, match=r"~nobody-here/x cannot be found"):
        open_store(Settings(), "~nobody-here/x")


def test_a_folders_user_does_not_pay_for_boto3(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ti_core.settings import Settings; "
        "from ti_core.store import open_store, put_blob; "
        "put_blob(open_store(Settings(), sys.argv[1]), b'x'); "
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False).returncode == 0
