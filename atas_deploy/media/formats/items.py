"""What formats of a whole run are made from: one labelled image at a time, read when needed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngImageFile

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import check_readable

LabelMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_DTYPES = {"P": np.uint8, "L": np.uint8, "I;16": np.uint16}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image (or video frame) of a run and its label map.

    Attributes:
        name: Where its results lie, relative to the output folder and without suffix.
        image: The image's file name or path, as it should appear in the format.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        labels: Reads the label map, (H, W) uint8 or uint16; called once for each format.
        classes: What is present, as in results.jsonl: id, name, score and area.
    """

    name: str
    image: str
    height: int
    width: int
    labels: Callable[[], LabelMap]
    classes: list[dict[str, Any]]


def read_label_png(path: Path) -> LabelMap:
    """Read a label map that `write_label_png` wrote.

    Args:
        path: A palette or grey PNG of 8 bits, or a grey one of 16.

    Returns:
        (H, W) uint8 or uint16; 0 background, 1 to C classes, the highest value void.

    Raises:
        InputError: If the file is missing, damaged, or no label map.
    """
    check_readable(path, kind="a label map")
    try:
        with path.open("rb") as file:
            # Not Image.open, which refuses large pictures: a run has handled this one before.
            PngImageFile(file).verify()  # check sums; reading the pixels checks none
            file.seek(0)
            with PngImageFile(file) as image:
                mode, labels = image.mode, np.array(image)
    except SyntaxError as error:  # so does Pillow say that the first bytes are others
        raise _foreign(path, "is no PNG") from error
    except Exception as error:  # damaged data makes Pillow's decoders raise almost anything
        raise InputError(
            f"{path} is damaged or cut off ({error}): make it again with --force"
        ) from error
    if mode not in _DTYPES:
        raise _foreign(path, f"is a PNG of mode {mode}")
    return labels.astype(_DTYPES[mode], copy=False)


def _foreign(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} {what}, expected a label map (8-bit palette or 16-bit grey PNG): "
        "name a .labels.png file of a run"
    )


def read_labels(item: Labelled) -> LabelMap:
    """Read the label map of an item, (H, W).

    Raises:
        InputError: If its size is not that of the image.
    """
    labels = item.labels()
    if labels.shape != (item.height, item.width):
        raise InputError(
            f"The label map of {item.name} has shape {labels.shape}, expected "
            f"{(item.height, item.width)} as in the results: make it again with --force"
        )
    return labels


def class_masks(
    labels: LabelMap, classes: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.uint8]]]:
    """Yield the classes that have pixels, each with its (H, W) mask of 0 and 1.

    The memory order is that of the labels, so that Fortran-ordered ones suit pycocotools.
    """
    for entry in classes:
        mask = labels == entry["id"]
        if mask.any():
            yield entry, mask.view(np.uint8)
