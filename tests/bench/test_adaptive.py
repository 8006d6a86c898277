"""What adaptive video saves, and what it costs."""

import json
from itertools import pairwise

import cv2
import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.bench.adaptive import measure_adaptive
from atas_deploy.core.errors import InputError


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Twenty classes, a small input."""
    return Segmenter(classes="@voc20", background="none", short_side=64)


def scene(seed: int) -> np.ndarray:
    """Seeded blobs of colour, (96, 160, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 8, 3), np.uint8)
    return cv2.resize(noise, (160, 96), interpolation=cv2.INTER_CUBIC)


def test_agreement_is_that_of_the_label_maps(segmenter: Segmenter) -> None:
    """Compared by hand, frame by frame; each share tells what became of the frames."""
    view = scene(0)
    frames = [view[:, 0:120], view[:, 0:120], view[:, 4:124], scene(1)[:, :120]]
    found = measure_adaptive(segmenter, frames, level=0.4, rounds=1)
    assert (found["frames"], found["held"]) == (4, 0.25)
    assert (found["encoded"], found["carried"]) == (0.5, 0.25)
    full = [segmenter(frame).labels for frame in frames]
    adaptive = [result.labels for result in segmenter.stream(frames, adaptive=0.4)]
    equal = [(a == b).mean() for a, b in zip(full, adaptive, strict=True)]
    assert found["equal_pixels"] == pytest.approx(np.mean(equal), abs=1e-4)
    assert found["equal_pixels_p5"] == pytest.approx(np.percentile(equal, 5), abs=1e-4)
    assert found["equal_pixels_least"] == pytest.approx(min(equal), abs=1e-4) != 1
    ious = [class_iou(a, b) for a, b in zip(full, adaptive, strict=True)]
    assert found["class_iou"] == pytest.approx(np.mean(ious), abs=1e-4)
    successive = list(pairwise(full))
    steady = np.mean([(a == b).mean() for a, b in successive])
    assert found["steady_pixels"] == pytest.approx(steady, abs=1e-4)
    steady = np.mean([class_iou(a, b) for a, b in successive])
    assert found["steady_iou"] == pytest.approx(steady, abs=1e-4)


def class_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Of the labels that either map has, the mean."""
    shown = np.union1d(a, b)
    return float(
        np.mean([((a == c) & (b == c)).sum() / ((a == c) | (b == c)).sum() for c in shown])
    )


def test_times(segmenter: Segmenter) -> None:
    """Each way has its milliseconds a frame, and a ratio; all of it is JSON."""
    found = measure_adaptive(segmenter, [scene(0)] * 8, level=0.1, rounds=2)
    assert (found["encoded"], found["equal_pixels_least"], found["class_iou"]) == (0.125, 1, 1)
    assert found["full_ms"] > 0
    assert found["adaptive_ms"] > 0
    assert found["speed_up"] > 0
    assert json.loads(json.dumps(found)) == found


def test_no_frames(segmenter: Segmenter) -> None:
    """There is nothing to measure."""
    with pytest.raises(InputError, match="no frames"):
        measure_adaptive(segmenter, [], level=0.1)
