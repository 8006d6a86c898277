"""Writing label maps and pictures; a file appears whole or not at all."""

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.core.files import atomic_path
from atas_deploy.core.palette import VOID, VOID_COLOR

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
    more make a 16-bit grey PNG without colours, since palettes end at 256. The number of classes
    decides, not the labels that happen to occur, so that the files of one run are alike.

    Args:
        path: The file to create or replace.
        labels: (H, W) integers, each a row of the palette, or 255 for void with up to 254 classes.
        palette: (num_classes + 1, 3) uint8 RGB, row 0 the background.

    Raises:
        InputError: If a label has no colour.
        OutputError: If the file cannot be written.
    """
    num_classes = len(palette) - 1
    _check_labels(labels, num_classes=num_classes)
    if num_classes < VOID:
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
        OutputError: If the suffix is another one or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix != ".png" and suffix not in _JPEG_SUFFIXES:
        raise OutputError(f"cannot write {path}: name it .png or .jpg instead of {suffix!r}")
    options = _JPEG_OPTIONS if suffix in _JPEG_SUFFIXES else ()
    try:
        _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise OutputError(
            f"cannot write {path}: the encoder refused an image of shape {image.shape}"
        ) from error
    _write(path, data.data)


def _check_labels(labels: npt.NDArray[np.integer], *, num_classes: int) -> None:
    known = labels <= num_classes
    if num_classes < VOID:
        known |= labels == VOID
    if labels.ndim != 2 or not known.all() or labels.min(initial=0) < 0:
        raise InputError(
            f"a label map of shape {labels.shape} goes up to {labels.max(initial=0)}, expected "
            f"(height, width) and labels 0 to {num_classes}: give a palette with more rows"
        )


def _palette_256(palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    full = np.zeros((256, 3), np.uint8)
    full[: len(palette)] = palette
    full[VOID] = VOID_COLOR
    return full


def _write(path: Path, data: memoryview) -> None:
    with atomic_path(path) as part:
        part.write_bytes(data)
