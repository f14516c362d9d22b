"""Finding a base model and a judge on disk: what is accepted, and what the person with a damaged folder is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import save_sd1
from ti_core.backbone.folder import MINIATURE, check_class_word, check_safetensors, find_base, find_judge
from ti_core.errors import InputError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd1(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the tiny SD 1.x folder that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "Tiny_SD-1.x"))


def test_the_miniature_ships_with_the_package() -> None:
    base = find_base("miniature")
    assert (base.name, base.slug, base.kind, base.resolution) == ("miniature", "miniature", "miniature", 64)
    assert len(base.digest) == 64


def test_a_folder_is_described(folder: Path) -> None:
    base = find_base(str(folder))
    assert (base.slug, base.kind, base.resolution) == ("tiny-sd-1-x", "sd1", 16)
    assert (base.folder, base.prediction) == (str(folder.resolve()), "epsilon")


def test_the_digest_is_of_the_content_not_of_the_place(folder: Path, pristine: Path) -> None:
    (folder / "README.md").write_text("not used")
    assert find_base(str(folder)).digest == find_base(str(pristine)).digest


@pytest.mark.parametrize(
    "file",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ],
)
def test_the_digest_changes_with_a_single_weight(folder: Path, file: str) -> None:
    before = find_base(str(folder)).digest
    data = bytearray((folder / file).read_bytes())
    data[-1] ^= 1
    (folder / file).write_bytes(data)
    assert find_base(str(folder)).digest != before


@pytest.mark.parametrize("file", ["scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json"])
def test_the_digest_changes_with_settings_and_tokenizer(folder: Path, file: str) -> None:
    before = find_base(str(folder)).digest
    (folder / file).write_text((folder / file).read_text() + "\n")
    assert find_base(str(folder)).digest != before


def _remove(file: str) -> Callable[[Path], str]:
    def damage(folder: Path) -> str:
        (folder / file).unlink()
        return file

    return damage


def _truncate(file: str, keep: int) -> Callable[[Path], str]:
    def damage(folder: Path) -> str:
        (folder / file).write_bytes((folder / file).read_bytes()[:keep])
        return file

    return damage


def _write(file: str, text: str) -> Callable[[Path], str]:
    def damage(folder: Path) -> str:
        (folder / file).write_text(text)
        return file

    return damage


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    "damage",
    [
        _remove("model_index.json"),
        _remove("unet/config.json"),
        _remove(WEIGHTS),
        _remove("text_encoder/model.safetensors"),
        _remove("scheduler/scheduler_config.json"),
        _remove("tokenizer/vocab.json"),
        _remove("tokenizer/merges.txt"),
        _truncate(WEIGHTS, 100_000),
        _truncate(WEIGHTS, 50),
        _truncate(WEIGHTS, 3),
        _truncate("vae/diffusion_pytorch_model.safetensors", 0),
        _write("vae/config.json", "{half"),
        _write("model_index.json", "[]"),
        _write("model_index.json", ""),
        _write("unet/config.json", "{}"),
        _write("vae/config.json", '{"block_out_channels": 3}'),
        _write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167540\n"),
    ],
)
def test_a_damaged_folder_is_named_with_the_file(folder: Path, damage: Callable[[Path], str]) -> None:
    file = damage(folder)
    with pytest.raises(InputError) as error:
        find_base(str(folder))
    assert str(folder / file) in str(error.value)


def test_another_kind_of_pipeline_is_refused(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionInpaintPipeline"}))
    with pytest.raises(InputError, match=r"StableDiffusionInpaintPipeline.*not supported") as error:
        find_base(str(folder))
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "minature", ""])
def test_no_such_base_model(name: str) -> None:
    with pytest.raises(InputError, match="There is no base model"):
        find_base(name)


def test_a_hub_name_without_a_hub_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"nobody/nothing-of-this-name .*neither a folder here nor .* hub"):
        find_base("nobody/nothing-of-this-name")


def test_whole_safetensors_pass_and_a_byte_more_does_not(folder: Path) -> None:
    check_safetensors(folder / WEIGHTS)
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match="damaged or cut short"):
        check_safetensors(folder / WEIGHTS)


@pytest.mark.parametrize("phrase", ["toy", "Toy", "small red toy"])
def test_class_words_the_base_model_knows(phrase: str, pristine: Path) -> None:
    check_class_word(phrase, find_base(str(pristine)))
    check_class_word(phrase, find_base("miniature"))


@pytest.mark.parametrize("phrase", ["small toyy", "toyy"])
def test_an_unknown_class_word_is_told_with_near_ones(phrase: str, pristine: Path) -> None:
    for name in (str(pristine), "miniature"):
        with pytest.raises(InputError, match=r"does not know the word 'toyy'. Did you mean toy"):
            check_class_word(phrase, find_base(name))


def test_a_class_word_like_no_other(pristine: Path) -> None:
    with pytest.raises(InputError, match=r"'qqqq'. Take a plainer word"):
        check_class_word("qqqq", find_base(str(pristine)))


def test_a_class_word_with_an_accent_is_looked_up_as_the_tokenizer_writes_it(folder: Path) -> None:
    # Byte-level vocabularies write é as Ã©.
    vocabulary = json.loads((folder / "tokenizer/vocab.json").read_text())
    (folder / "tokenizer/vocab.json").write_text(json.dumps(vocabulary | {"cafÃ©</w>": len(vocabulary)}))
    check_class_word("café", find_base(str(folder)))


def test_the_miniature_judges_itself_and_sd1_has_the_paper_s_judge() -> None:
    own = find_judge("", "miniature")
    assert own.location == f"local-dir:{MINIATURE / 'mini-clip'}" and len(own.digest) == 64
    assert find_judge("", "sd1").location == "ViT-B-32/openai"
    assert find_judge(str(MINIATURE / "mini-clip"), "sd1").digest == own.digest


def test_a_damaged_judge_is_named_with_the_file(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MINIATURE / "mini-clip", tmp_path / "clip"))
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cut short") as error:
        find_judge(str(folder), "miniature")
    assert str(weights) in str(error.value)
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(InputError, match=r"open_clip_config\.json"):
        find_judge(str(folder), "miniature")


def test_no_such_judge() -> None:
    with pytest.raises(InputError, match="/no/clip is no CLIP"):
        find_judge("/no/clip", "sd1")


def test_without_the_weights_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ti_core.backbone.folder.MINIATURE", None)
    for find in (lambda: find_base("miniature"), lambda: find_judge("", "miniature")):
        with pytest.raises(InputError, match="pip install pseudoword-miniature, or name another base model"):
            find()
