"""CVAT's "Segmentation mask 1.1": a zip of colour masks, as Pascal VOC has them.

    labelmap.txt                         name:red,green,blue:: of each class, background first
    SegmentationClass/NAME.png           each pixel in the colour of its class
    SegmentationObject/NAME.png          each class present in the colour of its object
    ImageSets/Segmentation/default.txt   the NAMEs, one a line

NAME is that of the image without suffix, sub-folders included; CVAT finds its images by it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO
from zipfile import ZIP_DEFLATED, ZipFile

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.core.files import atomic_path
from atas_deploy.core.palette import class_palette, void_label
from atas_deploy.media.formats.items import Labelled, LabelMap, read_labels
from atas_deploy.media.formats.names import UNPRINTABLE, safe_names
from atas_deploy.media.formats.rows import open_aside

_FORBIDDEN = f"^\\s*#|[:{UNPRINTABLE}]"  # "#" begins a comment, ":" ends a field
_LONGEST_LABEL = 64  # that CVAT allows
_BACKGROUND = "background"
_MOST_OBJECTS = 255  # colours that CVAT's reader knows
_FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def write_cvat(
    path: Path, items: Iterable[Labelled], names: Sequence[str], *, palette: npt.NDArray[np.uint8]
) -> None:
    """Write masks that CVAT imports as "Segmentation mask 1.1".

    The zip's own directory is held in memory: a kilobyte an image.

    Args:
        path: The zip file to create or replace.
        items: The images; consumed once, held one at a time.
        names: The classes.
        palette: (C + 1, 3) uint8 RGB; a colour used twice, or black, is replaced the second time.

    Raises:
        InputError: If a label map cannot be read.
        OutputError: If the file cannot be written.
    """
    colors = _distinct(palette)
    with (
        atomic_path(path) as part,
        open_aside(path) as listed,
        ZipFile(part, "w") as archive,
    ):
        archive.writestr("labelmap.txt", _label_map(names, colors), ZIP_DEFLATED)
        for item in items:
            _add(archive, item, colors, listed)
        listed.seek(0)
        with archive.open("ImageSets/Segmentation/default.txt", "w") as out:
            out.writelines(line.encode() for line in listed)


def cvat_labels(names: Sequence[str]) -> list[str]:
    """Name classes so that CVAT can hold them: the labels that a task or project must have.

    ":" and control characters become "_", as does "#" at the beginning; longer names end after 64
    characters; what is no longer unique, or is called "background", ends in _2, _3 and so on.
    """
    return safe_names(names, forbidden=_FORBIDDEN, longest=_LONGEST_LABEL, taken=[_BACKGROUND])


def _label_map(names: Sequence[str], colors: npt.NDArray[np.uint8]) -> str:
    labels = [_BACKGROUND, *cvat_labels(names)]
    lines = [
        f"{label}:{red},{green},{blue}::\n"
        for label, (red, green, blue) in zip(labels, colors.tolist(), strict=True)
    ]
    return "# label:color_rgb:parts:actions\n" + "".join(lines)


def _distinct(palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Replace colours that an earlier row has; the background is black, as CVAT has it."""
    colors = [(0, 0, 0), *map(tuple, palette[1:].tolist())]
    spare = iter(map(tuple, class_palette(min(2 * len(colors), 65_534)).tolist()))
    wanted, seen = set(colors), set()
    for i, color in enumerate(colors):
        if color in seen:
            colors[i] = next(other for other in spare if other not in wanted)
            wanted.add(colors[i])
        seen.add(colors[i])
    return np.array(colors, np.uint8)


def _add(archive: ZipFile, item: Labelled, colors: npt.NDArray[np.uint8], listed: TextIO) -> None:
    """Add the masks of an image, and its name to the list."""
    [name] = safe_names([item.name], forbidden=f"^\\s*#|[{UNPRINTABLE}]")
    labels = read_labels(item)
    classes = np.where(labels == void_label(len(colors) - 1), labels.dtype.type(0), labels)
    if (highest := int(classes.max(initial=0))) >= len(colors):
        raise InputError(
            f"The label map of {item.name} goes up to {highest}, expected at most "
            f"{len(colors) - 1}, the number of classes: make it again with --force"
        )
    archive.writestr(f"SegmentationClass/{name}.png", _png(classes, colors))
    objects = _objects(classes)
    if objects is not None:
        archive.writestr(f"SegmentationObject/{name}.png", _png(objects, _voc_colors()))
    listed.write(name + "\n")


def _objects(classes: LabelMap) -> npt.NDArray[np.uint8] | None:
    """Number the classes present from 1, since objects have few colours; None if too many."""
    present = np.flatnonzero(np.bincount(classes.ravel(), minlength=1)[1:]) + 1
    if len(present) > _MOST_OBJECTS:
        return None  # CVAT then takes each class for an object
    numbers = np.zeros(int(present.max(initial=0)) + 1, np.uint8)
    numbers[present] = np.arange(1, len(present) + 1)
    return numbers[classes]


def _png(indices: LabelMap, colors: npt.NDArray[np.uint8]) -> bytes:
    """Paint an index map (H, W) in colours (N, 3) RGB."""
    _, data = cv2.imencode(".png", colors[:, ::-1][indices], _FAST)
    return data.tobytes()


def _voc_colors() -> npt.NDArray[np.uint8]:
    """(256, 3) uint8 RGB: Pascal VOC's colours, the bits of the index dealt out in turn."""
    indices = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((indices >> 3 * bit + channel & 1) << 7 - bit).astype(np.uint8)
    return colors
