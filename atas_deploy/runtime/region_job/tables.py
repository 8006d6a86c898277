"""The tables of a run: regions.csv and coco_results.json."""

from contextlib import ExitStack, suppress
from pathlib import Path

from atas_deploy.core.errors import OutputError
from atas_deploy.core.region import NamedRegions
from atas_deploy.media.annotations import Picture
from atas_deploy.media.formats import (
    CocoRegionResults,
    ImageNumbers,
    NamedPicture,
    RegionsCsv,
)
from atas_deploy.runtime.region_job.regions_from import RegionsFrom
from atas_deploy.runtime.run_files import discard_leftovers

TABLES = ("regions.csv", "coco_results.json")


def table_paths(folder: Path) -> list[Path]:
    """Where the tables of a run lie."""
    return [folder / name for name in TABLES]


def remove_tables(folder: Path) -> None:
    """Remove the tables of an earlier run, and what one that was killed left of them."""
    discard_leftovers(table_paths(folder))
    for path in table_paths(folder):
        with suppress(OSError):
            path.unlink()


class Tables:
    """Writes the regions of pictures as they come.

    Args:
        folder: of the results.
        top: how many names a region has.
        regions_from: where the regions come from.

    Raises:
        OutputError: a file cannot be created.
    """

    def __init__(self, folder: Path, *, top: int, regions_from: RegionsFrom) -> None:
        csv, coco = table_paths(folder)
        self._from = regions_from
        self._numbers = ImageNumbers()
        self._csv = RegionsCsv(csv, top=top, given=regions_from.class_names)
        try:
            self._coco = CocoRegionResults(coco)
        except OutputError:
            self._csv.abort()
            raise

    def write(
        self,
        source: str,
        picture: Picture,
        found: NamedRegions,
        *,
        name: str,
        time: float | None = None,
    ) -> None:
        """Append the regions of a picture or frame to both tables, or to none.

        Args:
            source: what results call it.
            picture: what its file calls it.
            found: its regions.
            name: where its number comes from, unless the file has one.
            time: of a frame, in seconds.

        Raises:
            OutputError: they cannot be written, as when the disk is full.
        """
        if not found:
            return
        known = self._from.image_id(picture)
        named = NamedPicture(
            source=source,
            image_id=self._numbers.take(name) if known is None else known,
            found=found,
            frame=picture.frame,
            time=time,
        )
        self._csv.write(named)
        try:
            self._coco.write(named)
        except OutputError:
            self._csv.take_back()
            raise

    def close(self) -> None:
        """Complete both files, even if one of them cannot be.

        Raises:
            OutputError: one cannot be completed.
        """
        with ExitStack() as stack:
            stack.callback(self._coco.close)
            self._csv.close()
