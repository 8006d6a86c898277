"""Tracks for regions that have none: the boxes of one frame are linked to those of the last.

K regions of a frame, N tracks
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle

from atas_deploy.core.region import Box, Region
from atas_deploy.runtime.settle import check_number, check_whole

_PAIRS = 4_000_000  # overlaps in memory


@dataclass(slots=True, eq=False)
class _Last:
    """Where a track was seen last, and in which frame."""

    box: Box
    frame: int


class TrackLinker:
    """Greedy linking by overlap: the pairs of a box and a track that overlap most come first.

    Args:
        overlap: least intersection over union of a box with the last one of its track, in (0, 1].
        patience: frames that a track may be unseen before it ends.

    Raises:
        ConfigError: an argument cannot be used.

    Source: Bochinski, Eiselein and Sikora, "High-Speed Tracking-by-Detection without Using Image
    Information", AVSS 2017; there tracks choose one after the other, and end at the first gap.
    """

    def __init__(self, *, overlap: float = 0.3, patience: int = 30) -> None:
        self.overlap = check_number(
            "overlap", overlap, "a number above 0, up to 1", lambda x: 0 < x <= 1
        )
        self.patience = check_whole("patience", patience, "a whole number of frames above 0")
        self._tracks: dict[int, _Last] = {}
        self._next, self._frame = 1, 0

    def __len__(self) -> int:
        """How many tracks are followed."""
        return len(self._tracks)

    def __call__(self, regions: Sequence[Region]) -> list[Region]:
        """Give tracks to the regions of the next frame that have none.

        Args:
            regions: K of them; one that brings a track keeps it, and new numbers lie above it.

        Returns:
            The same regions in their order, each with a track.
        """
        brought = [region.track for region in regions if region.track is not None]
        self._next = max(self._next, max(brought, default=0) + 1)
        self._frame += 1
        live = {n: t for n, t in self._tracks.items() if self._frame - t.frame <= self.patience + 1}
        loose = [region for region in regions if region.track is None]
        numbers = iter(self._number(loose, live))
        linked = [r if r.track is not None else replace(r, track=next(numbers)) for r in regions]
        self._tracks = live
        return linked

    def _number(self, regions: Sequence[Region], live: dict[int, _Last]) -> list[int]:
        """A track for each region; `live` gets their boxes."""
        numbers = list(live)
        found: dict[int, int] = {}
        taken: set[int] = set()
        for row, column in self._pairs(regions, [live[number].box for number in numbers]):
            if row not in found and column not in taken:
                found[row] = numbers[column]
                taken.add(column)
        for row, region in enumerate(regions):
            if row not in found:
                found[row] = self._next
                self._next += 1
            live[found[row]] = _Last(region.box, self._frame)
        return [found[row] for row in range(len(regions))]

    def _pairs(self, regions: Sequence[Region], last: Sequence[Box]) -> list[tuple[int, int]]:
        """Regions and tracks that overlap enough, the most first, then in their order."""
        if not regions or not last:
            return []
        boxes, tracks = _xywh([region.box for region in regions]), _xywh(last)
        rows, columns, overlaps = [], [], []
        step = max(1, _PAIRS // len(tracks))
        for start in range(0, len(boxes), step):
            overlap = rle.iou(boxes[start : start + step], tracks, [0] * len(tracks))
            row, column = np.nonzero(overlap >= self.overlap)
            rows.append(row + start)
            columns.append(column)
            overlaps.append(overlap[row, column])
        order = np.argsort(-np.concatenate(overlaps), kind="stable")
        pairs = np.stack([np.concatenate(rows), np.concatenate(columns)], axis=1)[order]
        return [(int(row), int(column)) for row, column in pairs]


def _xywh(boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
    """COCO's boxes (K, 4) float64: left, top, width, height."""
    array = np.array(boxes, np.float64)
    array[:, 2:] -= array[:, :2]
    return array
