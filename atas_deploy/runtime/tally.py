"""What a run has done so far, in numbers: its size does not depend on that of the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FAILURES_KEPT = 100


@dataclass(slots=True)
class Tally:
    """Counts of the lines of a journal.

    Attributes:
        images: segmented.
        videos: segmented to their end.
        frames: of videos, the held and those of broken videos included.
        encoded: those of them that the encoder saw: neither held nor with features carried along.
        failed: sources that could not be read or written to their end.
        failures: the first 100 of them: source and error.
        resumed: sources that an earlier run had done.
        empty: pictures and frames without any class.
    """

    images: int = 0
    videos: int = 0
    frames: int = 0
    encoded: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    resumed: int = 0
    empty: int = 0
    _present: dict[int, int] = field(default_factory=dict)  # class: pictures with it
    _area: dict[int, float] = field(default_factory=dict)  # class: sum of its shares

    @property
    def inputs(self) -> int:
        """Sources that are done or have failed."""
        return self.images + self.videos + self.failed

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a line."""
        kind = row.get("kind")
        if "error" in row:
            self.failed += 1
            if len(self.failures) < FAILURES_KEPT:
                self.failures.append({key: row[key] for key in ("source", "error")})
        elif kind == "video":
            self.videos += 1
        elif kind == "image":
            self.images += 1
        elif kind == "frame":
            self.frames += 1
            self.encoded += not (row.get("held") or row.get("carried"))
        self.empty += row.get("classes") == []
        for entry in row.get("classes", ()):
            i = entry["id"]
            self._present[i] = self._present.get(i, 0) + 1
            self._area[i] = self._area.get(i, 0.0) + entry["area"]

    def counts(self) -> dict[str, int]:
        """The numbers, JSON-ready."""
        names = ("images", "videos", "frames", "encoded", "failed", "resumed")
        return {name: getattr(self, name) for name in names}

    def classes(self, names: tuple[str, ...]) -> list[dict[str, Any]]:
        """Of each class: in how many pictures it is, and its mean share of all pictures."""
        pictures = max(1, self.images + self.frames)
        return [
            {
                "id": i,
                "name": name,
                "pictures": self._present.get(i, 0),
                "mean_area": round(self._area.get(i, 0.0) / pictures, 6),
            }
            for i, name in enumerate(names, 1)
        ]
