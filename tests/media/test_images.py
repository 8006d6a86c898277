"""Tests of reading still images."""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import MAX_PIXELS, is_image, read_image

FORMATS = ["png", "jpg", "bmp", "tiff", "webp", "gif"]


def noise(height: int = 40, width: int = 60) -> npt.NDArray[np.uint8]:
    """Make a picture whose parts are all needed: (H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_lossless_formats_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    """Pixels come back as they were, in RGB, writable."""
    Image.fromarray(noise()).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(image, noise())
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert image.flags.c_contiguous


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """A photo marked as lying on its side is stood up."""
    exif = Image.Exif()
    exif[0x0112] = 6  # must be turned clockwise
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(noise(), -1))


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    """Clear pixels become white, half-clear ones half white."""
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), expected, atol=1)


def test_transparent_palette_is_laid_over_white(tmp_path: Path) -> None:
    """A palette entry declared clear becomes white."""
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png").tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_grey_becomes_rgb(tmp_path: Path) -> None:
    """A grey image has three equal channels."""
    Image.fromarray(noise()[..., 0]).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], noise()[..., 0])


def test_bilevel_becomes_black_and_white(tmp_path: Path) -> None:
    """One bit a pixel becomes 0 and 255."""
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    """The full 16-bit range maps to the full 8-bit range."""
    deep = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([-1.0, 0.0, 3.0], [0, 64, 255]),
        ([0.0, np.nan, 1.0], [0, 0, 255]),
    ],
)
def test_float_images_are_scaled(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    """Floats in [0, 1] keep their scale, others are stretched; holes are black."""
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff")[0, :, 0].tolist() == expected


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    """Ink colours come out as light colours."""
    red = np.full((16, 16, 4), (0, 255, 255, 0), np.uint8)
    Image.frombytes("CMYK", (16, 16), red.tobytes()).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[8, 8], [255, 0, 0], atol=6)


def test_first_picture_of_an_animation_counts(tmp_path: Path) -> None:
    """An animated GIF gives its first frame."""
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", FORMATS)
def test_truncated_files_are_errors(tmp_path: Path, suffix: str) -> None:
    """A file cut in the middle is never read as half a picture."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"damaged"):
        read_image(path)


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(InputError, match=r"a\.png does not exist"):
        read_image(tmp_path / "a.png")


def test_folder(tmp_path: Path) -> None:
    """A folder is not an image."""
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_pipe(tmp_path: Path) -> None:
    """A pipe is refused, since opening one waits for a writer that may never come."""
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match="is a pipe, socket or device, expected an image: save"):
        read_image(tmp_path / "a.png")


def test_bad_metadata_is_no_damage(tmp_path: Path) -> None:
    """Pillow's warning about broken EXIF data stops nothing, even where warnings are errors."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x0f\x01\x02\0\xff\0\0\0\xff\xff"
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=exif)
    with pytest.warns(UserWarning, match="EXIF"), Image.open(tmp_path / "a.jpg") as image:
        ImageOps.exif_transpose(image)
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)


@pytest.mark.parametrize("step", ["open", "fromarray"])
def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A picture that memory cannot hold is not called damaged."""
    Image.fromarray(noise()[..., 0].astype(np.uint16)).save(tmp_path / "a.png")

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, step, fail)
    with pytest.raises(InputError, match="does not fit in memory: scale"):
        read_image(tmp_path / "a.png")


def test_empty_file(tmp_path: Path) -> None:
    """A file of zero bytes is called empty."""
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"empty \(0 bytes\)"):
        read_image(tmp_path / "a.png")


def test_text_file(tmp_path: Path) -> None:
    """A text named like an image is no image."""
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(InputError, match="not an image"):
        read_image(tmp_path / "a.png")
    assert not is_image(tmp_path / "a.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    """A file without read permission says so."""
    (tmp_path / "a.png").write_text("hello")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(InputError, match="its permissions"):
        read_image(tmp_path / "a.png")


def test_denied_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is reported with its reason."""
    (tmp_path / "a.png").write_text("hello")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"Permission denied.*its permissions"):
        read_image(tmp_path / "a.png")


def png_header(width: int, height: int) -> bytes:
    """Make a PNG that announces a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        length, checksum = len(data), zlib.crc32(kind + data)
        return struct.pack(">I", length) + kind + data + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_500, 30_000])
def test_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    """A header that announces too many pixels is enough to refuse, without a warning."""
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    assert side * side > MAX_PIXELS
    with pytest.raises(InputError, match="more than 178 million pixels"):
        read_image(tmp_path / "a.png")


def test_large_photos_raise_no_warning(tmp_path: Path) -> None:
    """Between Pillow's warning and our limit only the missing data is complained about."""
    (tmp_path / "a.png").write_bytes(png_header(10_000, 10_000))
    with pytest.raises(InputError, match="damaged"):
        read_image(tmp_path / "a.png")


def test_limit_can_be_lowered(tmp_path: Path) -> None:
    """The caller may allow fewer pixels."""
    Image.fromarray(noise()).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"0\.002 million"):
        read_image(tmp_path / "a.png", max_pixels=2_000)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data(), suffix=st.sampled_from(FORMATS))
def test_damaged_files_raise_nothing_else(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    """Whatever bytes are flipped or lost, a picture or an InputError comes out."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise()).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(st.integers(0, min(len(content), 400) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with suppress(InputError):
        assert read_image(path, max_pixels=1_000_000).ndim == 3
