"""Scores compare under one protocol alone, and where they do not, it is said what differs."""

from pathlib import Path

from tests.builders import judged
from ti_core.choosing.comparing import NAMES, differences
from ti_core.records import Protocol
from ti_core.store.folder import FolderStore


def test_every_part_of_a_protocol_has_a_name() -> None:
    assert set(NAMES) == set(Protocol.model_fields)


def test_what_differs_is_told_in_words(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    one, other = judged(store, guidance=4.0), judged(store, guidance=5.0)
    assert differences(one.plan.protocol, other.plan.protocol) == ["the guidance (4.0 and 5.0)"]
    assert differences(one.plan.protocol, one.plan.protocol) == []
    clip = one.plan.protocol.model_copy(update={"clip": "ViT-B-32", "clip_digest": "x", "dino": "vit"})
    assert differences(one.plan.protocol, clip) == [
        "the judge (mini-clip and ViT-B-32)", "the judge's weights", "the second opinion (none and vit)",
    ]  # fmt: skip
