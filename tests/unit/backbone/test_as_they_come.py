"""Models as people have them: fp16 variants, shards, snapshots of the hub's cache, revisions, swapped parts; and what
is refused, in words."""

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UniPCMultistepScheduler
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tests.ldm import save_ldm
from tests.tiny import save_sd1, save_sdxl, stock_pipeline
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.backbone.supported import SCHEDULERS
from ti_core.config import base_slug
from ti_core.errors import InputError

CPU = torch.device("cpu")
CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel,
           "text_encoder_2": CLIPTextModelWithProjection}  # fmt: skip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    save_sd1(root / "sd1")
    save_sdxl(root / "sdxl")
    return root


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the tiny SD 1.x folder that a test may change."""
    return Path(shutil.copytree(pristine / "sd1", tmp_path / "sd1"))


def saved_anew(folder: Path, *, dtype: torch.dtype = torch.float32, keep: bool = False, **how: Any) -> Path:
    """Write all weights of a folder as its libraries do, in another way: `variant`, `max_shard_size`."""
    for part, kind in CLASSES.items():
        if not (folder / part).is_dir():
            continue
        model = kind.from_pretrained(folder / part).to(dtype)
        if not keep:
            for file in (folder / part).glob("*.safetensors"):
                file.unlink()
        model.save_pretrained(folder / part, **how)
    return folder


def edit(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def state(folder: Path | str) -> dict[str, torch.Tensor]:
    """All weights as they are computed with."""
    model = load(find_base(str(folder)), CPU)
    return {f"{name}.{key}": value for name, part in model.parts.items() for key, value in part.state_dict().items()}


# --- files of weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_folder_of_shards_is_the_same_network(pristine: Path, tmp_path: Path, kind: str) -> None:
    sharded = saved_anew(Path(shutil.copytree(pristine / kind, tmp_path / kind)), max_shard_size="60KB")
    assert not (sharded / "unet/diffusion_pytorch_model.safetensors").exists()
    assert not (sharded / "text_encoder/model.safetensors").exists()
    before, after = state(pristine / kind), state(sharded)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("shards", [False, True])
def test_a_folder_of_fp16_variants_is_computed_in_fp32(pristine: Path, tmp_path: Path, shards: bool) -> None:
    half = Path(shutil.copytree(pristine / "sdxl", tmp_path / "sdxl"))
    how = {"max_shard_size": "40KB"} if shards else {}
    saved_anew(half, dtype=torch.float16, variant="fp16", **how)
    assert all(".fp16" in file.name for file in half.rglob("*.safetensors"))
    assert (find_base(str(half)).variant, find_base(str(pristine / "sdxl")).variant) == ("fp16", "")
    before, after = state(pristine / "sdxl"), state(half)
    for key, value in before.items():
        assert after[key].dtype == value.dtype
        assert not value.is_floating_point() or torch.equal(after[key], value.half().float())


def test_full_weights_come_before_their_fp16_variant_and_are_what_is_digested(folder: Path, pristine: Path) -> None:
    saved_anew(folder, dtype=torch.float16, variant="fp16", keep=True)
    shutil.copytree(pristine / "sd1", folder, dirs_exist_ok=True)
    (folder / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not read")
    assert find_base(str(folder)).digest == find_base(str(pristine / "sd1")).digest
    assert torch.equal(state(folder)["unet.conv_in.weight"], state(pristine / "sd1")["unet.conv_in.weight"])


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_what_is_digested_is_what_is_loaded_where_one_file_and_shards_lie_side_by_side(
    folder: Path, tmp_path: Path, part: str
) -> None:
    other = saved_anew(save_sd1(tmp_path / "other", seed=1), max_shard_size="60KB")
    for file in (other / part).glob("*model*"):
        shutil.copy(file, folder / part)
    base, model = find_base(str(folder)), load(find_base(str(folder)), CPU)
    loaded = {"unet": model.unet, "text_encoder": model.encoders["clip_l"].module}[part]
    of_shards = CLASSES[part].from_pretrained(other / part)
    took_shards = torch.equal(*(next(iter(one.state_dict().values())) for one in (loaded, of_shards)))
    single = next(file for file in (folder / part).glob("*model.safetensors"))
    data = bytearray(single.read_bytes())
    data[-1] ^= 1
    single.write_bytes(data)
    assert (find_base(str(folder)).digest == base.digest) == took_shards


def test_the_digest_changes_with_a_weight_of_a_shard_and_a_missing_one_is_named(folder: Path) -> None:
    saved_anew(folder, max_shard_size="60KB")
    before = find_base(str(folder)).digest
    shard = sorted((folder / "unet").glob("*-00001-of-*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert find_base(str(folder)).digest != before
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        find_base(str(folder))


NAMES_NONE = ['{"weight_map": {}}', '{"weight_map": {"a": "../up.safetensors"}}', '{"weight_map": {"a": 3}}']


@pytest.mark.parametrize("index", ["{half", "[]", "{}", *NAMES_NONE])
def test_a_damaged_index_is_named(folder: Path, index: str) -> None:
    saved_anew(folder, max_shard_size="60KB")
    file = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    file.write_text(index)
    with pytest.raises(InputError, match="is damaged") as error:
        find_base(str(folder))
    assert str(file) in str(error.value)


def test_pickled_weights_are_not_read_and_said_so(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(InputError, match=r"\.bin, a format that can run code.*safetensors") as error:
        find_base(str(folder))
    assert str(folder / "unet") in str(error.value)


# --- the hub and its cache --------------------------------------------------------------------------------------------


class Hub:
    """A hub in folders: commits of repositories, and a main branch that moves. What is brought goes into a real cache
    of huggingface_hub's, which reads it back itself."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.commits, self.main = cache, dict[str, Path](), ""
        self.brought: list[str] = []
        self.down = False
        self._cached = huggingface_hub.snapshot_download

    def push(self, folder: Path) -> str:
        commit = f"{len(self.commits) + 1:040x}"
        self.commits[commit], self.main = folder, commit
        return commit

    def snapshot_download(
        self, repository: str, revision: str | None = None, allow_patterns: Any = None, local_files_only: bool = False
    ) -> str:
        if local_files_only:
            return self._cached(repository, revision=revision, allow_patterns=allow_patterns, local_files_only=True)
        commit = self._commit(revision)
        at = self.cache / f"models--{repository.replace('/', '--')}"
        for file in self._files(commit):
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                target = at / "snapshots" / commit / file
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(self.commits[commit] / file, target)
                    self.brought.append(file)
        (at / "refs").mkdir(parents=True, exist_ok=True)
        (at / "refs" / (revision or "main")).write_text(commit)
        return str(at / "snapshots" / commit)

    def list_repo_files(self, repository: str, revision: str | None = None) -> list[str]:
        return self._files(self._commit(revision))

    def _commit(self, revision: str | None) -> str:
        if self.down:
            raise OfflineModeIsEnabled("no network")
        return revision if revision in self.commits else self.main

    def _files(self, commit: str) -> list[str]:
        root = self.commits[commit]
        return [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file()]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.list_repo_files", lambda _api, *given, **named: hub.list_repo_files(*given, **named)
    )
    return hub


