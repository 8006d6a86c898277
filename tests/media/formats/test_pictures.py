"""Tests of writing label maps and pictures."""

import errno
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.core.palette import VOID_COLOR, class_palette
from atas_deploy.media.formats import JPEG_MAX_SIDE, write_image, write_label_png
from atas_deploy.media.images import read_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that Hypothesis may reuse."""
    return tmp_path_factory.mktemp("labels")


@settings(deadline=None, max_examples=40)
@given(data=st.data(), num_classes=st.sampled_from([1, 12, 254, 255, 256, 65_534]))
def test_labels_come_back(folder: Path, data: st.DataObject, num_classes: int) -> None:
    """Any label map reads back as itself, whatever its type."""
    shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)
    labels = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, num_classes)))
    write_label_png(folder / "a.png", labels, class_palette(num_classes))
    with Image.open(folder / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), labels)


@pytest.mark.parametrize(("num_classes", "mode"), [(1, "P"), (254, "P"), (255, "I;16")])
def test_number_of_classes_decides_the_depth(tmp_path: Path, num_classes: int, mode: str) -> None:
    """Up to 254 classes make a palette PNG, more a 16-bit one, even if few labels occur."""
    write_label_png(tmp_path / "a.png", np.ones((2, 2), np.uint8), class_palette(num_classes))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode


@pytest.mark.parametrize(("num_classes", "void"), [(254, 255), (255, 65_535), (65_534, 65_535)])
def test_void_is_the_highest_value(tmp_path: Path, num_classes: int, void: int) -> None:
    """Void is 255 in 8-bit maps and 65,535 in 16-bit ones, and comes back."""
    write_label_png(tmp_path / "a.png", np.array([[void]]), class_palette(num_classes))
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image).tolist() == [[void]]


def test_viewers_show_the_colours(tmp_path: Path) -> None:
    """As a picture, a label map shows the palette; void is whitish."""
    palette = class_palette(3)
    write_label_png(tmp_path / "a.png", np.array([[0, 3, 255]], np.uint8), palette)
    shown = read_image(tmp_path / "a.png")
    assert shown.tolist() == [[[0, 0, 0], palette[3].tolist(), list(VOID_COLOR)]]


@pytest.mark.parametrize(("label", "num_classes"), [(3, 2), (-1, 2), (300, 299)])
def test_labels_without_a_colour_are_refused(tmp_path: Path, label: int, num_classes: int) -> None:
    """A label that the palette does not have is an error, and no file is left."""
    with pytest.raises(InputError, match=f"labels 0 to {num_classes}"):
        write_label_png(tmp_path / "a.png", np.array([[label]]), class_palette(num_classes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "tolerance"), [("a.png", 0), ("a.PNG", 0), ("a.jpg", 8)])
def test_pictures_come_back(tmp_path: Path, name: str, tolerance: int) -> None:
    """PNG is exact and JPEG close, colours in place."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24] = (250, 30, 60)
    write_image(tmp_path / name, image)
    difference = np.abs(read_image(tmp_path / name).astype(int) - image)
    assert difference.max() <= tolerance


@pytest.mark.parametrize("name", ["a", "a.tif", "a.mp4"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    """A suffix without an encoder is an error that names those there are."""
    with pytest.raises(OutputError, match=r"\.png or \.jpg"):
        write_image(tmp_path / name, np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 1_000_001, 3)])
def test_what_the_encoder_refuses_is_our_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A picture without pixels, or too long even for PNG, is an error that states its shape."""
    with pytest.raises(OutputError, match=f"of shape {re.escape(str(shape))}"):
        write_image(tmp_path / "a.png", np.zeros(shape, np.uint8))


def test_pictures_too_long_for_jpeg_are_refused(tmp_path: Path) -> None:
    """JPEG ends at 65,500 pixels, which the message says with the cure; PNG goes on."""
    longest = np.zeros((2, JPEG_MAX_SIDE, 3), np.uint8)
    write_image(tmp_path / "a.jpg", longest)
    longer = np.zeros((JPEG_MAX_SIDE + 1, 2, 3), np.uint8)
    write_image(tmp_path / "a.png", longer)
    with pytest.raises(OutputError, match=r"65501 pixels is more than the 65500 .* name it \.png"):
        write_image(tmp_path / "b.jpg", longer)


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up, the message says so and the old file is whole."""
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    before = (tmp_path / "a.png").read_bytes()

    def fill(self: Path, _data: object) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OutputError, match="disk is full"):
        write_image(tmp_path / "a.png", np.full((4, 4, 3), 9, np.uint8))
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_jpeg_keeps_thin_coloured_lines(tmp_path: Path) -> None:
    """A red line of one pixel stays red: chroma is not subsampled."""
    image = np.full((32, 32, 3), 128, np.uint8)
    cv2.line(image, (15, 0), (15, 31), (255, 0, 0))
    write_image(tmp_path / "a.jpg", image)
    red, green, blue = read_image(tmp_path / "a.jpg")[16, 15].tolist()
    assert red - max(green, blue) > 200
