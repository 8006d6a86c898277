"""Formats of a whole run, made at its end from the journal and the label maps."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.media.formats import (
    Labelled,
    read_label_png,
    write_coco_dataset,
    write_coco_results,
    write_cvat,
    write_label_studio,
    write_polygons,
)
from atas_deploy.runtime.journal import read_rows
from atas_deploy.runtime.run_files import MASKS_SUFFIX

FORMAT_FILES = {
    "coco": ("coco.json", "coco_results.json"),
    "polygons": ("polygons.jsonl",),
    "cvat": ("cvat.zip",),
    "label-studio": ("label_studio.json", "label_studio.xml"),
}
"""The files of each format."""


def format_files(formats: Sequence[str]) -> list[str]:
    """The files that formats become."""
    return [name for which in formats for name in FORMAT_FILES[which]]


def write_formats(
    formats: Sequence[str],
    journal: Path,
    *,
    names: Sequence[str],
    palette: npt.NDArray[np.uint8],
) -> dict[str, list[str]]:
    """Write formats beside the journal.

    Args:
        formats: keys of `FORMAT_FILES`.
        journal: of a run that ended.
        names: the classes.
        palette: (C + 1, 3) uint8 RGB.

    Returns:
        The files of each format.

    Raises:
        InputError: a label map was removed or damaged since.
        OutputError: a file cannot be written.
    """
    folder = journal.parent
    for which in formats:
        match which:
            case "coco":
                write_coco_dataset(folder / "coco.json", labelled(journal), names)
                write_coco_results(folder / "coco_results.json", labelled(journal))
            case "polygons":
                write_polygons(folder / "polygons.jsonl", labelled(journal))
            case "cvat":
                write_cvat(folder / "cvat.zip", labelled(journal), names, palette=palette)
            case "label-studio":
                target = folder / "label_studio.json"
                write_label_studio(target, labelled(journal), names, palette=palette)
    return {which: list(FORMAT_FILES[which]) for which in formats}


def labelled(journal: Path) -> Iterator[Labelled]:
    """The images and video frames of a run that have a label map."""
    for row in read_rows(journal):
        path = journal.parent / row.get("labels", "")
        if path.is_file():  # those of a video that could not be written are gone
            name, suffix = _image(row)
            yield Labelled(
                name=name,
                image=name if name.endswith(suffix) else f"{name}{suffix}",
                height=row["height"],
                width=row["width"],
                labels=partial(read_label_png, path),
                classes=row["classes"],
            )


def _image(row: Mapping[str, Any]) -> tuple[str, str]:
    """How formats name a picture, and its suffix: as its results; in a video by its number."""
    if row["kind"] == "frame":
        return row["labels"].removesuffix(".png").replace(f"{MASKS_SUFFIX}/", "/"), ".png"
    return row["labels"].removesuffix(".labels.png"), PurePath(row["source"]).suffix
