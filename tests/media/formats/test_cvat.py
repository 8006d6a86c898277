"""Tests of CVAT's masks, read by the layout that its documentation gives."""

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.core.palette import class_palette
from atas_deploy.media.formats import write_cvat
from atas_deploy.media.formats.cvat import cvat_labels

# The first colours of Pascal VOC's published table.
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]


def label_map(archive: ZipFile) -> dict[tuple[int, int, int], str]:
    """Read labelmap.txt: names by colour."""
    found = {}
    for line in archive.read("labelmap.txt").decode().splitlines():
        if not line.startswith("#"):
            name, color, parts, actions = line.split(":")
            assert not parts
            assert not actions
            red, green, blue = map(int, color.split(","))
            assert (red, green, blue) not in found
            found[red, green, blue] = name
    return found


def picture(archive: ZipFile, name: str) -> npt.NDArray[np.uint8]:
    """Read a PNG of the archive, (H, W, 3) RGB."""
    with Image.open(io.BytesIO(archive.read(name))) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def test_masks_come_back(tmp_path: Path, items, maps, names) -> None:
    """Each image's colours stand, by labelmap.txt, for its label map."""
    write_cvat(tmp_path / "cvat.zip", items(), names, palette=class_palette(4))
    with ZipFile(tmp_path / "cvat.zip") as archive:
        colors = label_map(archive)
        assert list(colors.values()) == ["background", *names]
        listed = archive.read("ImageSets/Segmentation/default.txt").decode().splitlines()
        assert listed == list(maps)
        for name, labels in maps.items():
            painted = picture(archive, f"SegmentationClass/{name}.png")
            back = np.full(labels.shape, 99)
            for i, color in enumerate(colors):
                back[(painted == color).all(axis=2)] = i
            np.testing.assert_array_equal(back, labels)


def test_objects_are_the_classes_present(tmp_path: Path, items, maps, names) -> None:
    """Object n has VOC's nth colour and covers exactly the nth class that is present."""
    write_cvat(tmp_path / "cvat.zip", items(), names, palette=class_palette(4))
    with ZipFile(tmp_path / "cvat.zip") as archive:
        for name, labels in maps.items():
            painted = picture(archive, f"SegmentationObject/{name}.png")
            present = [0, *(i for i in np.unique(labels).tolist() if i)]
            for number, i in enumerate(present):
                np.testing.assert_array_equal((painted == VOC[number]).all(axis=2), labels == i)


def test_void_is_background(tmp_path: Path, items) -> None:
    """Void pixels, which CVAT does not know, are background."""
    void = {"a": np.array([[255, 1]], np.uint8)}
    write_cvat(tmp_path / "cvat.zip", items(void), ["dog"], palette=class_palette(1))
    with ZipFile(tmp_path / "cvat.zip") as archive:
        painted = picture(archive, "SegmentationClass/a.png")
    assert painted.tolist() == [[[0, 0, 0], class_palette(1)[1].tolist()]]


def test_labels_without_a_class_are_refused(tmp_path: Path, items) -> None:
    """A label map of another run, with more classes, is an error and leaves no file."""
    other = {"a": np.array([[3]], np.uint8)}
    with pytest.raises(InputError, match="label map of a goes up to 3, expected at most 1"):
        write_cvat(tmp_path / "cvat.zip", items(other), ["dog"], palette=class_palette(1))
    assert not list(tmp_path.iterdir())


def test_more_objects_than_colours(tmp_path: Path, items) -> None:
    """Beyond 255 classes in an image there is no object mask; classes keep their own colours."""
    many = {"a": np.arange(300, dtype=np.uint16).reshape(15, 20)}
    names = [f"class {i}" for i in range(1, 300)]
    write_cvat(tmp_path / "cvat.zip", items(many, names), names, palette=class_palette(299))
    with ZipFile(tmp_path / "cvat.zip") as archive:
        assert len(label_map(archive)) == 300
        assert "SegmentationObject/a.png" not in archive.namelist()
        painted = picture(archive, "SegmentationClass/a.png")
    np.testing.assert_array_equal(painted.reshape(-1, 3), class_palette(299))


def test_colours_are_made_unique(tmp_path: Path, items) -> None:
    """A class that shares its colour, or is black, gets another; the first keeps its own."""
    palette = np.array([[9, 9, 9], [1, 2, 3], [1, 2, 3], [0, 0, 0]], np.uint8)
    write_cvat(tmp_path / "cvat.zip", items({}), ["a", "b", "c"], palette=palette)
    with ZipFile(tmp_path / "cvat.zip") as archive:
        colors = label_map(archive)
    assert len(colors) == 4
    assert (colors[0, 0, 0], colors[1, 2, 3]) == ("background", "a")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a:b", "a_b", "a\nb"], ["a_b", "a_b_2", "a_b_3"]),
        (["#1", " #1"], ["_1", "_1_2"]),
        (["background", "dog"], ["background_2", "dog"]),
        (["x" * 5_000, "x" * 4_999], ["x" * 64, "x" * 62 + "_2"]),
        (["犬😀", "\x00", "\udcff"], ["犬😀", "_", "__2"]),
    ],
)
def test_names_that_cvat_cannot_hold(names: list[str], labels: list[str]) -> None:
    """Forbidden characters, comments, long, reserved and equal names are changed predictably."""
    assert cvat_labels(names) == labels


def test_odd_file_names(tmp_path: Path, items) -> None:
    """Line ends, comment signs and bytes that are no UTF-8 do not break the list of images."""
    odd = {"#a": np.ones((1, 1), np.uint8), "b\nc": np.ones((1, 1), np.uint8)}
    odd["\udcff"] = np.ones((1, 1), np.uint8)
    write_cvat(tmp_path / "cvat.zip", items(odd), ["dog"], palette=class_palette(1))
    with ZipFile(tmp_path / "cvat.zip") as archive:
        listed = archive.read("ImageSets/Segmentation/default.txt").decode().splitlines()
        assert listed == ["_a", "b_c", "_"]
        assert {f"SegmentationClass/{name}.png" for name in listed} <= set(archive.namelist())
