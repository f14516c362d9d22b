"""The DreamBooth data set's text: classes, two lists of prompts, and what is told when it is damaged."""

from pathlib import Path

import pytest

from ti_core.errors import InputError
from ti_core.planning.batch import read_batch
from ti_core.planning.dreambench import FILE, read_dreambench
from ti_core.settings import Settings

DATA = Path(__file__).parents[4] / "shared/data/dreambench"
TEXT = """Classes

subject_name,class
duck_toy,toy
cat2,cat
grey_sloth_plushie,stuffed animal

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in a chef outfit'.format(unique_token, class_token)
]
"""


def write(folder: Path, text: str = TEXT) -> Settings:
    (folder / FILE).write_text(text)
    return Settings(home=folder / "home", allowed_roots=(folder,))


def test_classes_and_both_lists_of_prompts_are_read(tmp_path: Path) -> None:
    data = read_dreambench(str(tmp_path), write(tmp_path))
    assert data is not None
    assert data.classes == {"duck_toy": "toy", "cat2": "cat", "grey_sloth_plushie": "stuffed animal"}
    assert data.prompts("duck-toy", "animal") == data.prompts("mine", "toy") == ("a {} in the jungle", "a red {}")
    assert data.prompts("cat2", "kitten") == data.prompts("rex", "Dog") == ("a {} in a chef outfit",)


def test_a_folder_without_the_text_is_none_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    settings = write(tmp_path, "Classes\n\nduck_toy,toy\n")
    with pytest.raises(InputError, match=f"{FILE} is damaged"):
        read_dreambench(str(tmp_path), settings)
    (tmp_path / FILE).write_bytes(b"Classes\n\xff")
    with pytest.raises(InputError, match="no UTF-8"):
        read_batch(str(tmp_path), "thing", settings)
    (tmp_path / FILE).unlink()
    assert read_dreambench(str(tmp_path), settings) is None


def test_a_batch_of_the_data_set_takes_its_classes_and_makes_names_of_its_folders(tmp_path: Path) -> None:
    settings = write(tmp_path)
    for name in ("duck_toy", "cat2", "unknown"):
        (tmp_path / name).mkdir()
    (tmp_path / "cat2" / "concept.toml").write_text('class_word = "kitten"\n')
    items = read_batch(str(tmp_path), "thing", settings)
    assert {item.name: item.spec and item.spec.class_word for item in items} == {
        "cat2": "kitten", "duck-toy": "toy", "unknown": "thing"
    }  # fmt: skip


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the DreamBooth data set is not at {DATA}")
def test_the_published_text_has_thirty_subjects_and_twenty_five_prompts_of_both_kinds() -> None:
    data = read_dreambench(str(DATA), Settings(allowed_roots=(DATA,)))
    assert data is not None
    assert len(data.classes) == 30 and data.classes["fancy_boot"] == "boot"
    for prompts in (data.objects, data.live):
        assert len(set(prompts)) == 25 and all(prompt.count("{}") == 1 for prompt in prompts)
    assert "a {} wearing a red hat" in data.live and "a {} wearing a red hat" not in data.objects
