"""Label PNGs: a number for each pixel.

H W pixels
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngImageFile

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.masks import label_rles, tight_box
from atas_deploy.media.annotations.matching import NamedEntries, files_below
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.images import check_readable

LabelMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_DTYPES = {"1": np.uint8, "P": np.uint8, "L": np.uint8, "I": np.uint16, "I;16": np.uint16}
_VOID = {"P": 255, "I": 65_535, "I;16": 65_535}
_BIT_DEPTH = 24  # where a PNG tells its bits a value
_SCALES = {("L", 2): 85, ("L", 4): 17}  # Pillow spreads grey values of few bits to 255
_OWN, _OVERLAY = ".labels.png", ".overlay.png"  # ends of the names that a run writes


def read_label_map(path: Path | str, size: Size | None = None) -> LabelMap:
    """Read a PNG of labels.

    Args:
        path: a palette or grey PNG of 1, 2, 4 or 8 bits, or a grey one of 16.
        size: (H, W) that it must have; None for any.

    Returns:
        (H, W) uint8 or uint16, the values as they are written, a palette's as indices.

    Raises:
        InputError: the file is missing or cannot be read.
        AnnotationError: it is damaged, no label map, or of another size.
    """
    return _read(Path(path), size)[1]


def read_png(path: Path, *, kind: str) -> tuple[str, npt.NDArray[Any]]:
    """Pillow's mode of a PNG, and its values: (H, W), or (H, W, channels).

    Raises:
        InputError: the file is missing or cannot be read.
        AnnotationError: it is damaged or no PNG.
    """
    check_readable(path, kind=kind)
    try:
        with path.open("rb") as file:
            # Not Image.open, which refuses large pictures: the picture itself was read before.
            PngImageFile(file).verify()  # check sums; reading the pixels checks none
            file.seek(0)
            with PngImageFile(file) as image:
                mode, pixels = image.mode, np.array(image)
            file.seek(_BIT_DEPTH)
            scale = _SCALES.get((mode, file.read(1)[0]))
            return mode, pixels // scale if scale else pixels
    except SyntaxError as error:  # so does Pillow say that the first bytes are others
        raise AnnotationError(f"{path} is no PNG, expected {kind}: save it as PNG") from error
    except Exception as error:  # damaged data makes Pillow's decoders raise almost anything
        raise AnnotationError(
            f"{path} is damaged or cut off ({error}), expected {kind}: copy it again"
        ) from error


def open_label_maps(path: Path) -> RegionFile:
    """A PNG, or a folder of them, whose names are those of the pictures.

    Each value is a region, except 0 and, in a palette PNG, 255 and, in a 16-bit one, 65535: void.

    Raises:
        AnnotationError: the folder has two PNGs for one picture.
    """
    found = list(zip(*files_below(path, ".png"), strict=True))
    own = [(file, name.removesuffix(_OWN) + ".png") for file, name in found if name.endswith(_OWN)]
    maps = own or [(file, name) for file, name in found if not name.endswith(_OVERLAY)]

    def read(index: int, picture: Picture) -> list[Region]:
        mode, labels = _read(maps[index][0], picture.size)
        return [
            Region(box=tight_box(code), rle=code, source_id=value)
            for value, code in label_rles(labels)
            if value not in (0, _VOID.get(mode))
        ]

    return RegionFile(path, NamedEntries(path, [name for _, name in maps]), read)


def _read(path: Path, size: Size | None) -> tuple[str, LabelMap]:
    mode, labels = read_png(path, kind="a label map")
    if mode not in _DTYPES:
        raise AnnotationError(
            f"{path} is a PNG of mode {mode}, expected one number a pixel: save it as a palette "
            "or grey PNG"
        )
    if size is not None and labels.shape != size:
        raise Entry(path, "the label map").error(
            f"is {labels.shape[1]} x {labels.shape[0]} pixels, while the picture is {size[1]} x "
            f"{size[0]}",
            "scale it without interpolation, or give the picture that it belongs to",
        )
    return mode, labels.astype(_DTYPES[mode], copy=False)
