"""Two teams with one store, one tracking server and one data folder: their words of one name never meet."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.builders import done, judged
from ti_core import client
from ti_core.errors import InputError, NotFoundError
from ti_core.images.sources import check_not_store
from ti_core.publishing.audit import audit
from ti_core.publishing.collecting import collect
from ti_core.publishing.forgetting import forget
from ti_core.publishing.transaction import publish
from ti_core.records import blob_key
from ti_core.reporting.pages import page_path
from ti_core.settings import Settings, load_settings
from ti_core.store import Store, open_store


@pytest.fixture
def teams(tmp_path: Path) -> dict[str, Settings]:
    """No namespace, which is one of its own, and two teams."""
    return {name: Settings(home=tmp_path / "home", namespace=name) for name in ("", "team-a", "team-b")}


@pytest.fixture
def stores(teams: dict[str, Settings]) -> dict[str, Store]:
    """A word of one name in each, each with other vectors."""
    found = {name: open_store(settings) for name, settings in teams.items()}
    for seed, store in enumerate(found.values()):
        done(store, judged(store, seed=seed))
    return found


def test_each_reads_and_lists_its_own(teams: dict[str, Settings], stores: dict[str, Store]) -> None:
    made = {name: client.get("cat-toy", settings=settings) for name, settings in teams.items()}
    assert len({path.read_bytes() for path in made.values()}) == len(set(made.values())) == 3
    publish(stores["team-b"], judged(stores["team-b"], name="dog"), "", {})
    assert [[row.concept for row in client.words(settings=one)] for one in teams.values()] == [
        ["cat-toy"], ["cat-toy"], ["cat-toy", "dog"]
    ]  # fmt: skip
    with pytest.raises(NotFoundError, match=r"No word dog .*namespaces/team-a\. .*cat-toy"):
        client.get("dog", settings=teams["team-a"])
    assert not any("/namespaces/" in key for key in stores[""].keys("concepts/"))


def test_a_copy_of_another_team_is_kept(teams: dict[str, Settings], stores: dict[str, Store], tmp_path: Path) -> None:
    out = tmp_path / "words"
    assert len(client.sync(out, settings=teams["team-a"]).fetched) == 1
    before = (out / "miniature/cat-toy.safetensors").read_bytes()
    done_b = client.sync(out, settings=teams["team-b"])
    assert not done_b.fetched and "of the namespace team-a, not yours" in done_b.failed["cat-toy on miniature"]
    with pytest.raises(InputError, match="of the namespace team-a, not yours: name another folder"):
        client.get("cat-toy", out=out / "miniature", settings=teams[""])
    with pytest.raises(NotFoundError, match="no verified copy"):
        client.get("cat-toy", out=out / "miniature", settings=teams["team-b"], offline=True)
    forget(stores["team-b"], "cat-toy", "miniature", "ann", "asked for")
    client.sync(out, settings=teams["team-b"])
    assert (out / "miniature/cat-toy.safetensors").read_bytes() == before
    assert client.get("cat-toy", out=out / "miniature", settings=teams["team-a"], offline=True)


def test_what_one_forgets_or_collects_is_no_loss_to_another(
    teams: dict[str, Settings], stores: dict[str, Store]
) -> None:
    same = {name: judged(store, name="fox", seed=9) for name, store in stores.items()}
    for name, store in stores.items():
        done(store, same[name])
    assert same["team-a"].page == same["team-b"].page, "the very same blobs, in each its own"
    forget(stores["team-a"], "fox", "miniature", "ann", "asked for")
    assert not any(True for _ in stores["team-a"].keys("concepts/fox/miniature/runs/"))
    collect(stores[""], timedelta(0))
    collect(stores[""], timedelta(0))
    assert stores["team-b"].exists(blob_key(same["team-b"].files[0].sha256))
    for name in ("", "team-b"):
        assert client.champion("fox", settings=teams[name]).version == 1
        assert not [one for one in audit(stores[name]) if one.kind in {"missing", "damaged", "pointer"}]


def test_pages_experiments_and_sources_are_told_apart(teams: dict[str, Settings]) -> None:
    assert len({page_path(one, "cat-toy", "miniature", "0" * 32) for one in teams.values()}) == 3
    assert {one.mlflow_experiment for one in teams.values()} == {
        "pseudoword", "pseudoword/team-a", "pseudoword/team-b"
    }  # fmt: skip
    bucket = Settings(store="s3://words/store", namespace="team-a")
    assert bucket.store_uri == "s3://words/store/namespaces/team-a"
    for place in ("s3://words/pictures", f"{bucket.pictures_uri}/cat", bucket.inbox_uri):
        check_not_store(place, bucket)
    for inside in ("s3://words/store", "s3://words/store/namespaces/team-b/blobs", "s3://words/store/namespaces",
                   "s3://words/store/namespaces/team-a", "s3://words/store/blobs"):  # fmt: skip
        with pytest.raises(InputError, match="lies in the store"):
            check_not_store(inside, bucket)


def test_a_name_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOWORD_NAMESPACE", "Team A")
    with pytest.raises(InputError, match="PSEUDOWORD_NAMESPACE is 'Team A': use lower-case letters"):
        load_settings()


def test_uploads_and_inboxes_of_two_teams_lie_apart(tmp_path: Path) -> None:
    named = {"home": tmp_path, "pictures": "s3://words/pictures/", "inbox": "s3://words/inbox"}
    for given in ({"home": tmp_path}, named):
        of = [Settings(**given, namespace=name) for name in ("", "a", "b")]
        assert len({place for one in of for place in (one.pictures_uri, one.inbox_uri)}) == 6
    assert Settings(**named).pictures_uri == "s3://words/pictures"
    assert Settings(**named, namespace="a").inbox_uri == "s3://words/inbox-a"
