"""The folder for the hub: what a repository must hold, and a card that reads as YAML and Markdown."""

import io
from pathlib import Path

import yaml
from PIL import Image

from tests.builders import done, judged
from ti_core.client import hub_folder
from ti_core.settings import Settings
from ti_core.store import get_blob, open_store


def test_a_folder_that_the_hub_takes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    store = open_store(settings)
    run = judged(store, base="sd15")
    concept = run.plan.concept.model_copy(
        update={"license": 'CC0: "all" agreed', "tags": "toy, red: cat, \x1b[0m\x7f\x9bé😀"}
    )
    base = run.plan.base.model_copy(update={"name": "owner/sd15", "slug": "sd15"})
    run = run.model_copy(update={"plan": run.plan.model_copy(update={"concept": concept, "base": base})})
    done(store, run)
    folder = hub_folder("cat-toy", out=tmp_path, settings=settings)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "examples.png", "learned_embeds.safetensors"]
    assert (folder / "learned_embeds.safetensors").read_bytes() == get_blob(store, run.files[0].sha256)
    Image.open(io.BytesIO((folder / "examples.png").read_bytes())).verify()
    _, head, text = (folder / "README.md").read_text().split("---\n")
    meta = yaml.safe_load(head)
    assert (meta["base_model"], meta["license_name"]) == ("owner/sd15", 'CC0: "all" agreed')
    assert meta["tags"] == ["textual-inversion", "diffusers", "text-to-image", "toy", "red: cat", "\x1b[0m\x7f\x9bé😀"]
    assert meta["instance_prompt"] == "<cat-toy>" and text.strip().startswith("# <cat-toy>")
    assert "0.600" in text and run.plan.judge_key in text
