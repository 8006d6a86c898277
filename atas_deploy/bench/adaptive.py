"""What adaptive video saves, and what it costs, against a run that encodes every frame.

C classes and the background
"""

import time
from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.core.metrics import count_areas, iou, known_mean
from atas_deploy.core.results import Segmentation
from atas_deploy.runtime.segment import Segmenter

Image = npt.NDArray[np.uint8]


def measure_adaptive(
    segmenter: Segmenter, frames: Iterable[Image], *, level: float, rounds: int = 3
) -> dict[str, Any]:
    """Segment a video with and without `adaptive`, by turns.

    Args:
        segmenter: the model with its classes.
        frames: (H, W, 3) uint8 RGB; they are gone through 2 + 2 * `rounds` times, so a list, or
            something that begins anew each time. The time of getting them counts.
        level: as for `Segmenter.stream`, in [0, 1).
        rounds: of timing, after a pass of both that is not timed.

    Returns:
        JSON-ready: "frames", and the shares of them that were "encoded", "carried" and "held";
        "equal_pixels" with "_p5" and "_least", the share of the pixels of a frame that have the
        label of the full run; "class_iou", likewise, the mean IoU of the classes of a frame that
        either run has; "steady_pixels" and "steady_iou", means of the same between a frame of the
        full run and its next one, which tell how much agreement there can be; "full_ms" and
        "adaptive_ms" a frame, and "speed_up", the median of the ratios of the rounds.

    Raises:
        ConfigError: the level is out of range.
        InputError: there are no frames.
        BackendError: the engine fails.
    """
    found = _Agreement()
    full = segmenter.stream(frames)
    for truth, result in zip(full, segmenter.stream(frames, adaptive=level), strict=True):
        found.add(truth, result)
    times = [
        (
            _milliseconds(segmenter, frames, level=None),
            _milliseconds(segmenter, frames, level=level),
        )
        for _ in range(rounds)
    ]
    count = len(found.equal)
    return found.report() | {
        "full_ms": round(median(full for full, _ in times) / count, 2),
        "adaptive_ms": round(median(adaptive for _, adaptive in times) / count, 2),
        "speed_up": round(median(full / adaptive for full, adaptive in times), 2),
    }


def _milliseconds(segmenter: Segmenter, frames: Iterable[Image], *, level: float | None) -> float:
    start = time.perf_counter()
    for _ in segmenter.stream(frames, adaptive=level):
        pass
    return 1e3 * (time.perf_counter() - start)


class _Agreement:
    """Compares the frames of an adaptive run with those of a full one.

    Attributes:
        equal: share of equal pixels of each frame.
    """

    def __init__(self) -> None:
        self.equal: list[float] = []
        self._iou: list[float] = []
        self._steady: list[tuple[float, float]] = []
        self._turns = {"encoded": 0, "carried": 0, "held": 0}
        self._before: tuple[Segmentation, Segmentation] | None = None

    def add(self, full: Segmentation, adaptive: Segmentation) -> None:
        """Compare the next frame."""
        equal, class_iou = _agreement(full, adaptive)
        self.equal.append(equal)
        self._iou.append(class_iou)
        held = False
        if self._before is not None:
            before, last = self._before
            held = adaptive is last
            if before.labels.shape == full.labels.shape:
                self._steady.append(_agreement(before, full))
        self._turns["held" if held else "carried" if adaptive.carried else "encoded"] += 1
        self._before = full, adaptive

    def report(self) -> dict[str, Any]:
        """What was found, but for the times."""
        if not self.equal:
            raise InputError("Got no frames; expected at least one.")
        count = len(self.equal)
        shares = {name: round(number / count, 4) for name, number in self._turns.items()}
        pixels, class_iou = np.mean(self._steady or [(1.0, 1.0)], axis=0).round(4).tolist()
        return {
            "frames": count,
            **shares,
            **_spread("equal_pixels", self.equal),
            **_spread("class_iou", self._iou),
            "steady_pixels": pixels,
            "steady_iou": class_iou,
        }


def _agreement(a: Segmentation, b: Segmentation) -> tuple[float, float]:
    """Share of equal pixels, and the mean IoU of the classes that either has."""
    areas = count_areas(a.labels, b.labels, classes=len(a.class_names) + 1, void=-1)
    return float((a.labels == b.labels).mean()), float(known_mean(iou(areas)))


def _spread(name: str, values: list[float]) -> dict[str, float]:
    """Mean, 5th percentile and least of a list."""
    found = {"": np.mean(values), "_p5": np.percentile(values, 5), "_least": np.min(values)}
    return {name + key: round(float(value), 4) for key, value in found.items()}
