"""The guide to a first word, followed line by line on tiny random models that the hub's cache holds under the real
names: every command of it, then the files it ends with, in the programs they are for.

ComfyUI, AUTOMATIC1111, InvokeAI and kohya's scripts are in no package index. Where COMFYUI, A1111, INVOKEAI or KOHYA
name a checkout, the functions that load a word there are taken from its source and run; elsewhere those tests are
skipped, and what they read is looked at.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional, Union

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from tests.tiny import save_sd1, save_sd2, save_sdxl
from ti_core import formats
from ti_core.backbone.folder import MINIATURE

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/guides/your-first-word.md"
MODELS = {"stable-diffusion-v1-5/stable-diffusion-v1-5": save_sd1,
          "stabilityai/stable-diffusion-xl-base-1.0": save_sdxl}  # fmt: skip
WIDTHS = {"sd15": {"emb_params": 32}, "sdxl": {"clip_l": 32, "clip_g": 48}}
"""Tensors of the fetched files, and the widths of the tiny text encoders."""

PRELUDE = f"""
set -euo pipefail
command -v nvidia-smi > /dev/null || nvidia-smi() {{ echo "no card here"; }}
git() {{ command git "$1" --quiet --depth 1 {shlex.quote(f"file://{ROOT}")} pseudoword; }}
make() {{ command make --dry-run "$@" | grep "pip install"; }}
"""
"""What a machine without a network or a card has in place of these: the checkout at hand is cloned, and make says what
it would install."""


def blocks(guide: Path) -> list[str]:
    """The guide's code in its order, as shell; Python goes to `python`."""
    found = re.findall(r"^( *)```(sh|python)\n(.*?)^ *```$", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    made = []
    for indent, language, text in found:
        code = re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        made.append(code if language == "sh" else f"python - <<'END_OF_PYTHON'\n{code}END_OF_PYTHON\n")
    return made


def hub_cache(home: Path) -> Path:
    """A cache of the hub's that holds tiny models under the real names, in full and as fp16 variants."""
    for name, save in MODELS.items():
        at = home / "hub" / f"models--{name.replace('/', '--')}"
        folder = save(at / "snapshots" / ("0" * 40))
        for file in folder.rglob("*model.safetensors"):
            tensors = {key: value.half() for key, value in safetensors.torch.load_file(file).items()}
            safetensors.torch.save_file(tensors, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
        (at / "refs").mkdir()
        (at / "refs/main").write_text("0" * 40)
    return home


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the guide was followed to its end; `output.txt` is what it printed."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout that could be cloned")
    home = tmp_path_factory.mktemp("guide")
    photos = home / "Pictures/cat-toy"
    photos.mkdir(parents=True)
    for file in (ROOT / "examples/concepts/moss").glob("*.png"):
        Image.open(file).convert("RGB").resize((600, 600)).save(photos / f"{file.stem}.jpg")
    save_sd2(home / "models/stable-diffusion-2-1")
    programs = home / "programs"
    programs.mkdir()
    (programs / "ti").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/guides/ti.py" "$@"\n')
    (programs / "ti").chmod(0o755)
    environment = {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "HF_HOME": str(hub_cache(home / "hf")),
        "HF_HUB_OFFLINE": "1",
        # The checkout may be another user's, as it is in some build machines.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "PYTHONPATH": f"{ROOT}:{ROOT}/miniature/package",
        "PSEUDOWORD_CLIP": str(MINIATURE / "mini-clip"),
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    script = PRELUDE + "".join(f'echo "--- block {n}"\n{block}' for n, block in enumerate(blocks(GUIDE), 1))
    with (home / "output.txt").open("w") as output:
        done = subprocess.run(
            ["bash"], input=script, text=True, cwd=home, env=environment, stdout=output, stderr=output, check=False
        )
    assert done.returncode == 0, (home / "output.txt").read_text()[-4000:]
    return home


def test_every_command_of_the_guide_runs(desk: Path) -> None:
    said = (desk / "output.txt").read_text()
    assert said.count("--- block") == len(blocks(GUIDE)) == len(re.findall("```(?:sh|python)", GUIDE.read_text()))
    assert "uv pip install" in said.replace("bin/uv", "uv"), "make setup is there"
    assert said.count("published <cat-toy>") >= 3, "SD 1.5, SDXL, SD 2.x"
    assert "(nothing is written)" in said, "the plan"
    assert "Ignoring" not in said, "hf took its options for something else"
    assert "toy: the word belongs to the miniature" not in said
    for picture in ("beach.png", "sd15.png", "sdxl.png"):
        assert Image.open(desk / "pseudoword" / picture).size == (16, 16)
    assert (desk / "pseudoword/pictures.html").is_file()
    pages = list((desk / "pseudoword/pseudoword-data/pages").rglob("*.html"))
    assert any(str(page) in "".join(said.split()) for page in pages), "the page is named and there"


def test_all_commands_of_ti_are_options_that_there_are() -> None:
    """What stands in the text between backticks, too."""
    from typer.testing import CliRunner

    from flows.cli import app

    for command, rest in re.findall(r"`ti (\w+)([^`]*)`", GUIDE.read_text()):
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        for option in re.findall(r"--[\w-]+", rest):
            assert option in told, f"ti {command} {option}"


@pytest.fixture
def words(desk: Path) -> Path:
    return desk / "pseudoword/words"


@pytest.mark.parametrize("base", WIDTHS)
def test_the_file_is_what_other_programs_read(words: Path, base: str) -> None:
    """One [vectors, width] fp32 tensor named emb_params (A1111, InvokeAI; ComfyUI and kohya take any one), or clip_l
    and clip_g (all of them); the word is the file's name."""
    tensors = safetensors.torch.load_file(words / base / "cat-toy.safetensors")
    assert {name: rows.shape[1] for name, rows in tensors.items()} == WIDTHS[base]
    assert {rows.dtype for rows in tensors.values()} == {torch.float32}
    assert len({rows.shape[0] for rows in tensors.values()}) == 1


# --- the loaders of other programs ------------------------------------------------------------------------------------


def source_of(variable: str, *files: str) -> str:
    """The loader's file in the checkout that the variable names; skips where it names none."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} names no checkout")
    found = next((Path(folder, file) for file in files if Path(folder, file).is_file()), None)
    assert found, f"{folder} holds none of {', '.join(files)}"
    return found.read_text()


def taken(source: str, names: set[str], given: dict[str, Any]) -> dict[str, Any]:
    """Run the definitions `names` of a module alone, without what else it imports."""
    tree = ast.parse(source)
    tree.body = [node for node in ast.walk(tree) if getattr(node, "name", "") in names]
    exec(compile(tree, "loader", "exec"), given)  # noqa: S102  # of the checkout that was named
    return given


@pytest.mark.parametrize("base", WIDTHS)
def test_comfyui_loads_the_word(words: Path, base: str) -> None:
    source = source_of("COMFYUI", "comfy/sd1_clip.py")
    names = {"expand_directory_list", "bundled_embed", "load_embed", "safe_load_embed_zip"}
    loader = taken(source, names, {"os": os, "torch": torch})["load_embed"]
    expected = safetensors.torch.load_file(words / base / "cat-toy.safetensors")
    for key, width in WIDTHS[base].items():
        asked = "clip_l" if key == "emb_params" else key
        rows = loader("cat-toy", str(words / base), width, asked)
        assert torch.equal(rows, expected[key])


@pytest.mark.parametrize("base", WIDTHS)
def test_a1111_loads_the_word(words: Path, base: str, tmp_path: Path) -> None:
    source = source_of("A1111", "modules/textual_inversion/textual_inversion.py")
    folder = Path(shutil.copytree(words / base, tmp_path / "embeddings"))
    shared = SimpleNamespace(
        sd_model=SimpleNamespace(cond_stage_model=SimpleNamespace(tokenize=lambda texts: [[7] for _ in texts]))
    )
    given = {
        "os": os, "torch": torch, "safetensors": safetensors, "Image": Image, "shared": shared,
        "devices": SimpleNamespace(device="cpu"), "hashes": SimpleNamespace(sha256=lambda *_: "0" * 64),
    }  # fmt: skip
    made = taken(source, {"Embedding", "EmbeddingDatabase", "create_embedding_from_data"}, given)
    database = made["EmbeddingDatabase"]()
    database.load_from_file(str(folder / "cat-toy.safetensors"), "cat-toy.safetensors")
    (word,) = database.word_embeddings.values()
    expected = safetensors.torch.load_file(folder / "cat-toy.safetensors")
    assert (word.name, word.vectors, word.shape) == (
        "cat-toy", len(next(iter(expected.values()))), sum(WIDTHS[base].values()),
    )  # fmt: skip
    for key, rows in expected.items():
        np.testing.assert_array_equal(word.vec[key] if base == "sdxl" else word.vec, rows)


@pytest.mark.parametrize("base", WIDTHS)
def test_kohyas_scripts_load_the_word(words: Path, base: str) -> None:
    script = "train_textual_inversion.py" if base == "sd15" else "sdxl_train_textual_inversion.py"
    load = taken(source_of("KOHYA", script), {"load_weights"}, {"os": os, "torch": torch})["load_weights"]
    expected = safetensors.torch.load_file(words / base / "cat-toy.safetensors")
    rows = load(None, str(words / base / "cat-toy.safetensors"))
    assert len(rows) == len(expected)
    for read, key in zip(rows, WIDTHS[base], strict=True):
        assert torch.equal(read, expected[key])


@pytest.mark.parametrize("base", WIDTHS)
def test_invokeai_loads_the_word(words: Path, base: str) -> None:
    source = source_of("INVOKEAI", "invokeai/backend/textual_inversion.py")
    given = {
        "RawModel": object, "Path": Path, "Union": Union, "Optional": Optional, "Self": Any, "torch": torch,
        "load_file": safetensors.torch.load_file,
    }  # fmt: skip
    model = taken(source, {"TextualInversionModelRaw"}, given)["TextualInversionModelRaw"]
    read = model.from_checkpoint(words / base / "cat-toy.safetensors")
    expected = safetensors.torch.load_file(words / base / "cat-toy.safetensors")
    assert torch.equal(read.embedding, expected["emb_params" if base == "sd15" else "clip_g"])
    assert base == "sd15" or torch.equal(read.embedding_2, expected["clip_l"])


@pytest.mark.parametrize(
    ("widths", "known"),
    [({"clip_l": 768}, "SD1"), ({"clip_h": 1024}, "SD2"), ({"clip_l": 768, "clip_g": 1280}, "SDXL")],
)
@pytest.mark.parametrize("many", [1, 3])
def test_invokeais_importer_knows_the_base_model(widths: dict[str, int], known: str, many: int, tmp_path: Path) -> None:
    """By the width of what the file holds; the tiny models above have none that it knows."""
    source = source_of("INVOKEAI", "invokeai/backend/model_manager/configs/textual_inversion.py")
    bases = SimpleNamespace(StableDiffusion1="SD1", StableDiffusion2="SD2", StableDiffusionXL="SDXL")
    given = {
        "classmethod": lambda method: method, "ModelOnDisk": Any, "Path": Path, "BaseModelType": bases,
        "NotAMatchError": ValueError, "torch": torch,
    }  # fmt: skip
    made = taken(source, {"_get_base_or_raise", "_file_looks_like_embedding"}, given)
    file = tmp_path / "cat-toy.safetensors"
    vectors = {name: np.ones((many, width), np.float32) for name, width in widths.items()}
    file.write_bytes(formats.write(vectors, "<cat-toy>", "a1111"))
    mod = SimpleNamespace(path=file, load_state_dict=safetensors.torch.load_file, weight_files=lambda: {file})
    assert made["_file_looks_like_embedding"](None, mod)
    assert made["_get_base_or_raise"](None, mod) == known
