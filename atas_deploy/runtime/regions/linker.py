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

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_PAIRS = 1_000_000  # overlaps in memory
_BLOCK = 4096  # pairs of which those that are taken already are passed over at once


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
        last = [live[number].box for number in numbers]
        found = []
        for region, column in zip(regions, self._link(regions, last), strict=True):
            if column is None:
                found.append(self._next)
                self._next += 1
            else:
                found.append(numbers[column])
            live[found[-1]] = _Last(region.box, self._frame)
        return found

    def _link(self, regions: Sequence[Region], last: Sequence[Box]) -> list[int | None]:
        """For each region the place of its track in a list; None = there is none."""
        linked: list[int | None] = [None] * len(regions)
        if not regions or not last:
            return linked
        boxes, tracks = _xywh([region.box for region in regions]), _xywh(last)
        rows, columns = np.ones(len(boxes), np.bool_), np.ones(len(tracks), np.bool_)  # free
        more = True
        while more:
            pairs, more = self._pairs(boxes, tracks, np.flatnonzero(rows), np.flatnonzero(columns))
            for start in range(0, len(pairs), _BLOCK):
                block = pairs[start : start + _BLOCK]
                free = rows[block[:, 0]] & columns[block[:, 1]]
                for row, column in block[free].tolist():
                    if rows[row] and columns[column]:
                        linked[row] = column
                        rows[row] = columns[column] = False
        return linked

    def _pairs(
        self, boxes: FloatArray, tracks: FloatArray, rows: IntArray, columns: IntArray
    ) -> tuple[IntArray, bool]:
        """Free boxes and tracks that overlap enough, the most first, then in their order.

        Returns:
            Pairs (P, 2) of row and column, a million at most, and whether there are more.
        """
        best, overlaps, more = np.empty((0, 2), np.intp), np.empty(0), False
        step = max(1, _PAIRS // max(1, len(columns)))
        for start in range(0, len(rows) if len(columns) else 0, step):
            some = rows[start : start + step]
            overlap = rle.iou(boxes[some], tracks[columns], [0] * len(columns))
            row, column = np.nonzero(overlap >= self.overlap)
            best = np.concatenate([best, np.stack([some[row], columns[column]], axis=1)])
            overlaps = np.concatenate([overlaps, overlap[row, column]])
            order = np.argsort(-overlaps, kind="stable")
            more |= len(order) > _PAIRS
            best, overlaps = best[order[:_PAIRS]], overlaps[order[:_PAIRS]]
        return best, more


def _xywh(boxes: Sequence[Box]) -> FloatArray:
    """COCO's boxes (K, 4) float64: left, top, width, height."""
    array = np.array(boxes, np.float64)
    array[:, 2:] -= array[:, :2]
    return array
