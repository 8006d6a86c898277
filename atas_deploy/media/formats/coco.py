"""COCO's formats: results to evaluate, and data sets to train on or to view.

The masks are compressed run lengths (RLE) of pycocotools, one for each class present in an image.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from pycocotools import mask as rle

from atas_deploy.core.files import atomic_path
from atas_deploy.media.formats.items import Labelled, class_masks, read_labels
from atas_deploy.media.formats.rows import open_aside, open_text, to_json, write_list

_LONGEST_NUMBER = 15  # digits; JavaScript's numbers are exact up to there


def write_coco_results(path: Path, items: Iterable[Labelled]) -> None:
    """Write a COCO results file, as `COCO.loadRes` and COCOeval read it.

    A list of image_id, category_id (the label), segmentation and score. There is no bbox: where
    one is given, COCOeval takes its area for the area of the mask.

    Args:
        path: The JSON file to create or replace.
        items: The images; consumed once, held one at a time.

    Raises:
        InputError: If a label map cannot be read.
        OutputError: If the file cannot be written.
    """
    with atomic_path(path) as part, open_text(part) as out:
        write_list(
            out, (row for number, item in image_ids(items) for row in _results(number, item))
        )


def write_coco_dataset(path: Path, items: Iterable[Labelled], names: Sequence[str]) -> None:
    """Write a COCO data set: images, categories and annotations, as `COCO(path)` reads it.

    Args:
        path: The JSON file to create or replace.
        items: The images; consumed once, held one at a time.
        names: The classes; category i is `names[i - 1]`.

    Raises:
        InputError: If a label map cannot be read.
        OutputError: If the file cannot be written.
    """
    with (
        atomic_path(path) as part,
        open_text(part) as out,
        open_aside(path) as images,
    ):
        out.write('{"info":{"description":"atas-deploy"},\n"categories":')
        write_list(out, ({"id": i, "name": name} for i, name in enumerate(names, 1)))
        out.write(',\n"annotations":')
        write_list(out, _annotations(items, images))
        out.write(',\n"images":[')
        images.seek(0)
        shutil.copyfileobj(images, out)
        out.write("\n]}\n")


def image_ids(items: Iterable[Labelled]) -> Iterator[tuple[int, Labelled]]:
    """Number images, see `ImageNumbers`."""
    numbers = ImageNumbers()
    for item in items:
        yield numbers.take(item.image), item


class ImageNumbers:
    """Numbers images: by their name where that is a free number, as in COCO, else by counting.

    000000397133.jpg is image 397133; a name without number, or whose number is taken, gets the
    lowest number from 1 on that is not. No two images share a number.
    """

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._count = 1

    def take(self, name: str) -> int:
        """Number the next image."""
        stem = PurePosixPath(name).stem
        number = int(stem) if re.fullmatch(rf"[0-9]{{1,{_LONGEST_NUMBER}}}", stem) else None
        if number is not None and number not in self._used and not 0 < number < self._count:
            self._used.add(number)
            return number
        while self._count in self._used:
            self._used.remove(self._count)
            self._count += 1
        self._count += 1
        return self._count - 1


def _masks(item: Labelled) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the classes present, each with its RLE."""
    for entry, mask in class_masks(read_labels(item).copy("F"), item.classes):
        code = rle.encode(mask)
        yield entry, {"size": [item.height, item.width], "counts": code["counts"].decode()}


def _results(number: int, item: Labelled) -> Iterator[dict[str, Any]]:
    for entry, code in _masks(item):
        yield {
            "image_id": number,
            "category_id": entry["id"],
            "segmentation": code,
            "score": entry["score"],
        }


def _annotations(items: Iterable[Labelled], images: TextIO) -> Iterator[dict[str, Any]]:
    """Yield annotations, and write the images that they belong to aside."""
    count, separator = 0, "\n"
    for number, item in image_ids(items):
        size = {"height": item.height, "width": item.width}
        images.write(separator + to_json({"id": number, "file_name": item.image, **size}))
        separator = ",\n"
        for entry, code in _masks(item):
            count += 1
            yield {
                "id": count,
                "image_id": number,
                "category_id": entry["id"],
                "segmentation": code,
                "area": int(rle.area(code)),
                "bbox": rle.toBbox(code).tolist(),
                "iscrowd": 0,
                "score": entry["score"],
            }