def test_a_hub_name_brings_the_full_weights_once_and_then_asks_nobody(hub: Hub, pristine: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(pristine / "sdxl", tmp_path / "both"))
    saved_anew(both, dtype=torch.float16, variant="fp16", keep=True)
    shutil.copytree(pristine / "sdxl", both, dirs_exist_ok=True)
    (both / "unet/diffusion_pytorch_model.bin").write_bytes(b"never")
    (both / "sd_xl.safetensors").write_bytes(b"never")
    hub.push(both)
    base = find_base("someone/tiny-xl")
    assert base.digest == find_base(str(pristine / "sdxl")).digest
    assert {file for file in hub.brought if not file.endswith((".json", ".txt"))} == {
        "text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    hub.down, hub.brought = True, []
    assert find_base("someone/tiny-xl") == base and not hub.brought


@pytest.mark.parametrize("how", [{"variant": "fp16"}, {"max_shard_size": "60KB"},
                                 {"variant": "fp16", "max_shard_size": "60KB"}])  # fmt: skip
def test_a_repository_of_variants_or_shards_alone_is_brought_whole(hub: Hub, folder: Path, how: dict[str, str]) -> None:
    hub.push(saved_anew(folder, **how))
    assert find_base("someone/tiny").digest == find_base(str(folder)).digest
    load(find_base("someone/tiny"), CPU)


def test_an_fp16_snapshot_in_the_cache_is_taken_as_it_is(hub: Hub, folder: Path) -> None:
    saved_anew(folder, dtype=torch.float16, variant="fp16", keep=True)  # the repository has both
    hub.push(folder)
    hub.snapshot_download("someone/tiny", allow_patterns=["*.json", "*.txt", "*.fp16.safetensors"])
    hub.brought.clear()
    base = find_base("someone/tiny")
    assert not hub.brought
    assert next(load(base, CPU).unet.parameters()).dtype == torch.float32


def test_a_single_file_s_configuration_is_completed_where_the_cache_has_a_part_of_it(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    repository = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    file = save_ldm(stock_pipeline(folder), tmp_path / "model.safetensors")
    hub.push(folder)
    hub.snapshot_download(repository, allow_patterns=["model_index.json", "unet/*"])
    assert find_base(str(file)).kind == "sd1"
    hub.down = True
    assert find_base(str(file)).kind == "sd1"
    assert not any(brought.startswith("vae/") and brought.endswith(".safetensors") for brought in hub.brought)


def test_what_the_cache_lacks_is_brought_and_offline_it_is_named(hub: Hub, folder: Path) -> None:
    hub.push(folder)
    hub.snapshot_download("someone/tiny", allow_patterns=["*.json", "*.txt", "unet/*"])
    hub.down = True
    with pytest.raises(InputError, match=r"not complete: there is no .*text_encoder/model\.safetensors"):
        find_base("someone/tiny")
    hub.down = False
    assert find_base("someone/tiny").digest == find_base(str(folder)).digest


def test_a_repository_that_moves_on_changes_nothing_until_its_revision_is_named(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    first = hub.push(folder)
    before = find_base("someone/tiny")
    second = hub.push(save_sd1(tmp_path / "moved", seed=1))
    assert find_base("someone/tiny") == before
    moved = find_base(f"someone/tiny@{second}")
    assert moved.digest != before.digest and moved.slug == before.slug == "tiny"
    pinned = find_base(f"someone/tiny@{first}")
    assert (pinned.digest, pinned.folder) == (before.digest, before.folder)
    hub.down = True
    assert find_base(f"someone/tiny@{first}") == pinned
    with pytest.raises(InputError, match=r"someone/tiny@v9 .*HF_HUB_OFFLINE is set"):
        find_base("someone/tiny@v9")


def test_a_fresh_machine_gets_the_pinned_weights_though_the_repository_moved(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    first = hub.push(folder)
    hub.push(save_sd1(tmp_path / "moved", seed=1))
    assert find_base(f"someone/tiny@{first}").digest == find_base(str(folder)).digest


@pytest.mark.parametrize(
    ("name", "slug"),
    [("someone/Tiny@0123abcd", "tiny"), ("someone/tiny@refs/pr/3", "tiny"), ("/models/a@b", "a-b"), ("./a/b@c", "b-c")],
)
def test_a_revision_is_no_part_of_the_slug_and_a_path_has_none(name: str, slug: str) -> None:
    assert base_slug(name) == slug


def test_a_gated_repository_says_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def gated(*_given: Any, **_named: Any) -> str:
        error = GatedRepoError.__new__(GatedRepoError)  # its own constructor wants a server's response
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", gated)
    with pytest.raises(InputError, match=r"licence is to be accepted on its page, and HF_TOKEN"):
        find_base("someone/gated")


def test_an_unsupported_repository_is_refused_before_its_weights_come(hub: Hub, folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="FluxPipeline")
    hub.push(folder)
    with pytest.raises(InputError, match="FLUX"):
        find_base("someone/flux")
    assert not any(file.endswith(".safetensors") for file in hub.brought)


# --- swapped parts ----------------------------------------------------------------------------------------------------


def test_a_swapped_vae_is_another_model_and_loads(folder: Path) -> None:
    before = find_base(str(folder)).digest
    torch.manual_seed(7)
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae") | {"scaling_factor": 0.5})
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    vae.save_pretrained(folder / "vae")
    base = find_base(str(folder))
    model = load(base, CPU)
    assert base.digest != before
    assert torch.equal(model.vae.encoder.conv_in.weight, vae.encoder.conv_in.weight)
    pictures = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.encode_pictures(pictures)[0], vae.encode(pictures).latent_dist.mean * 0.5)


def test_any_sampler_of_the_same_noise_may_lie_in_the_folder(folder: Path) -> None:
    before = load(find_base(str(folder)), CPU).noise
    for sampler in sorted(SCHEDULERS):
        edit(folder / "scheduler/scheduler_config.json", _class_name=sampler)
        find_base(str(folder))
    UniPCMultistepScheduler.from_pretrained(folder / "scheduler").save_pretrained(folder / "scheduler")
    after = load(find_base(str(folder)), CPU).noise
    assert torch.equal(before.alphas_cumprod, after.alphas_cumprod)


def test_the_samplers_are_those_that_diffusers_calls_compatible() -> None:
    assert {one.name for one in KarrasDiffusionSchedulers} - {"EDMEulerScheduler"} == SCHEDULERS


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("StableDiffusionInpaintPipeline", "inpainting model.*name the plain"),
        ("StableDiffusionXLInpaintPipeline", "inpainting model.*name the plain"),
        ("StableDiffusionXLImg2ImgPipeline", "refiner of SDXL.*stable-diffusion-xl-base"),
        ("LatentConsistencyModelPipeline", "distilled.*made from"),
        ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
        ("FluxPipeline", "FLUX"),
        ("FluxFillPipeline", "FLUX"),
        ("PixArtAlphaPipeline", r"PixArtAlphaPipeline\. That is not supported"),
    ],
)
def test_another_pipeline_is_refused_in_words(folder: Path, pipeline: str, words: str) -> None:
    edit(folder / "model_index.json", _class_name=pipeline)
    with pytest.raises(InputError, match=words):
        find_base(str(folder))


SCHEDULER, UNET, VAE = "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json"


@pytest.mark.parametrize(
    ("file", "settings", "words"),
    [
        (SCHEDULER, {"_class_name": "LCMScheduler"}, "distilled"),
        (SCHEDULER, {"_class_name": "TCDScheduler"}, "distilled"),
        (SCHEDULER, {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}, "distilled"),
        (SCHEDULER, {"_class_name": "EDMEulerScheduler"}, "adds noise in another way"),
        (SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "adds noise in another way"),
        (SCHEDULER, {"prediction_type": "sample"}, "predicts sample"),
        (UNET, {"time_cond_proj_dim": 256}, "distilled"),
        (UNET, {"in_channels": 9}, "9 channels.*inpainting"),
        (UNET, {"in_channels": 5}, "5 channels.*plain text-to-image"),
        (VAE, {"_class_name": "AutoencoderTiny"}, "AutoencoderTiny"),
        (VAE, {"latents_mean": [0.1] * 4, "latents_std": [0.9] * 4}, "each latent channel"),
    ],
)
def test_a_part_that_would_train_to_nonsense_is_refused(
    folder: Path, file: str, settings: dict[str, Any], words: str
) -> None:
    edit(folder / file, **settings)
    with pytest.raises(InputError, match=words) as error:
        find_base(str(folder))
    assert str(folder) in str(error.value)


def test_trailing_steps_alone_are_no_turbo(folder: Path) -> None:
    edit(folder / SCHEDULER, _class_name="DPMSolverMultistepScheduler", timestep_spacing="trailing")
    find_base(str(folder))
    edit(folder / SCHEDULER, _class_name="EulerDiscreteScheduler", prediction_type="v_prediction")
    find_base(str(folder))


@pytest.mark.parametrize(
    "name", ["sdxl-turbo", "sd_turbo", "DreamShaperXL_Turbo_v2", "modelXL_lightningDPMSDE", "my-LCM"]
)
def test_a_model_of_few_steps_is_told_by_its_name(folder: Path, name: str) -> None:
    called = folder.rename(folder.with_name(name))
    with pytest.raises(InputError, match=r"its name says that it is a model distilled.*give it another"):
        find_base(str(called))


@pytest.mark.parametrize("name", ["hyperrealism", "turbocharged-cars", "lcms"])
def test_names_that_only_look_so_are_taken(folder: Path, name: str) -> None:
    find_base(str(folder.rename(folder.with_name(name))))


def _inpainting(names: dict[str, torch.Tensor]) -> None:
    names["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(1, 9, 1, 1)


def _with(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda names: names.update({name: torch.zeros(1)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_inpainting, "an inpainting model"),
        (_with("conditioner.embedders.0.model.positional_embedding"), "the refiner of SDXL"),
        (_with("model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight"), "Stable Diffusion 3"),
        (_with("model.diffusion_model.double_blocks.0.img_attn.qkv.weight"), "a FLUX model"),
        (_with("double_blocks.0.img_attn.qkv.weight"), "a FLUX model"),
        (_with("lora_unet_down_blocks_0.lora_down.weight"), "is a LoRA"),
    ],
)
def test_a_single_file_of_another_kind_is_refused_in_words(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], words: str
) -> None:
    names = {"some.weight": torch.zeros(1)}
    change(names)
    save_file(names, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=words):
        find_base(str(tmp_path / "model.safetensors"))
