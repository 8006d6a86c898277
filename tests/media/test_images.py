"""Tests of reading still images."""

import os
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import AvifImagePlugin, Image, ImageOps, features

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import decode_image, is_image, read_image

FORMATS = ["png", "jpg", "bmp", "tiff", "webp", "gif"]
AVIF = ["avif"] if features.check("avif") else []
ORIENTATION = 0x0112


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
    exif[ORIENTATION] = 6  # must be turned clockwise
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(noise(), -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", *AVIF])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, 0), (2, 1), (3, 3), (4, 2), (5, 0), (6, 1), (7, 3), (8, 2)],
)
def test_every_orientation(tmp_path: Path, suffix: str, orientation: int, corner: int) -> None:
    """In every format, what is stored in the upper left corner comes out where EXIF says."""
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:16, :32] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif)
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == ((64, 32, 3) if orientation > 4 else (32, 64, 3))
    corners = [image[y, x, 0] for y in (4, -4) for x in (4, -4)]
    assert [value > 128 for value in corners] == [number == corner for number in range(4)]


def test_unreadable_metadata_is_no_damage(tmp_path: Path) -> None:
    """EXIF data that Pillow gives up on leaves the picture as it is stored."""
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=b"Exif\0\0not a TIFF header")
    with Image.open(tmp_path / "a.png") as image, pytest.raises(SyntaxError):
        ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), noise())


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


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_colour_is_scaled(tmp_path: Path, suffix: str) -> None:
    """Deep colour keeps its upper eight bits."""
    deep = noise().astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), noise())


def test_16_bit_of_the_other_byte_order(tmp_path: Path) -> None:
    """A big-endian TIFF gives the same as any other."""
    deep = np.array([[0, 257, 32768, 65535]], np.uint16)
    image = Image.frombytes("I;16B", (4, 1), deep.astype(">u2").tobytes())
    image.save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff")[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_tiff(tmp_path: Path, mode: str) -> None:
    """Whatever a picture is stored as, white comes out white and black black."""
    image = Image.new("RGB", (8, 16), "white")
    image.paste("black", (0, 8, 8, 16))
    if mode == "LAB":
        image = Image.merge("LAB", [image.getchannel(0), *[Image.new("L", (8, 16), 128)] * 2])
    elif mode == "PA":
        image = image.convert("P")
    (image if mode == "LAB" else image.convert(mode)).save(tmp_path / "a.tiff")
    read = read_image(tmp_path / "a.tiff")
    assert read[:8].min() >= 254
    assert read[8:].max() <= 1


def test_first_page_counts(tmp_path: Path) -> None:
    """A TIFF of several pages gives the first, whatever the others are."""
    pages = [Image.fromarray(noise()), Image.new("L", (500, 500)), Image.new("CMYK", (8, 8))]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff"), noise())


@pytest.mark.skipif(not AVIF, reason="this Pillow has no AVIF decoder")
def test_avif(tmp_path: Path) -> None:
    """AVIF is read where Pillow can."""
    smooth = cv2.resize(noise(4, 6), (60, 40), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).save(tmp_path / "a.avif", quality=95, subsampling="4:4:4")
    difference = read_image(tmp_path / "a.avif").astype(int) - smooth
    assert np.abs(difference).mean() < 2


def test_avif_without_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pillow was built without AVIF, the message says what the file is."""
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x1cftypavif" + bytes(100))
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(InputError, match=r"a\.avif is AVIF, which cannot be read here: convert"):
        read_image(tmp_path / "a.avif")


def test_heic(tmp_path: Path) -> None:
    """Photos of phones that Pillow cannot read are named as such."""
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic" + bytes(100))
    with pytest.raises(InputError, match="is HEIC, which cannot be read here: convert it to PNG"):
        read_image(tmp_path / "a.heic")


def test_programs_are_not_run(tmp_path: Path) -> None:
    """PostScript named like an image is refused, as decoding it would run it."""
    Image.fromarray(noise()).save(tmp_path / "a.png", format="EPS")
    with pytest.raises(InputError, match="not an image that can be read here"):
        read_image(tmp_path / "a.png")


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


@pytest.mark.parametrize("suffix", [*FORMATS, *AVIF])
def test_truncated_files_are_errors(tmp_path: Path, suffix: str) -> None:
    """A file cut in the middle is never read as half a picture."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"damaged"):
        read_image(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_content_is_decoded_as_a_file_is(tmp_path: Path, suffix: str) -> None:
    """Whatever the format."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(200, 200)).save(path)
    content = path.read_bytes()
    image = decode_image(content, name="b")
    np.testing.assert_array_equal(image, read_image(path))
    assert image.flags.writeable
    with pytest.raises(InputError, match=r"^b is damaged"):
        decode_image(content[: len(content) // 2], name="b")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not an image that can be read here: convert"),
        (b"\0\0\0\x1cftypheic" + bytes(100), "HEIC, which cannot"),
    ],
)
def test_content_that_is_no_image_is_named(content: bytes, reason: str) -> None:
    """As the caller calls it."""
    with pytest.raises(InputError, match=rf"^s\.tar:a\.png is {reason}"):
        decode_image(content, name="s.tar:a.png")


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


def test_threads_decode_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads are inside the decoder at once, and leave the warning filters as they were."""
    Image.fromarray(noise()).save(tmp_path / "a.png")
    both = threading.Barrier(2)
    real = Image.Image.getexif

    def wait(image: Image.Image) -> Image.Exif:
        both.wait(timeout=60)
        return real(image)

    monkeypatch.setattr(Image.Image, "getexif", wait)
    before = list(warnings.filters)
    threads = [threading.Thread(target=read_image, args=(tmp_path / "a.png",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken
    assert warnings.filters == before


def test_large_pictures_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are converted in bands; none is lost, and few rows make a band."""
    monkeypatch.setattr("atas_deploy.media.images._BAND_PIXELS", 7 * 60)
    Image.fromarray(noise()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), noise())


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png", "x" * 5_000 + ".png"])
def test_impossible_names(name: str) -> None:
    """A name that no file can have is a file that cannot be read."""
    with pytest.raises(InputError, match="cannot be read"):
        read_image(name)


def test_empty_file(tmp_path: Path) -> None:
    """A file of zero bytes is called empty."""
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"^\S+ is empty \(0 bytes\), expected an image: [^:]+$"):
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


@pytest.mark.parametrize("value", [5.0, -1.0, 0.5])
def test_even_deep_grey_is_no_damage(tmp_path: Path, value: float) -> None:
    """A picture of one value, in range or not, is a picture."""
    Image.fromarray(np.full((3, 4), value, np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").shape == (3, 4, 3)
