"""Settings as they come from the environment."""

from pathlib import Path

import pytest

from ti_core.errors import InputError
from ti_core.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting in the environment, and an empty working folder."""
    for name in ("PSEUDOWORD_HOME", "PSEUDOWORD_ALLOWED_ROOTS"):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_an_environment_everything_lies_in_one_folder(bare: Path) -> None:
    settings = load_settings()
    assert settings.store_uri == str(bare / "pseudoword-data/store")
    assert settings.mlflow_uri == f"sqlite:///{bare}/pseudoword-data/mlflow.db"
    assert settings.base_model == "miniature"
    assert list(bare.iterdir()) == []


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOWORD_STORE", "s3://bucket/words")
    monkeypatch.setenv("PSEUDOWORD_TRACKING_URI", "http://tracking:5000")
    monkeypatch.setenv("PSEUDOWORD_HOME", "/data")
    settings = load_settings()
    assert (settings.store_uri, settings.mlflow_uri) == ("s3://bucket/words", "http://tracking:5000")
    assert settings.home == Path("/data")


def test_by_default_the_working_folder_and_the_home_may_be_read(bare: Path) -> None:
    assert load_settings().roots == (bare.resolve(), Path.home().resolve())


def test_roots_are_separated_by_colons(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{bare}/a::{bare}/b")
    settings = load_settings()
    assert settings.roots == (bare / "a", bare / "b")
    assert settings.allowed(Path("a/pictures")) == bare / "a/pictures"
    assert settings.allowed(bare / "c/../b") == bare / "b"


@pytest.mark.parametrize("path", ["/etc", "c", "a/../c", "ab", "~"])
def test_what_lies_outside_the_roots_is_refused(monkeypatch: pytest.MonkeyPatch, bare: Path, path: str) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{bare}/a")
    with pytest.raises(InputError, match=r"lies outside.*PSEUDOWORD_ALLOWED_ROOTS") as caught:
        load_settings().allowed(Path(path))
    assert str(caught.value).startswith(path) and f"{bare}/a" in str(caught.value)


def test_links_are_followed_before_they_are_judged(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{bare}/a")
    (bare / "a").mkdir()
    (bare / "a/out").symlink_to("/etc")
    (bare / "in").symlink_to(bare / "a")
    with pytest.raises(InputError):
        load_settings().allowed(Path("a/out/hosts"))
    assert load_settings().allowed(Path("in/pictures")) == bare / "a/pictures"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PSEUDOWORD_S3_ADDRESSING", "sideways"),
        ("PSEUDOWORD_MAX_PICTURE_PIXELS", "0"),
        ("PSEUDOWORD_MAX_PICTURE_PIXELS", "many"),
        ("PSEUDOWORD_PRICE_PER_HOUR", "inf"),
        ("PSEUDOWORD_OPEN_PACKS", "0"),
        ("PSEUDOWORD_HOME", "~nobody-here/x"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"{variable} is '{value}'"):
        load_settings()


def test_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    for name in ("HOME", "BASE_MODEL", "EXPERIMENT"):
        monkeypatch.setenv(f"PSEUDOWORD_{name}", "")
    settings = load_settings()
    assert (settings.base_model, settings.mlflow_experiment) == ("miniature", "pseudoword")
    assert settings.store_uri == str(bare / "pseudoword-data/store") and "base_model" not in settings.model_fields_set


def test_the_home_folder_is_meant_by_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOWORD_HOME", "~/words")
    assert load_settings().home == Path.home() / "words"
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", "~nobody-here")
    with pytest.raises(InputError, match="~nobody-here cannot be found"):
        _ = load_settings().roots


@pytest.mark.parametrize("place", ["pictures", "inbox"])
def test_a_team_has_no_place_beside_a_whole_bucket(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("PSEUDOWORD_NAMESPACE", "team-a")
    monkeypatch.setenv(f"PSEUDOWORD_{place.upper()}", "s3://words/")
    with pytest.raises(InputError, match=f"names a whole bucket, s3://words, .* name a prefix, s3://words/{place}"):
        load_settings()
    monkeypatch.setenv(f"PSEUDOWORD_{place.upper()}", f"s3://words/{place}")
    assert getattr(load_settings(), f"{place}_uri") == f"s3://words/{place}-team-a"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().home = Path("/")


def test_a_database_uri_spells_what_would_end_or_change_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOWORD_HOME", "/my data/100%20?#")
    assert load_settings().mlflow_uri == "sqlite:////my data/100%2520%3F#/mlflow.db"
