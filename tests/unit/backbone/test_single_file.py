"""Base models in one file, and from the hub's cache: the same network as the folder they were made from."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.ldm import save_ldm
from tests.tiny import save_sd1, save_sd2, save_sdxl, stock_pipeline
from ti_core.backbone.folder import check_class_word, find_base
from ti_core.backbone.resident import load
from ti_core.errors import InputError

CPU = torch.device("cpu")
SAVE = {"sd1": save_sd1, "sd2": save_sd2, "sdxl": save_sdxl}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub is out of reach, and its cache is the test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder and its single file of every kind."""
    root = tmp_path_factory.mktemp("single")
    for kind, save in SAVE.items():
        folder = save(root / "folders" / kind)
        save_ldm(stock_pipeline(folder), root / f"{kind}.safetensors")
    return root


def single(pristine: Path, kind: str, to: Path, configured: bool = True) -> Path:
    """A copy of the single file at `to`, with its configuration beside it, without weights."""
    file = Path(shutil.copy(pristine / f"{kind}.safetensors", to / "My Model.safetensors"))
    if configured:
        shutil.copytree(
            pristine / "folders" / kind, file.with_suffix(""), ignore=shutil.ignore_patterns("*.safetensors")
        )
    return file


@pytest.mark.parametrize("kind", SAVE)
def test_a_single_file_is_the_folder_it_was_made_from(pristine: Path, kind: str, tmp_path: Path) -> None:
    file = single(pristine, kind, tmp_path)
    base = find_base(str(file))
    assert (base.kind, base.slug, base.resolution, base.folder) == (kind, "my-model", 16, str(file))
    check_class_word("toy", base)
    ours, folder = load(base, CPU), load(find_base(str(pristine / "folders" / kind)), CPU)
    for name, part in folder.parts.items():
        state = ours.parts[name].state_dict()
        assert state.keys() == part.state_dict().keys()
        for key, value in part.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=0, atol=0, msg=f"{name}.{key}")
    tokens = ours.tokens(["a red toy"], {})
    with torch.no_grad():
        told, expected = (one.encode_prompts(tokens, {}) for one in (ours, folder))
    assert torch.equal(told.hidden_BLD, expected.hidden_BLD)
    assert ours.noise.config.prediction_type == folder.noise.config.prediction_type


def test_fp16_files_are_computed_in_fp32(pristine: Path, tmp_path: Path) -> None:
    file = single(pristine, "sdxl", tmp_path)
    save_ldm(stock_pipeline(pristine / "folders/sdxl"), file, torch.float16)
    model = load(find_base(str(file)), CPU)
    assert {weight.dtype for part in model.parts.values() for weight in part.parameters()} == {torch.float32}


def test_the_digest_is_of_weights_and_configuration_not_of_the_place(pristine: Path, tmp_path: Path) -> None:
    file = single(pristine, "sd1", tmp_path)
    before = find_base(str(file)).digest
    moved = tmp_path / "elsewhere.safetensors"
    shutil.copy(file, moved)
    shutil.copytree(file.with_suffix(""), moved.with_suffix(""))
    assert find_base(str(moved)).digest == before
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    changed = find_base(str(file)).digest
    assert changed != before
    scheduler = file.with_suffix("") / "scheduler/scheduler_config.json"
    scheduler.write_text(scheduler.read_text() + "\n")
    assert find_base(str(file)).digest not in (before, changed)


def test_a_file_without_configuration_says_what_to_put_where(pristine: Path, tmp_path: Path) -> None:
    file = single(pristine, "sdxl", tmp_path, configured=False)
    with pytest.raises(InputError, match=r"weights alone.*stable-diffusion-xl-base-1\.0") as error:
        find_base(str(file))
    assert str(file.with_suffix("")) in str(error.value) and "tokenizer_2" in str(error.value)


def test_configuration_comes_from_the_hub_s_cache_but_never_guessed_for_sd2(pristine: Path, tmp_path: Path) -> None:
    for kind, repository in (("sd1", "stable-diffusion-v1-5/stable-diffusion-v1-5"), ("sd2", "stabilityai/sd-2-1")):
        cache(pristine / "folders" / kind, repository, tmp_path / "hub")
    assert find_base(str(single(pristine, "sd1", tmp_path, configured=False))).kind == "sd1"
    with pytest.raises(InputError, match="of the folder it was made from"):
        find_base(str(single(pristine, "sd2", tmp_path, configured=False)))


def test_another_kind_s_configuration_is_refused(pristine: Path, tmp_path: Path) -> None:
    file = single(pristine, "sd1", tmp_path)
    shutil.copy(pristine / "sdxl.safetensors", file)
    with pytest.raises(InputError, match=r"sdxl checkpoint.*configures an sd1"):
        find_base(str(file))


def test_files_that_are_no_checkpoint_or_not_whole_are_refused(pristine: Path, tmp_path: Path) -> None:
    other = tmp_path / "lora.safetensors"
    save_file({"lora.down": torch.zeros(2)}, other)
    with pytest.raises(InputError, match="holds no text encoder"):
        find_base(str(other))
    file = single(pristine, "sd1", tmp_path)
    whole = load_file(file)
    for hole in ("model.diffusion_model.out.2.weight", "first_stage_model.quant_conv.weight",
                 "cond_stage_model.transformer.text_model.final_layer_norm.weight"):  # fmt: skip
        save_file({name: tensor for name, tensor in whole.items() if name != hole}, file)
        with pytest.raises(InputError, match=r"holds no weights for .*: copy it again"):
            load(find_base(str(file)), CPU)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged or cut short"):
        find_base(str(file))
    with pytest.raises(InputError, match="There is no base model"):
        find_base(str(tmp_path / "nothing.safetensors"))


def cache(folder: Path, repository: str, hub: Path) -> Path:
    """Put `folder` into a hub cache, as a download would."""
    at = hub / f"models--{repository.replace('/', '--')}"
    revision = "0" * 40
    shutil.copytree(folder, at / "snapshots" / revision)
    (at / "refs").mkdir()
    (at / "refs/main").write_text(revision)
    return at / "snapshots" / revision


@pytest.mark.parametrize("kind", SAVE)
def test_a_hub_name_is_found_in_the_cache(pristine: Path, kind: str, tmp_path: Path) -> None:
    snapshot = cache(pristine / "folders" / kind, f"someone/Tiny-{kind}", tmp_path / "hub")
    base = find_base(f"someone/Tiny-{kind}")
    assert (base.folder, base.slug, base.kind) == (str(snapshot), f"tiny-{kind}", kind)
    assert base.digest == find_base(str(pristine / "folders" / kind)).digest


def test_models_that_would_train_to_nonsense_are_refused(tmp_path: Path) -> None:
    folder = save_sd2(tmp_path / "sd2")
    scheduler, unet = folder / "scheduler/scheduler_config.json", folder / "unet/config.json"
    stored = scheduler.read_text()
    scheduler.write_text(json.dumps(json.loads(stored) | {"prediction_type": "sample"}))
    with pytest.raises(InputError, match="predicts sample"):
        find_base(str(folder))
    scheduler.write_text(stored)
    unet.write_text(json.dumps(json.loads(unet.read_text()) | {"in_channels": 9}))
    with pytest.raises(InputError, match=r"9 channels.*inpainting"):
        find_base(str(folder))
