"""Scores compare under one protocol alone, and where they do not, it is said what differs."""

from pathlib import Path

import pytest

from tests.builders import judged
from ti_core.choosing.comparing import NAMES, advantage, differences
from ti_core.errors import InputError
from ti_core.records import Protocol
from ti_core.store.folder import FolderStore


def test_every_part_of_a_protocol_has_a_name() -> None:
    assert set(NAMES) == set(Protocol.model_fields)


def test_scores_under_one_protocol_compare(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    one, other = judged(store, score=0.6, seed=1), judged(store, score=0.5, seed=2)
    assert advantage(one, other) == pytest.approx(0.1)


def test_scores_under_different_protocols_are_refused_with_what_differs(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    one, other = judged(store, guidance=4.0), judged(store, guidance=5.0)
    assert differences(one.plan.protocol, other.plan.protocol) == ["the guidance (4.0 and 5.0)"]
    assert differences(one.plan.protocol, one.plan.protocol) == []
    with pytest.raises(InputError, match=r"do not compare: they differ in the guidance \(4.0 and 5.0\). Judge one"):
        advantage(one, other)
    clip = one.plan.protocol.model_copy(update={"clip": "ViT-B-32", "clip_digest": "x", "dino": "vit"})
    assert differences(one.plan.protocol, clip) == [
        "the judge (mini-clip and ViT-B-32)", "the judge's weights", "the second opinion (none and vit)",
    ]  # fmt: skip
