"""What a command would take: told of what is here by counting and a probe, of what is on the hub by its listing."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from tests.tiny import save_sd1
from ti_core.backbone.folder import MINIATURE
from ti_core.backbone.hub import UnreachableError
from ti_core.backbone.resident import resident
from ti_core.config import ConceptSpec, EvaluationConfig, TrainingConfig
from ti_core.errors import InputError
from ti_core.forecast import forecast, forecast_from_afar, still_to_come
from ti_core.planning.batch import BatchItem
from ti_core.settings import Settings
from ti_core.stations import plan
from ti_core.store import open_store
from ti_core.training import pack
from ti_core.works import Asked

MOSS = ConceptSpec(name="moss", pictures="examples/concepts/moss", class_word="toy")
GB = 10**9


def _size(file: Path) -> int:
    return file.stat().st_size


def test_a_list_is_counted_and_timed_and_nothing_is_written(tmp_path: Path) -> None:
    base = save_sd1(tmp_path / "models" / "tiny")
    settings = Settings(
        home=tmp_path / "home", device="cpu", clip=str(MINIATURE / "mini-clip"), allowed_roots=(Path.cwd(), tmp_path)
    )  # fmt: skip
    asked = Asked(
        TrainingConfig(steps=4, batch_size=2, accumulation=3, checkpoint_every=2),
        EvaluationConfig(seeds=2, sampler_steps=2), base_model=str(base),
    )  # fmt: skip
    items = [BatchItem("moss", MOSS), BatchItem("bad", None, "its table row names no pictures")]
    found = forecast(plan(items, asked, settings, open_store(settings)), settings)
    assert not settings.home.exists()
    assert found.concepts == ("moss",) and found.failed == (("bad", "its table row names no pictures"),)
    assert found.effort and found.effort.samples == 4 * 2 * 3 and found.effort.checkpoints == 2
    assert found.memory and found.memory.weights == pytest.approx(sum(map(_size, base.rglob("*.safetensors"))), rel=0.1)
    assert found.memory.samples == (found.memory.free - found.memory.weights) // found.memory.sample
    assert found.rates and (found.rates.device, found.rates.dtype) == ("cpu", "float32")
    seconds = found.as_json()["training_seconds"]
    assert seconds == pytest.approx(24 / found.rates.samples_per_second) and found.judging_seconds
    assert 0 < found.disk < 10**8 < found.disk_free and not found.download


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A hub that has one repository, of this pipeline, and an empty cache."""

    def has(pipeline: str = "", error: Exception | None = None, cached: Path | None = None) -> None:
        sizes = {
            "model_index.json": 600, "unet/diffusion_pytorch_model.safetensors": 5 * GB, "vae/config.json": 400,
            "vae/diffusion_pytorch_model.safetensors": GB, "text_encoder/model.safetensors": GB,
            "text_encoder_2/model.safetensors.index.json": 0, "text_encoder_2/model-00001-of-00002.safetensors": GB,
            "text_encoder_2/model-00002-of-00002.safetensors": GB, "text_encoder_2/model.fp16.safetensors": GB,
            "sd_xl_base_1.0.safetensors": 7 * GB, "picture.png": 10**6,
        }  # fmt: skip

        def model_info(_: object, repository: str, revision: str | None, files_metadata: bool) -> Any:
            if error:
                raise error
            assert (repository, revision, files_metadata) == ("owner/model", None, True)
            files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
            return SimpleNamespace(config={"diffusers": {"_class_name": pipeline}}, siblings=files)

        def snapshot(*_: object, local_files_only: bool, **__: object) -> str:
            assert local_files_only, "nothing is brought"
            if cached is None:
                raise FileNotFoundError("not in the cache")
            return str(cached)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)

    return has


def test_of_a_hub_model_that_is_not_here_the_download_is_told(hub: Callable[..., None], tmp_path: Path) -> None:
    hub("StableDiffusionXLPipeline")
    assert still_to_come("owner/model") == ("sdxl", 9 * GB + 1000)
    asked = Asked(base_model="owner/model")
    items = [BatchItem("moss", MOSS), BatchItem("bad", None, "no pictures")]
    found = forecast_from_afar(items, asked, "sdxl", 9 * GB, Settings(home=tmp_path))
    assert found.effort and (found.effort.samples, found.effort.checkpoints) == (2000, 5)
    assert found.download == 9 * GB and found.failed == (("bad", "no pictures"),)
    assert found.memory is found.rates is None


def test_what_is_here_is_not_asked_for(hub: Callable[..., None], tmp_path: Path) -> None:
    hub(error=AssertionError("asked"), cached=save_sd1(tmp_path / "snapshot"))
    assert [still_to_come(name) for name in ("miniature", str(tmp_path), "./model.safetensors", "owner/model")] == [
        None, None, None, None,
    ]  # fmt: skip


def test_a_snapshot_that_lacks_its_weights_is_still_to_come(hub: Callable[..., None], tmp_path: Path) -> None:
    """Configurations come first: where a download was stopped then, looking ahead must not go on with it."""
    begun = save_sd1(tmp_path / "snapshot")
    (begun / "unet/diffusion_pytorch_model.safetensors").unlink()
    hub("StableDiffusionPipeline", cached=begun)
    assert still_to_come("owner/model") == ("sd1", 7 * GB + 1000)


def test_the_probe_makes_passes_smaller_where_they_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that holds one sample, recomputed: the time is told all the same, and the model is left as it was."""
    settings = Settings(
        home=tmp_path / "home", device="cpu", clip=str(MINIATURE / "mini-clip"), allowed_roots=(Path.cwd(), tmp_path)
    )
    asked = Asked(
        TrainingConfig(steps=4, batch_size=4), EvaluationConfig(seeds=2, sampler_steps=2),
        base_model=str(save_sd1(tmp_path / "models" / "tiny")),
    )  # fmt: skip
    stock, tried = pack.losses_of, list[tuple[int, bool]]()

    def small(slots: Any, drawn: Any, model: Any, *rest: Any) -> Any:
        tried.append((slots[0].samples, model.recomputes))
        if tried[-1] != (1, True):
            raise RuntimeError("MPS backend out of memory")
        return stock(slots, drawn, model, *rest)

    monkeypatch.setattr(pack, "losses_of", small)
    works = plan([BatchItem("moss", MOSS)], asked, settings, open_store(settings))
    found = forecast(works, settings)
    assert found.rates and found.rates.samples_per_second > 0
    assert tried[:4] == [(4, False), (2, False), (1, False), (1, True)]
    with resident(works[0].planned.base, "cpu", precision="") as model:
        assert not model.recomputes


def test_a_hub_that_does_not_say_and_a_model_of_another_kind_are_told(hub: Callable[..., None]) -> None:
    library = HfHubHTTPError.__bases__[0]
    kinds = {one for one in library.__subclasses__() if not issubclass(one, OSError)}
    assert kinds
    for error in (OSError("no route"), *(kind.__new__(kind) for kind in kinds)):  # of which connecting fails with one
        hub(error=error)
        with pytest.raises(UnreachableError, match="owner/model is neither a folder here nor to be had from the hub"):
            still_to_come("owner/model")
    hub("FluxPipeline")
    with pytest.raises(InputError, match="FluxPipeline: a FLUX model"):
        still_to_come("owner/model")
    hub("")
    with pytest.raises(InputError, match="a model that names no pipeline"):
        still_to_come("owner/model")
