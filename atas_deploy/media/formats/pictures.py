"""Writing label maps and pictures; a file appears whole or not at all."""

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.core.files import atomic_path
from atas_deploy.core.palette import MAX_CLASSES_8_BIT, VOID_8_BIT, VOID_COLOR, void_label

JPEG_MAX_SIDE = 65_500
"""The most pixels that JPEG can hold in a row or a column; PNG takes a million."""

_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif"})
_JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY,
    92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,  # keeps coloured contours crisp
)


def write_label_png(
    path: Path, labels: npt.NDArray[np.integer], palette: npt.NDArray[np.uint8]
) -> None:
    """Write a label map that both people and programs can read.

    Up to 254 classes make an 8-bit palette PNG, whose index is the label and where 255 is void;
    more make a 16-bit grey PNG without colours, since palettes end at 256, where 65,535 is void.
    The number of classes decides, not the labels that happen to occur, so that the files of one
    run are alike.

    Args:
        path: The file to create or replace.
        labels: (H, W) integers, each a row of the palette or void, see `void_label`.
        palette: (num_classes + 1, 3) uint8 RGB, row 0 the background.

    Raises:
        InputError: If a label has no colour.
        OutputError: If the file cannot be written.
    """
    num_classes = len(palette) - 1
    _check_labels(labels, num_classes=num_classes)
    if num_classes <= MAX_CLASSES_8_BIT:
        image = Image.fromarray(labels.astype(np.uint8)).convert("P")
        image.putpalette(_palette_256(palette).tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    _write(path, buffer.getbuffer())


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write a picture as PNG or JPEG, by the suffix of the name.

    Args:
        path: The file to create or replace.
        image: (H, W, 3) uint8 RGB.

    Raises:
        OutputError: If the suffix is another one, a side is longer than `JPEG_MAX_SIDE` in a JPEG,
            or the file cannot be written.
    """
    suffix = path.suffix.lower()
    is_jpeg = suffix in _JPEG_SUFFIXES
    if suffix != ".png" and not is_jpeg:
        raise OutputError(f"Cannot write {path}: name it .png or .jpg instead of {suffix!r}")
    if is_jpeg and max(image.shape) > JPEG_MAX_SIDE:
        raise OutputError(
            f"Cannot write {path}: a side of {max(image.shape)} pixels is more than the "
            f"{JPEG_MAX_SIDE} that JPEG can hold: name it .png"
        )
    try:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(suffix, bgr, _JPEG_OPTIONS if is_jpeg else ())
    except cv2.error as error:
        raise _refused(path, image) from error
    if not done:
        raise _refused(path, image)
    _write(path, data.data)


def _refused(path: Path, image: npt.NDArray[np.uint8]) -> OutputError:
    return OutputError(f"Cannot write {path}: the encoder refused an image of shape {image.shape}")


def _check_labels(labels: npt.NDArray[np.integer], *, num_classes: int) -> None:
    known = labels.max(initial=0) <= num_classes  # as it mostly is, and quickly told
    if not known:
        known = bool(((labels <= num_classes) | (labels == void_label(num_classes))).all())
    if labels.ndim != 2 or not known or labels.min(initial=0) < 0:
        raise InputError(
            f"A label map of shape {labels.shape} goes up to {labels.max(initial=0)}, expected "
            f"(height, width) and labels 0 to {num_classes}: give a palette with more rows"
        )


def _palette_256(palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    full = np.zeros((256, 3), np.uint8)
    full[: len(palette)] = palette
    full[VOID_8_BIT] = VOID_COLOR
    return full


def _write(path: Path, data: memoryview) -> None:
    with atomic_path(path) as part:
        part.write_bytes(data)
