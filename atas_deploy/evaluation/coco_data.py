"""What all tasks ask of COCO's files: the right kind, and the pictures that are there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atas_deploy.core.class_spec import shorten
from atas_deploy.core.errors import InputError
from atas_deploy.media.annotations import CocoFile, CocoImage, PanopticFile
from atas_deploy.media.annotations.coco_row import read_coco
from atas_deploy.media.annotations.panoptic import is_panoptic


@dataclass(frozen=True, slots=True)
class Present:
    """Pictures that a file names and a folder holds.

    Attributes:
        images: those that are taken, in the order of the file.
        missing: how many are not in the folder.
    """

    images: tuple[CocoImage, ...]
    missing: int


def open_panoptic(path: Path, pngs: Path | None = None) -> PanopticFile:
    """Open COCO's panoptic JSON.

    Raises:
        InputError: it cannot be read, or holds instances.
    """
    data = read_coco(path)
    rows = data.get("annotations") if isinstance(data, dict) else None
    if rows and not is_panoptic(data):
        raise InputError(
            f"{path} is no panoptic file: its annotations have no segments; give COCO's panoptic "
            "JSON, or instances to a task that takes --instances."
        )
    return PanopticFile(path, data, pngs)


def open_instances(path: Path) -> CocoFile:
    """Open COCO's instances JSON.

    Raises:
        InputError: it cannot be read, or holds panoptic segments.
    """
    data = read_coco(path)
    if is_panoptic(data):
        raise InputError(f"{path} is a panoptic file: give it with --panoptic.")
    return CocoFile(path, data)


def present(
    images: Sequence[CocoImage],
    folder: Path,
    *,
    source: Path,
    names: Path | None = None,
    limit: int | None = None,
) -> Present:
    """The pictures of a file that are in a folder; nothing is read.

    Args:
        images: of the file.
        folder: where they should be.
        source: the file.
        names: file with the names of those to take; None = all.
        limit: take the first so many of those that are there.

    Raises:
        InputError: none is there, or the names cannot be used.
    """
    if names is not None:
        images = _named(images, names, source)
    found = tuple(image for image in images if (folder / image.file_name).is_file())
    if not found:
        raise InputError(
            f"None of the {len(images)} pictures of {names or source} is in {folder}; give the "
            "folder that holds them."
        )
    return Present(found[:limit], len(images) - len(found))


def read_names(file: Path) -> list[str]:
    """The names that a text file lists, one a line, each once.

    Raises:
        InputError: it cannot be read or is empty.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as exc:
        raise InputError(f"{file} cannot be read ({exc}); give a text file of names.") from exc
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(f"{file} is empty; expected a name on each line.")
    return list(dict.fromkeys(names))


def _named(images: Sequence[CocoImage], names: Path, source: Path) -> list[CocoImage]:
    """The images that a file names, with or without suffix, in its order.

    Raises:
        InputError: it cannot be read, or one is not in the annotations.
    """
    known = {PurePosixPath(image.file_name).with_suffix("").as_posix(): image for image in images}
    known |= {image.file_name: image for image in images}
    wanted = read_names(names)
    for name in wanted:
        if name not in known:
            raise InputError(f'{names} names "{shorten(name)}", which is not in {source}.')
    return list({known[name].id: known[name] for name in wanted}.values())
