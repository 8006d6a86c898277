"""Label maps in folders of PNGs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.classes import parse_classes
from atas_deploy.core.errors import AnnotationError, ConfigError, InputError
from atas_deploy.evaluation.label_folder import LabelFolder
from atas_deploy.evaluation.label_values import read_label_values
from atas_deploy.evaluation.truth import VOID

VALUES = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)


def write(folder: Path, name: str, values: np.ndarray) -> None:
    """A grey picture, and its labels as a PNG."""
    for kind in ("images", "labels"):
        (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
    grey = Image.new("RGB", values.shape[::-1], "grey")
    grey.save(folder / "images" / f"{name}.jpg")
    Image.fromarray(values).save(folder / "labels" / f"{name}.png")


def read(folder: Path, *, classes: int = 3, **settings: object) -> list[np.ndarray]:
    """The label maps of a folder that `write` filled."""
    truth = LabelFolder(folder / "images", folder / "labels", **settings)
    return [example.labels((2, 3), classes=classes) for example in truth]


def test_first_label_one(tmp_path: Path) -> None:
    """Value 1 is class 1, 0 is background and 255 void."""
    write(tmp_path, "a", VALUES)
    np.testing.assert_array_equal(read(tmp_path)[0], [[0, 1, 2], [3, VOID, 1]])


def test_first_label_zero(tmp_path: Path) -> None:
    """Value 0 is class 1, and there is no background."""
    write(tmp_path, "a", VALUES)
    found = read(tmp_path, first_label=0, classes=4)[0]
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, VOID, 2]])
    assert not LabelFolder(tmp_path / "images", tmp_path / "labels", first_label=0).has_background


def test_other_values_can_be_ignored(tmp_path: Path) -> None:
    """Any number of them, also 0 and those of classes."""
    write(tmp_path, "a", VALUES)
    found = read(tmp_path, ignore=(0, 255, 3))[0]
    np.testing.assert_array_equal(found, [[VOID, 1, 2], [VOID, VOID, 1]])


def test_16_bits(tmp_path: Path) -> None:
    """A thousand classes and more."""
    write(tmp_path, "a", np.array([[0, 999, 65535], [1200, 1, 2]], np.uint16))
    found = read(tmp_path, classes=1203, ignore=(65535,))[0]
    np.testing.assert_array_equal(found, [[0, 999, VOID], [1200, 1, 2]])


def test_palette_counts_by_index(tmp_path: Path) -> None:
    """Not by its colours."""
    write(tmp_path, "a", VALUES)
    picture = Image.fromarray(VALUES).convert("P")
    picture.putdata(VALUES.ravel().tolist())
    picture.putpalette([255 - i // 3 for i in range(768)])
    picture.save(tmp_path / "labels" / "a.png")
    np.testing.assert_array_equal(read(tmp_path)[0], [[0, 1, 2], [3, VOID, 1]])


def test_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    """With the file, and what is the last one."""
    write(tmp_path, "a", VALUES)
    with pytest.raises(
        AnnotationError, match=r"a\.png has the value 3, .*the last is 2; .*--label-values"
    ):
        read(tmp_path, classes=2)


def test_zero_based_labels_have_no_value_beyond(tmp_path: Path) -> None:
    """The number of classes itself is one too many."""
    write(tmp_path, "a", VALUES)
    with pytest.raises(AnnotationError, match=r"the value 3, .* from value 0 on the last is 2"):
        read(tmp_path, classes=3, first_label=0)


def test_another_size_is_named(tmp_path: Path) -> None:
    """Both sizes, in one sentence."""
    write(tmp_path, "a", VALUES)
    (example,) = LabelFolder(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(AnnotationError, match=r"a\.jpg are 2 x 3 pixels .* picture is 4 x 3"):
        example.labels((4, 3), classes=3)


def test_pairs_are_matched_below_folders(tmp_path: Path) -> None:
    """By their path without suffix; pictures without labels are left out and counted."""
    for name in ("city/b", "a", "c"):
        write(tmp_path, name, VALUES)
    (tmp_path / "labels" / "c.png").unlink()
    truth = LabelFolder(tmp_path / "images", tmp_path / "labels")
    assert [example.name for example in truth] == ["a", "city/b"]
    assert truth.facts()["pictures_without_labels"] == 1


def test_endings_of_names(tmp_path: Path) -> None:
    """As Cityscapes has them."""
    write(tmp_path, "x_gtFine_labelTrainIds", VALUES)
    images = tmp_path / "images"
    (images / "x_gtFine_labelTrainIds.jpg").rename(images / "x_leftImg8bit.jpg")
    truth = LabelFolder(
        images,
        tmp_path / "labels",
        image_suffix="_leftImg8bit",
        label_suffix="_gtFine_labelTrainIds",
    )
    assert [(example.name, example.image.name) for example in truth] == [("x", "x_leftImg8bit.jpg")]


def test_names_of_a_split(tmp_path: Path) -> None:
    """Only those listed, in that order; the first few of them with a limit."""
    for name in ("a", "b", "c"):
        write(tmp_path, name, VALUES)
    split = tmp_path / "val.txt"
    split.write_text("c\n\nb\n")
    folders = tmp_path / "images", tmp_path / "labels"
    assert [e.name for e in LabelFolder(*folders, names=split)] == ["c", "b"]
    assert [e.name for e in LabelFolder(*folders, names=split, limit=1)] == ["c"]
    split.write_text("d\n")
    with pytest.raises(InputError, match=r'val\.txt names "d", which has no labels'):
        LabelFolder(*folders, names=split)


def test_labels_without_picture_are_left_out(tmp_path: Path) -> None:
    """And counted; folders that do not belong together are refused."""
    for name in "abc":
        write(tmp_path, name, VALUES)
    (tmp_path / "images" / "b.jpg").unlink()
    (tmp_path / "labels" / "c.png").unlink()
    folders = tmp_path / "images", tmp_path / "labels"
    truth = LabelFolder(*folders)
    assert [example.name for example in truth] == ["a"]
    facts = truth.facts()
    assert (facts["images_missing"], facts["pictures_without_labels"]) == (1, 1)
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"None of the 2 pictures of .*labels is in .*images"):
        LabelFolder(*folders)


@pytest.mark.parametrize("names", [None, ("sky", "tree|bush")])
def test_label_values(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    """Sparse ones mean the classes of a list or, without one, the names of the file."""
    write(tmp_path, "a", np.array([[0, 90, 13], [255, 17, 90]], np.uint8))
    file = tmp_path / "values.csv"
    file.write_text("value,class\n90,sky\n13,tree\n0,background\n")
    values = read_label_values(file, None if names is None else parse_classes(names))
    found = read(tmp_path, values=values, classes=2)[0]
    np.testing.assert_array_equal(found, [[0, 1, 2], [VOID, VOID, 1]])
    truth = LabelFolder(tmp_path / "images", tmp_path / "labels", values=values)
    assert truth.class_names == (("sky", "tree") if names is None else None)
    assert truth.has_background
    assert truth.facts()["label_values"] == str(file)


def test_labels_by_number_and_synonym(tmp_path: Path) -> None:
    """Numbers count from 1; several values may mean one class."""
    file = tmp_path / "values.csv"
    file.write_text("value,class\n7,2\n8,Bush\n9,sky\n10,0\n")
    values = read_label_values(file, parse_classes("sky,tree|bush"))
    assert values.labels == {7: 2, 8: 2, 9: 1, 10: 0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,name\n1,sky\n", "no columns value and class"),
        ("value,class\n", "names no value"),
        ("value,class\n1,sky\n1,tree\n", "line 3 names the value 1 twice"),
        ("value,class\n1,sea\n", 'line 2 has the class "sea", .* --classes .* 0 to 2'),
        ("value,class\n1,3\n", 'line 2 has the class "3"'),
        ("value,class\n-1,sky\n", 'line 2 has the value "-1"'),
        ("value,class\n70000,sky\n", "expected a number from 0 to 65535"),
        ("value,class\n1\n", 'the class ""'),
    ],
)
def test_label_values_that_cannot_be_used(tmp_path: Path, text: str, sentence: str) -> None:
    """One sentence each, with the file."""
    file = tmp_path / "values.csv"
    file.write_text(text)
    with pytest.raises(AnnotationError, match=rf"values\.csv.*{sentence}"):
        read_label_values(file, parse_classes("sky,tree"))


@pytest.mark.parametrize("settings", [{"first_label": 2}, {"ignore": (-1,)}, {"ignore": (70_000,)}])
def test_settings_that_mean_nothing(tmp_path: Path, settings: dict[str, object]) -> None:
    """Are refused."""
    write(tmp_path, "a", VALUES)
    with pytest.raises(ConfigError):
        read(tmp_path, **settings)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    """One sentence each."""
    write(tmp_path, "a", VALUES)
    with pytest.raises(InputError, match="no folder"):
        LabelFolder(tmp_path / "nowhere", tmp_path / "labels")
    with pytest.raises(InputError, match="images holds no PNGs; check"):
        LabelFolder(tmp_path / "labels", tmp_path / "images")
    with pytest.raises(InputError, match='holds no images whose names end in "_left"'):
        LabelFolder(tmp_path / "images", tmp_path / "labels", image_suffix="_left")
