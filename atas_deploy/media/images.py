"""Reading still images as 8-bit RGB, whatever they are on disk.

Conventions: the EXIF orientation is applied; transparent parts are laid over white, as a web page
would show them; 16-bit grey is scaled to 8 bits; colour profiles are ignored, as CLIP's training
did; of an animation or a multi-page file the first picture counts. A damaged file is an error:
nothing is ever filled in with grey.
"""

import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from atas_deploy.core.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
MAX_PIXELS = 178_000_000
"""Default limit; Pillow itself refuses more than 178,956,970 pixels."""

_FULL_16_BIT = 65_535
_filters_lock = threading.Lock()


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Read an image file as upright 8-bit RGB.

    Args:
        path: The file.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        InputError: If the file is missing, empty, unreadable, too large, damaged or no image.
    """
    with _open(path, max_pixels=max_pixels) as image:
        try:
            with _warnings_ignored():
                image.load()
                upright = ImageOps.exif_transpose(image)
            return np.array(_to_rgb(upright))
        except MemoryError as error:
            raise _no_memory(path) from error
        except Exception as error:  # damaged data makes Pillow's decoders raise almost anything
            raise InputError(
                f"{path} is damaged or cut off ({error}): copy it again or leave it out"
            ) from error


def is_image(path: Path) -> bool:
    """Tell from its first bytes whether Pillow takes a file for an image."""
    try:
        with _open(path, max_pixels=MAX_PIXELS):
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
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder, expected {kind}: name a file inside it")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            raise InputError(
                f"{path} is a pipe, socket or device, expected {kind}: save it to a file first"
            )
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty (0 bytes), expected {kind}: copy it again")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist, expected {kind}: check the path") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}), expected {kind}: "
            "check the path and its permissions"
        ) from error


@contextmanager
def _open(path: Path, *, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image and check its size; its pixels are not decoded yet."""
    check_readable(path, kind="an image")
    try:
        with _warnings_ignored():
            image = Image.open(path)
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not an image that can be read here: convert it to PNG or JPEG"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, max_pixels=max_pixels) from error
    except MemoryError as error:
        raise _no_memory(path) from error
    except Exception as error:  # a damaged header, see read_image
        raise InputError(f"{path} is damaged ({error}): copy it again or leave it out") from error
    with image:
        if image.width * image.height > max_pixels:
            raise _too_large(path, max_pixels=max_pixels)
        yield image


@contextmanager
def _warnings_ignored() -> Iterator[None]:
    """Mute Pillow: our own size limit is stated instead, and bad metadata harms no pixel.

    The lock keeps two reading threads from restoring each other's warning filters.
    """
    with _filters_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _too_large(path: Path, *, max_pixels: int) -> InputError:
    return InputError(
        f"{path} has more than {max_pixels / 1e6:g} million pixels, the limit: "
        "scale it down or cut it into pieces"
    )


def _no_memory(path: Path) -> InputError:
    return InputError(
        f"{path} does not fit in memory: scale it down, cut it into pieces or free some memory"
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Scale deep grey values: [0, 1] floats and 16-bit integers by their range, others min-max."""
    grey = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    full = 1.0 if np.issubdtype(values.dtype, np.floating) else float(_FULL_16_BIT)
    if low >= 0 and high <= full:
        low, high = 0.0, full
    scaled: npt.NDArray[np.uint8] = np.rint((grey - low) * (255 / (high - low))).astype(np.uint8)
    return scaled
