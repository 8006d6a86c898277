"""Reading still images as 8-bit RGB, whatever they are on disk.

Conventions: the EXIF orientation is applied; transparent parts are laid over white, as a web page
would show them; 16-bit channels are scaled to 8 bits; colour profiles are ignored, as CLIP's
training did; of an animation or a multi-page file the first picture counts. A damaged file is an
error: nothing is ever filled in with grey.
"""

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError, features

from atas_deploy.core.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What is taken for an image; HEIC too, so that it is refused with a cure, not overlooked."""

MAX_PIXELS = 178_000_000
"""The largest limit; Pillow itself refuses more than 178,956,970 pixels."""

# Pillow knows more, some of it without a signature, and would hand EPS to Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FULL_16_BIT = 65_535
_File = Path | io.BytesIO
_BAND_PIXELS = 1 << 22


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Read an image file as upright 8-bit RGB.

    Args:
        path: The file.
        max_pixels: Larger images are refused before they are decoded; at most `MAX_PIXELS`.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        InputError: If the file is missing, empty, unreadable, too large, damaged or no image.
    """
    path = Path(path)
    check_readable(path, kind="an image")
    return _read(path, str(path), max_pixels=max_pixels)


def decode_image(
    content: bytes, *, name: str, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Decode an image that was read from elsewhere, such as a tar file, as `read_image` does.

    Args:
        content: What its file holds.
        name: What messages call it.
        max_pixels: See `read_image`.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        InputError: If it is empty, too large, damaged or no image.
    """
    if not content:
        raise InputError(f"{name} is empty (0 bytes), expected an image: copy it again")
    return _read(io.BytesIO(content), name, max_pixels=max_pixels)


def is_image(path: Path) -> bool:
    """Tell from its first bytes whether Pillow takes a file for an image."""
    try:
        check_readable(path, kind="an image")
        with _open(path, str(path), max_pixels=MAX_PIXELS):
            return True
    except InputError:
        return False


def check_readable(path: Path, *, kind: str) -> None:
    """Refuse what no decoder should be asked to open.

    Args:
        path: The file.
        kind: What the caller expects, with its article, as in "an image".

    Raises:
        InputError: If the path is missing, a folder, a pipe or device, empty, or may not be read.
    """
    try:
        mode = path.stat().st_mode
        regular = stat.S_ISREG(mode)  # opening a pipe would wait for ever
        if regular:
            with path.open("rb") as file:
                empty = not file.read(1)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist, expected {kind}: check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} cannot be read ({reason}), expected {kind}: check the path and its permissions"
        ) from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder, expected {kind}: name a file inside it")
    if not regular:
        raise InputError(
            f"{path} is a pipe, socket or device, expected {kind}: save it to a file first"
        )
    if empty:
        raise InputError(f"{path} is empty (0 bytes), expected {kind}: copy it again")


def _read(file: _File, name: str, *, max_pixels: int) -> npt.NDArray[np.uint8]:
    with _open(file, name, max_pixels=max_pixels) as image:
        try:
            with _pillow_muted:
                image.load()
                upright = _upright(image)
            return _to_array(upright)
        except MemoryError as error:
            raise _no_memory(name) from error
        except Exception as error:  # damaged data makes Pillow's decoders raise almost anything
            raise InputError(
                f"{name} is damaged or cut off ({error}): copy it again or leave it out"
            ) from error


@contextmanager
def _open(file: _File, name: str, *, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image and check its size; its pixels are not decoded yet."""
    max_pixels = min(max_pixels, MAX_PIXELS)
    try:
        with _pillow_muted:
            image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise _unidentified(file, name) from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, max_pixels=max_pixels) from error
    except MemoryError as error:
        raise _no_memory(name) from error
    except Exception as error:  # a damaged header, see _read
        raise InputError(f"{name} is damaged ({error}): copy it again or leave it out") from error
    with image:
        if _pixels_to_decode(image) > max_pixels:
            raise _too_large(name, max_pixels=max_pixels)
        yield image


def _pixels_to_decode(image: Image.Image) -> int:
    """Count the pixels that decoding makes room for; a tile of a TIFF may outgrow the picture."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0)
    return max(image.width * image.height, int(tile))


class _PillowMuted:
    """Mutes Pillow: our own size limit is stated instead, and bad metadata harms no pixel.

    Filters are global: the first of several reading threads sets them, the last one restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._users += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._filters.__exit__(kind, error, trace)


_pillow_muted = _PillowMuted()


def _unidentified(file: _File, name: str) -> InputError:
    with file.open("rb") if isinstance(file, Path) else io.BytesIO(file.getvalue()) as opened:
        brand = _BRANDS.get(opened.read(12)[8:])
    if brand == "AVIF" and features.check("avif"):
        return InputError(f"{name} is a damaged AVIF image: copy it again or leave it out")
    what = f"{brand}, which cannot be" if brand else "not an image that can be"
    return InputError(f"{name} is {what} read here: convert it to PNG or JPEG")


def _too_large(name: str, *, max_pixels: int) -> InputError:
    return InputError(
        f"{name} has more than {max_pixels / 1e6:g} million pixels, the limit: "
        "scale it down or cut it into pieces"
    )


def _no_memory(name: str) -> InputError:
    return InputError(
        f"{name} does not fit in memory: scale it down, cut it into pieces or free some memory"
    )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; `ImageOps.exif_transpose` would give up on other bad metadata."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # what damaged metadata makes Pillow raise; the pixels are whole
        return image
    return image if turn is None else image.transpose(turn)


def _to_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Convert a decoded image to (H, W, 3) uint8 RGB, band by band: one copy is in memory."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        rgb[top:bottom] = np.asarray(_to_rgb(image.crop((0, top, width, bottom))))
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _to_8_bit(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Scale deep grey values: [0, 1] floats and 16-bit integers by their range, others min-max."""
    grey = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    full = 1.0 if np.issubdtype(values.dtype, np.floating) else float(_FULL_16_BIT)
    if (low >= 0 and high <= full) or low == high:
        low, high = min(low, 0.0), max(high, full)
    scaled: npt.NDArray[np.uint8] = np.rint((grey - low) * (255 / (high - low))).astype(np.uint8)
    return scaled
