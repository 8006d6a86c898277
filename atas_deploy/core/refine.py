"""PAMR: masks pulled to the edges of the picture, without training.

Pixel-adaptive mask refinement (Araslanov and Roth, "Single-Stage Semantic Segmentation from Image
Labels", CVPR 2020, section 3.3): each pixel's values become a weighted mean over its neighbours at
several distances, ten times over, with weights that fall with the difference in colour.

H W pixels, C channels, K neighbours (8 for each dilation), Q maps
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

DILATIONS = (8, 16)  # those of SCLIP and NACLIP
ITERATIONS = 10
REACH = (ITERATIONS + 1) * max(DILATIONS) + 1  # pixels from which a refined value may come
_RING = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def affinity(
    image: npt.NDArray[np.uint8] | FloatArray, *, dilations: Sequence[int] = DILATIONS
) -> FloatArray:
    """Weights of every pixel's neighbours.

    k = mean over channels of -|x_i - x_j| / (1e-8 + 0.1 s_i), s_i the standard deviation (unbiased)
    over the 3 x 3 neighbourhoods of all dilations; the weights are the softmax of k over the
    neighbours. Edges are replicated.

    Args:
        image: (H, W, C) uint8, or float32 in [0, 255].
        dilations: distances of the neighbours, in pixels.

    Returns:
        (K, H, W) float32, each pixel's summing to 1; dilation by dilation, rows first.
    """
    height, width, channels = image.shape
    logits = np.zeros((8 * len(dilations), height, width), np.float32)
    for channel in range(channels):
        values = image[..., channel].astype(np.float32)
        values /= 255
        padded = _pad(values, max(dilations))
        near = [_shifted(padded, values.shape, d * y, d * x) for d in dilations for y, x in _RING]
        around = np.stack([*near, *[values] * len(dilations)])
        deviation = around.std(axis=0, ddof=1)
        scale = -1 / ((1e-8 + 0.1 * deviation) * channels)
        for total, neighbour in zip(logits, near, strict=True):
            total += np.abs(values - neighbour) * scale
    weights: FloatArray = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    return weights


def pamr(
    values: FloatArray,
    weights: FloatArray,
    *,
    dilations: Sequence[int] = DILATIONS,
    iterations: int = ITERATIONS,
) -> FloatArray:
    """Refine a map: it is linear in the map, and each query's is independent of the others.

    Args:
        values: (H, W) float32.
        weights: (K, H, W) from `affinity` of the picture at the same size and dilations.
        dilations: as for `affinity`.
        iterations: how often the values are averaged.

    Returns:
        (H, W) float32.
    """
    for _ in range(iterations):
        padded = _pad(values, max(dilations))
        refined, product = np.zeros_like(values), np.empty_like(values)
        offsets = ((d * y, d * x) for d in dilations for y, x in _RING)
        for weight, (y, x) in zip(weights, offsets, strict=True):
            np.multiply(weight, _shifted(padded, values.shape, y, x), out=product)
            refined += product
        values = refined
    return values


def _pad(values: FloatArray, margin: int) -> FloatArray:
    return np.pad(values, margin, mode="edge")


def _shifted(padded: FloatArray, shape: tuple[int, ...], y: int, x: int) -> FloatArray:
    """The neighbours at (y, x) of all pixels: a view of the padded map."""
    top, left = ((long - short) // 2 for long, short in zip(padded.shape, shape, strict=True))
    return padded[top + y : top + y + shape[0], left + x : left + x + shape[1]]
