"""Flicker on pictures made by hand."""

from collections.abc import Iterator

import numpy as np

from atas_deploy.evaluation.flicker import Flicker


def still_and_moving() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Three pictures: the right half changes its looks, the upper half its labels, then nothing."""
    image, labels = np.full((40, 60, 3), 100, np.uint8), np.zeros((40, 60), np.uint8)
    yield image, labels
    image, labels = image.copy(), labels.copy()
    image[:, 30:], labels[:20] = 140, 1
    yield image, labels
    yield image.copy(), labels.copy()


def test_flicker_by_hand() -> None:
    """Blur spreads the change by three columns to the left, where greys change by 2 or more."""
    flicker = Flicker()
    for image, labels in still_and_moving():
        flicker.add(image, labels)
    changed, still, pixels = flicker.counts()
    assert pixels == 2 * 40 * 60
    # 40 levels of a step, blurred: at x + 1/2 pixels from the edge 40 * Phi(-(x + 1/2) / 2) < 2
    columns = 30 - 3
    assert still == 40 * columns + 40 * 60
    assert changed == 20 * columns


def test_noise_is_no_change() -> None:
    """Of a camera's kind; a pixel that jumps is."""
    generator = np.random.default_rng(0)
    scene = np.full((64, 64, 3), 120.0)
    frames = [scene + generator.normal(0, 2, scene.shape) for _ in range(2)]
    flicker = Flicker()
    for image in frames:
        flicker.add(np.clip(np.rint(image), 0, 255).astype(np.uint8), np.zeros((64, 64), np.uint8))
    assert flicker.still > 0.99 * flicker.pixels


def test_frames_of_another_size_are_not_compared() -> None:
    """They begin anew."""
    flicker = Flicker()
    for size in ((20, 30), (30, 20), (30, 20)):
        flicker.add(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8))
    assert flicker.counts() == [0, 600, 600]
