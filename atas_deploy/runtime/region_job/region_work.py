"""What the phases of a job of names for regions share."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import NamedRegions
from atas_deploy.media.boxes import draw_regions
from atas_deploy.media.sources import Source
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.outputs import OutputFolder
from atas_deploy.runtime.region_job.region_tally import RegionTally
from atas_deploy.runtime.region_job.regions_from import RegionsFrom
from atas_deploy.runtime.region_job.tables import Tables
from atas_deploy.runtime.regions import RegionClassifier
from atas_deploy.runtime.run_files import discard
from atas_deploy.runtime.work import BaseWork


class RegionFolder(OutputFolder):
    """Names the overlays of sources: pictures have no label maps here."""

    def _image_suffixes(self, size: Size | None) -> dict[str, str]:
        suffixes = super()._image_suffixes(size)
        del suffixes["labels"]
        return suffixes

    def clear(self, source: Source) -> None:
        """If results are replaced, remove the overlay that an earlier run made of a source.

        This run may write none, or one of another kind. Inputs stay.
        """
        if not self._options.force:
            return
        for end in (".mp4",) if source.kind == "video" else (".jpg", ".png"):
            path = self.path_of(source, f".overlay{end}")
            if os.path.lexists(path) and not self.is_input(path):
                discard(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionWork(BaseWork):
    """The parts of a job of names for regions.

    Attributes:
        classifier: the model with its classes.
        regions_from: where regions come from.
        folder: where overlays go.
        tables: where rows go.
        tally: what is done.
    """

    classifier: RegionClassifier
    regions_from: RegionsFrom
    folder: RegionFolder
    tables: Tables
    tally: RegionTally
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, image: Image, found: NamedRegions) -> Image:
        """The overlay of a picture (H, W, 3) uint8 RGB."""
        return draw_regions(image, found, self.folder.palette, opacity=self.options.opacity)

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

    def note_failure(self, source: str, message: str) -> None:
        """Count an input that could not be used."""
        self.count({"source": source, "error": message})
