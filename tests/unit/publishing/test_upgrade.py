"""A store that the code of 0.1.0 wrote (three published runs and a rejected one of one concept) serves on."""

import zipfile
from pathlib import Path

import pytest

from tests.builders import done, judged
from ti_core import client, keys
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.publishing.catalogue import (
    by_earlier_version,
    champion_of,
    find,
    known,
    manifests_of,
    outcomes_of,
    versions_of,
)
from ti_core.publishing.transaction import show_pictures
from ti_core.records import Manifest, Plan, blob_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store

NAME, BASE = "cat-toy", "miniature"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with zipfile.ZipFile(Path(__file__).parents[1] / "data/store-0.1.0.zip") as archive:
        archive.extractall(tmp_path / "store")
    return Settings(home=tmp_path)


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


def today(manifest: Manifest, **evaluation: object) -> Plan:
    """The plan that the same request makes today."""
    plan = manifest.plan
    train = keys.train_key(plan.concept, plan.images, plan.training, plan.base.digest)
    digest = keys.protocol_digest(plan.protocol)
    asked = EvaluationConfig.model_validate(evaluation).resolved(plan.base.kind)
    return plan.model_copy(
        update={
            "train_key": train, "protocol_digest": digest, "judge_key": keys.judge_key(train, digest, plan.rule),
            "evaluation": asked,
        }
    )  # fmt: skip


def test_it_is_read_and_fetched_from(store: Store, settings: Settings, tmp_path: Path) -> None:
    assert [(row.concept, row.base) for row in client.words(settings=settings)] == [(NAME, BASE)]
    outcomes = outcomes_of(store, NAME, BASE)
    assert sorted(str(one.status) for one in outcomes) == ["published"] * 3 + ["rejected"]
    assert sorted(one.verdict for one in manifests_of(store, NAME, BASE)) == ["accepted"] * 3 + ["rejected"]
    assert find(NAME, BASE, "", store).report.score == 0.7
    champion = champion_of(store, NAME, BASE)
    assert champion and champion.version == 2
    assert client.get(NAME, out=tmp_path / "words", settings=settings).stat().st_size == champion.files[0].size


def test_it_is_published_to_and_its_numbers_go_on(store: Store) -> None:
    outcome = done(store, judged(store, seed=9, score=0.9))
    assert (outcome.version, outcome.champion) == (4, True)
    assert "better than version 2" in outcome.reason
    assert done(store, judged(store, seed=10, score=0.2)).version == 5
    assert list(versions_of(store, NAME, BASE)) == [4, 5]


def test_its_work_is_known_until_it_is_renewed(store: Store) -> None:
    manifests = manifests_of(store, NAME, BASE)
    plans = [today(manifest) for manifest in manifests]
    found = known(store, plans)
    assert [one and one.judge_key for one in found] == [one.plan.judge_key for one in manifests]
    assert found[0] and "earlier version" in by_earlier_version(plans[0], found[0])
    assert known(store, plans, renew=True) == [None] * 4


def test_what_was_the_default_then_fits_the_default_of_today(store: Store) -> None:
    manifest = manifests_of(store, NAME, BASE)[0]
    plan = today(manifest)
    changed = plan.protocol.model_copy(update={"select": plan.protocol.select.model_copy(update={"seeds": (5, 6)})})
    plan = plan.model_copy(update={"protocol": changed, "judge_key": "0" * 32})  # the prompts of today are others
    assert known(store, [plan])[0]
    for other in (
        plan.model_copy(update={"evaluation": today(manifest, seeds=17).evaluation}),
        plan.model_copy(update={"evaluation": today(manifest, halving=True).evaluation}),
        plan.model_copy(update={"rule": SelectionRule(name="fidelity")}),
        plan.model_copy(update={"judge": plan.judge.model_copy(update={"digest": "0" * 64})}),
    ):
        assert known(store, [other]) == [None]


def test_its_pages_hide_their_pictures(store: Store) -> None:
    manifest = find(NAME, BASE, "", store)
    hidden = show_pictures(store, manifest, False)
    assert find(NAME, BASE, "", store) == hidden
    assert store.exists(blob_key(hidden.page))
