"""Named regions as tables: CSV for people and spreadsheets, COCO results for tools.

Both grow picture by picture and are complete whenever they are closed.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as rle

from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.media.formats.growing import GrowingFile
from atas_deploy.media.formats.rows import to_json

_COLUMNS = ("source", "image_id", "frame", "time", "region", "track", "x0", "y0", "x1", "y1")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedPicture:
    """The regions of a picture, or of a frame of a video, with their names.

    Attributes:
        source: what results call it.
        image_id: its number, unlike that of any other picture of the run.
        found: the regions.
        frame: number of the frame, from 0 on; None for a picture.
        time: of the frame in seconds; None for a picture.
    """

    source: str
    image_id: int
    found: NamedRegions
    frame: int | None = None
    time: float | None = None


class RegionsCsv(GrowingFile):
    """A CSV file with a line for each region.

    The columns are source, image_id, frame, time, region (what the file that brought it calls it,
    else its number from 1 on), track, x0, y0, x1, y1 (pixels, lower right end exclusive), area
    (pixels of the mask, or of the box), given (the class that the file names), then name and score,
    name_2 and score_2 and so on, best first.

    Args:
        path: The file to create or replace; its folder must exist.
        top: How many names a region has.
        given: The classes that `Region.category` counts; None shows its number.

    Raises:
        OutputError: If it cannot be created.
    """

    def __init__(self, path: Path, *, top: int, given: tuple[str, ...] | None = None) -> None:
        self._given = given
        ranks = ["" if rank == 1 else f"_{rank}" for rank in range(1, top + 1)]
        names = [f"{column}{rank}" for rank in ranks for column in ("name", "score")]
        super().__init__(path, start=_lines([[*_COLUMNS, "area", "given", *names]]))

    def write(self, picture: NamedPicture) -> None:
        """Append the regions of a picture.

        Raises:
            OutputError: If they cannot be written.
        """
        self.append(_lines([self._row(picture, i) for i in range(len(picture.found))]))

    def _row(self, picture: NamedPicture, index: int) -> list[Any]:
        found = picture.found
        region = found.regions[index]
        number = index + 1 if region.source_id is None else region.source_id
        time = None if picture.time is None else round(picture.time, 6)
        row = [picture.source, picture.image_id, picture.frame, time, number, region.track]
        row += [_short(edge) for edge in region.box]
        row += [_short(_area(region)), self._category(region)]
        for rank in range(found.labels.shape[1]):
            row += [found.name(index, rank), f"{found.scores[index, rank]:.4f}"]
        return row

    def _category(self, region: Region) -> str | int | None:
        known = region.category is not None and self._given is not None
        return self._given[region.category] if known else region.category  # type: ignore[index]


class CocoRegionResults(GrowingFile):
    """A COCO results file: a list of the best class of each region, background left out.

    A row has image_id, category_id (number of the class from 1 on), bbox of a box or segmentation
    of a mask, score, and as id what the data set that the region comes from calls it. A mask has no
    bbox: where one is given, `COCO.loadRes` takes its area for that of the mask.

    Args:
        path: The JSON file to create or replace; its folder must exist.

    Raises:
        OutputError: If it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, start="[", ending="\n]\n")
        self._separator = "\n"

    def write(self, picture: NamedPicture) -> None:
        """Append the regions of a picture.

        Raises:
            OutputError: If they cannot be written.
        """
        found = picture.found
        named = [i for i in range(len(found)) if found.labels[i, 0]]
        if named:
            rows = (to_json(_result(picture, i)) for i in named)
            self.append(self._separator + ",\n".join(rows))
            self._separator = ",\n"


def _result(picture: NamedPicture, index: int) -> dict[str, Any]:
    found = picture.found
    region = found.regions[index]
    row: dict[str, Any] = {"image_id": picture.image_id}
    if isinstance(region.source_id, int):
        row["id"] = region.source_id
    row["category_id"] = int(found.labels[index, 0])
    if region.rle is None:
        x0, y0, x1, y1 = region.box
        row["bbox"] = [_short(edge) for edge in (x0, y0, x1 - x0, y1 - y0)]
    else:
        counts = region.rle["counts"]
        text = counts.decode() if isinstance(counts, bytes) else counts
        row["segmentation"] = {"size": [int(side) for side in region.rle["size"]], "counts": text}
    row["score"] = round(float(found.scores[index, 0]), 6)
    return row


def _area(region: Region) -> float:
    height, width = region.size
    return height * width if region.rle is None else float(rle.area(region.rle))


def _short(number: float) -> float | int:
    """A number to a hundredth, whole ones without a point."""
    rounded = round(float(number), 2)
    return int(rounded) if rounded.is_integer() else rounded


def _lines(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
