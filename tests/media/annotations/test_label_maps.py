"""Label PNGs: values as written, regions by value."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import AnnotationError, InputError
from atas_deploy.media.annotations import Picture, open_masks, read_label_map
from atas_deploy.media.formats import write_label_png


def save(values: np.ndarray, path: Path, mode: str) -> Path:
    """Save values as a PNG of a mode."""
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    image.convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "P"])
def test_eight_bits(labels, mode: str, tmp_path: Path) -> None:
    """Grey values and palette indices come as they are."""
    found = read_label_map(save(labels, tmp_path / "one.png", mode), size=(6, 8))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


def test_sixteen_bits(tmp_path: Path) -> None:
    """Values above 255 come as they are."""
    values = np.array([[0, 1, 300], [40_000, 65_535, 0]], np.uint16)
    Image.fromarray(values).save(tmp_path / "one.png")
    found = read_label_map(tmp_path / "one.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, values)


def test_regions(write, labels) -> None:
    """Each value is one region, however many parts it has; 0 is none."""
    file = open_masks(write("masks/one.png", labels).parent)
    regions = file.regions(Picture("photos/one.jpg", (6, 8)))
    assert [region.source_id for region in regions] == [1, 2, 200]
    assert [region.box for region in regions] == [(0, 0, 8, 6), (1, 2, 5, 4), (7, 1, 8, 2)]
    for region in regions:
        np.testing.assert_array_equal(region.mask(), labels == region.source_id)
    assert file.class_names is None


@pytest.mark.parametrize(("mode", "found"), [("P", [1, 2, 200]), ("L", [1, 2, 200, 255])])
def test_void(labels, mode: str, found: list[int], tmp_path: Path) -> None:
    """255 is void with a palette, as in VOC, and a mask in grey, as many tools write it."""
    labels[4, 4] = 255
    file = open_masks(save(labels, tmp_path / "one.png", mode))
    assert [r.source_id for r in file.regions(Picture("one.jpg", (6, 8)))] == found


def test_black_and_white(labels, tmp_path: Path) -> None:
    """A mask of one bit is one region."""
    file = open_masks(save((labels == 2) * np.uint8(255), tmp_path / "one.png", "1"))
    (region,) = file.regions(Picture("one.jpg", (6, 8)))
    np.testing.assert_array_equal(region.mask(), labels == 2)


def test_results_of_a_run(tmp_path: Path, labels) -> None:
    """A folder of results has its label maps, and neither overlays nor other pictures."""
    for suffix in (".labels.png", ".overlay.png", ".png"):
        write_label_png(tmp_path / f"photo.2{suffix}", labels % 3, np.eye(3, dtype=np.uint8))
    file = open_masks(tmp_path)
    assert len(file.regions(Picture("photo.2.jpg", (6, 8)))) == 2
    assert file.unmatched() == []


def test_masks_of_a_video(write, labels) -> None:
    """Frame 12 of clip.mp4 is clip.masks/000012.png, also where that folder itself is named."""
    folder = write("out/clip.masks/000012.png", labels).parent
    write("out/other.masks/000012.png", labels * 0)
    for path in (folder, folder.parent):
        file = open_masks(path)
        assert len(file.regions(Picture("clips/clip.mp4", (6, 8), 12))) == 3
        assert file.regions(Picture("clips/clip.mp4", (6, 8), 13)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((6, 8, 3), np.uint8), "is a PNG of mode RGB, expected one number a pixel"),
        (np.zeros((6, 9), np.uint8), ": the label map is 9 x 6 pixels, while the picture is 8 x 6"),
        (b"", "is empty"),
        (b"GIF89a", "is no PNG"),
    ],
)
def test_bad_pngs(content: Any, message: str, write) -> None:
    """Each is one sentence that names the file."""
    path = write("one.png", content)
    with pytest.raises(InputError, match=f"{path}:? ?{message}"):
        open_masks(path).regions(Picture("one.jpg", (6, 8)))


def test_cut_off_png(write, labels) -> None:
    """Nothing is read in part."""
    data = write("one.png", labels).read_bytes()
    path = write("one.png", data[:-20])
    with pytest.raises(AnnotationError, match=f"{path} is (damaged or cut off|no PNG)"):
        read_label_map(path)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits(bits: int, tmp_path: Path) -> None:
    """Grey values of 1, 2 and 4 bits come as they are written, not spread to 255."""
    values = np.arange(32).reshape(4, 8) % 2**bits
    path = tmp_path / "one.png"
    path.write_bytes(grey_png(values, bits))
    np.testing.assert_array_equal(read_label_map(path), values)


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of few bits a value, written by hand; eight values fill whole bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    height, width = values.shape
    lines = ["".join(f"{value:0{bits}b}" for value in row) for row in values.tolist()]
    packed = [int(line, 2).to_bytes(width * bits // 8, "big") for line in lines]
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in packed))
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
