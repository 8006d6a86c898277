"""Tests of reading label maps back."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.core.palette import class_palette
from atas_deploy.media.formats import Labelled, read_label_png, write_label_png
from atas_deploy.media.formats.items import read_labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that Hypothesis may reuse."""
    return tmp_path_factory.mktemp("labels")


@settings(deadline=None, max_examples=30)
@given(data=st.data(), num_classes=st.sampled_from([1, 254, 255, 65_534]))
def test_reading_inverts_writing(folder: Path, data: st.DataObject, num_classes: int) -> None:
    """Any label map, void included, comes back in the type that its classes need."""
    dtype, void = (np.uint8, 255) if num_classes < 255 else (np.uint16, 65_535)
    values = st.integers(0, num_classes) | st.just(void)
    shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
    labels = data.draw(hnp.arrays(dtype, shape, elements=values))
    write_label_png(folder / "a.png", labels, class_palette(num_classes))
    back = read_label_png(folder / "a.png")
    np.testing.assert_array_equal(back, labels)
    assert back.dtype == dtype


def test_grey_pngs_of_other_programs(tmp_path: Path) -> None:
    """An 8-bit grey PNG is a label map too."""
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    cv2.imwrite(str(tmp_path / "a.png"), labels)
    np.testing.assert_array_equal(read_label_png(tmp_path / "a.png"), labels)


def test_large_maps_are_read(tmp_path: Path) -> None:
    """The limit that Pillow puts on foreign pictures does not hold for label maps."""
    labels = np.zeros((9_000, 20_001), np.uint8)
    labels[-1, -1] = 1
    write_label_png(tmp_path / "a.png", labels, class_palette(1))
    assert read_label_png(tmp_path / "a.png")[-1, -1] == 1


def test_missing_and_empty_files(tmp_path: Path) -> None:
    """What is not there, or empty, is one sentence."""
    with pytest.raises(InputError, match="does not exist, expected a label map"):
        read_label_png(tmp_path / "a.png")
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="is empty"):
        read_label_png(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_coloured_pngs_are_foreign(tmp_path: Path, mode: str) -> None:
    """A picture instead of a label map is refused with its kind."""
    Image.new(mode, (4, 3)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"PNG of mode {mode}, expected a label map"):
        read_label_png(tmp_path / "a.png")


def test_other_formats_are_foreign(tmp_path: Path) -> None:
    """A JPEG with the suffix of a PNG is refused."""
    Image.new("L", (4, 3)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(InputError, match=r"is no PNG.*name a \.labels\.png"):
        read_label_png(tmp_path / "a.png")


@pytest.fixture(scope="module")
def png(folder: Path) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Give a label map as file and as array."""
    labels = np.random.default_rng(0).integers(0, 4, (40, 40)).astype(np.uint8)
    write_label_png(folder / "b.png", labels, class_palette(3))
    return (folder / "b.png").read_bytes(), labels


@settings(deadline=None, max_examples=100)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bits_are_noticed(
    folder: Path, png: tuple[bytes, npt.NDArray[np.uint8]], where: float, bit: int
) -> None:
    """After one flipped bit the file is an error, or reads the same: never other labels."""
    data = bytearray(png[0])
    data[int(where * len(data))] ^= 1 << bit
    (folder / "c.png").write_bytes(data)
    try:
        labels = read_label_png(folder / "c.png")
    except InputError:
        return
    np.testing.assert_array_equal(labels, png[1])


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 0.99))
def test_cut_files_are_noticed(
    folder: Path, png: tuple[bytes, npt.NDArray[np.uint8]], share: float
) -> None:
    """A file cut off anywhere is an error."""
    (folder / "c.png").write_bytes(png[0][: int(share * len(png[0]))])
    with pytest.raises(InputError):
        read_label_png(folder / "c.png")


def test_maps_of_another_size_are_refused() -> None:
    """A label map that does not fit its image is an error that states both sizes."""
    item = Labelled("a", "a.jpg", 3, 4, lambda: np.zeros((4, 3), np.uint8), [])
    with pytest.raises(InputError, match=r"shape \(4, 3\), expected \(3, 4\)"):
        read_labels(item)
