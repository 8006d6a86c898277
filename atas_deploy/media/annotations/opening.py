"""Which format a file of regions has, by its suffix and what is in it."""

import stat
from pathlib import Path

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations.coco import CocoFile
from atas_deploy.media.annotations.coco_results import CocoResults
from atas_deploy.media.annotations.coco_row import Kind, read_coco
from atas_deploy.media.annotations.label_maps import open_label_maps
from atas_deploy.media.annotations.matching import files_below
from atas_deploy.media.annotations.mot import open_mot
from atas_deploy.media.annotations.panoptic import PanopticFile, is_panoptic
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.annotations.table import open_table
from atas_deploy.media.annotations.text import read_text
from atas_deploy.media.annotations.yolo import label_files, open_yolo

_FEWEST, _MOST = 6, 10  # values of a line of MOT challenge text
_BOXES = "boxes: COCO JSON (.json), a table (.csv, .tsv), MOT or YOLO (.txt) or a folder of YOLO"
_MASKS = "masks: COCO JSON (.json), a label PNG, YOLO polygons (.txt) or a folder of either"


def open_boxes(path: Path | str) -> RegionFile:
    """Open a file of boxes: COCO JSON, YOLO (one .txt or a folder), CSV, MOT challenge .txt.

    Raises:
        InputError: it is missing or cannot be read.
        AnnotationError: it is of no known format, or an entry is not as it should be.
    """
    path = Path(path)
    match _kind(path, expected=_BOXES):
        case "folder":
            if label_files(path):
                return open_yolo(path, "boxes")
        case ".json":
            return _open_coco(path, "boxes")
        case ".csv" | ".tsv":
            return open_table(path)
        case ".txt":
            return _open_text(path)
    raise _unknown(path, _BOXES)


def open_masks(path: Path | str) -> RegionFile:
    """Open a file of masks: COCO JSON, label PNGs or YOLO polygons (one file or a folder).

    Raises:
        InputError: it is missing or cannot be read.
        AnnotationError: it is of no known format, or an entry is not as it should be.
    """
    path = Path(path)
    match _kind(path, expected=_MASKS):
        case "folder":
            if files_below(path, ".png")[0]:
                return open_label_maps(path)
            if label_files(path):
                return open_yolo(path, "masks")
        case ".json":
            return _open_coco(path, "masks")
        case ".png":
            return open_label_maps(path)
        case ".txt":
            return open_yolo(path, "masks")
    raise _unknown(path, _MASKS)


def _open_text(path: Path) -> RegionFile:
    text = read_text(path, kind="boxes as text")
    if "," in text:
        return open_mot(path)
    if _FEWEST <= len(first := text.partition("\n")[0].split()) <= _MOST and _is_pixels(first[2:6]):
        raise AnnotationError(
            f"{path} has pixels that are separated by spaces, expected commas as in MOT challenge "
            "text, or shares of the picture as in YOLO: replace the spaces by commas"
        )
    return open_yolo(path, "boxes")


def _is_pixels(fields: list[str]) -> bool:
    """Whether x, y, width and height are numbers, and a box so large is no share."""
    try:
        return min([float(field) for field in fields][2:]) > 1
    except ValueError:
        return False


def _open_coco(path: Path, kind: Kind) -> RegionFile:
    data = read_coco(path, kind)
    if isinstance(data, list):
        return CocoResults(path, data, kind).region_file()
    if is_panoptic(data):
        return PanopticFile(path, data).region_file(kind)
    if isinstance(data, dict) and "annotations" in data:
        return CocoFile(path, data, kind).region_file()
    raise AnnotationError(
        f'{path} is JSON, but has no list "annotations" and is no list of results: name a COCO file'
    )


def _kind(path: Path, *, expected: str) -> str:
    """The suffix of a file in small letters, or "folder".

    Raises:
        AnnotationError: there is no such file or folder.
    """
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as exc:  # ValueError: a name that no file can have
        reason = getattr(exc, "strerror", None) or exc
        raise AnnotationError(
            f"{path} cannot be read ({reason}), expected {expected}: check the path"
        ) from exc
    return "folder" if is_folder else path.suffix.casefold()


def _unknown(path: Path, expected: str) -> AnnotationError:
    what = "has no such files" if path.is_dir() else "is of no known kind"
    return AnnotationError(f"{path} {what}, expected {expected}; name one of these")
