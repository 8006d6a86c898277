"""What the phases of a job of names for regions share."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import NamedRegions
from atas_deploy.media.boxes import draw_regions
from atas_deploy.media.sources import Source
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.outputs import OutputFolder
from atas_deploy.runtime.region_job.region_tally import RegionTally
from atas_deploy.runtime.region_job.regions_from import RegionsFrom
from atas_deploy.runtime.region_job.tables import Tables
from atas_deploy.runtime.regions import RegionClassifier
from atas_deploy.runtime.stops import Stops
from atas_deploy.runtime.work import Progress, is_hopeless


class RegionFolder(OutputFolder):
    """Names the overlays of sources: pictures have no label maps here."""

    def _image_suffixes(self, size: Size | None) -> dict[str, str]:
        suffixes = super()._image_suffixes(size)
        del suffixes["labels"]
        return suffixes


@dataclass(frozen=True, slots=True)
class RegionWork:
    """The parts of a job.

    Attributes:
        classifier: the model with its classes.
        regions_from: where regions come from.
        folder: where overlays go.
        tables: where rows go.
        tally: what is done.
        options: what to write.
        progress: where to tell how far the job is.
        stops: puts off signals while files are finished.
        noted: notes that the user has seen.
    """

    classifier: RegionClassifier
    regions_from: RegionsFrom
    folder: RegionFolder
    tables: Tables
    tally: RegionTally
    options: JobOptions
    progress: Progress
    stops: Stops
    noted: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, image: Image, found: NamedRegions) -> Image:
        """The overlay of a picture (H, W, 3) uint8 RGB."""
        return draw_regions(image, found, self.folder.palette, opacity=self.options.opacity)

    def fail(self, source: Source, error: Exception) -> None:
        """Note what went wrong with a source; go on unless nothing can be written any more.

        Raises:
            OutputError: the same error, if the disk is full or the folder may not be written.
        """
        if is_hopeless(error):
            raise error
        self.count({"source": source.shown, "error": str(error)})

    def count(self, row: Mapping[str, Any], found: NamedRegions | None = None) -> None:
        """Count a picture, frame, video or failure; the thread that reads does so, too.

        Args:
            row: its kind, or its source and error.
            found: the regions of a picture or frame; None = it has none, or is neither.
        """
        with self._lock:
            self.tally.add(row)
            if row.get("kind") in ("image", "frame"):
                self.tally.take(found)

    def note(self, text: str | None) -> None:
        """Tell the user something, once."""
        if text and text not in self.noted:
            self.noted.add(text)
            self.progress.note(text)
