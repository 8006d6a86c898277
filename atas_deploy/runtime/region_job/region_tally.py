"""What a run over regions has done so far, in numbers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from atas_deploy.core.region import NamedRegions
from atas_deploy.media.annotations import Faults
from atas_deploy.runtime.tally import Tally


@dataclass(slots=True)
class RegionTally(Tally):
    """Counts of a run.

    Attributes:
        regions: that got a name, or are background.
        without: pictures and frames that have no region.
        cut: whether frames of a video were left out, by choice or as it broke.
        problem: what is wrong with the file of regions as a whole, found at the end.
        faults: regions of the file that were left out.
    """

    regions: int = 0
    without: int = 0
    cut: bool = False
    problem: str | None = None
    faults: Faults = field(default_factory=Faults)
    _named: Counter[int] = field(default_factory=Counter)  # class: regions

    @property
    def complete(self) -> bool:
        """Whether all went well."""
        return not (self.failed or self.faults.count) and self.problem is None

    @property
    def background(self) -> int:
        """Regions that are none of the classes."""
        return self._named[0]

    def take(self, found: NamedRegions | None) -> None:
        """Count the regions of a picture or frame; None = it has none."""
        if not found:
            self.without += 1
            return
        self.regions += len(found)
        self._named.update(found.labels[:, 0].tolist())

    def counts(self) -> dict[str, int]:
        """The numbers, JSON-ready."""
        names = ("images", "videos", "frames", "failed", "regions", "without")
        numbers = {name: getattr(self, name) for name in names}
        return numbers | {"background": self.background, "left_out": self.faults.count}

    def classes(self, names: tuple[str, ...]) -> list[dict[str, Any]]:
        """Of each class: how many regions got its name."""
        return [
            {"id": i, "name": name, "regions": self._named[i]} for i, name in enumerate(names, 1)
        ]
