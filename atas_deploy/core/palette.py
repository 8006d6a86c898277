"""Colours of classes: bright, distinct, and the same whatever the number of classes.

The first twelve are picked by hand so that they stay apart for viewers with red-green colour
blindness too (a test simulates it). Up to 256 each next colour is the one farthest, in Oklab, from
all before it; later ones only differ from all before them.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from atas_deploy.core.class_spec import MAX_CLASSES, ClassSpec
from atas_deploy.core.errors import ConfigError

BACKGROUND_COLOR = (0, 0, 0)
MAX_CLASSES_8_BIT = 254
VOID_8_BIT, VOID_16_BIT = 255, 65_535
"""The label of pixels without a class: the highest value that a label map can hold."""
VOID_COLOR = (224, 224, 192)

_HAND_PICKED = (
    (15, 185, 255),  # azure
    (236, 178, 0),  # amber
    (192, 47, 125),  # raspberry
    (16, 173, 134),  # jade
    (255, 252, 170),  # cream
    (140, 80, 255),  # violet
    (252, 104, 74),  # coral
    (110, 250, 250),  # ice
    (255, 120, 200),  # pink
    (60, 110, 40),  # moss
    (52, 38, 160),  # indigo
    (182, 248, 0),  # lime
)
_SPREAD = 256
_CANDIDATES = 2_048
_ALIKE = 0.05  # a distance in Oklab below which two colours are easily confused

_LINEAR_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)


def class_palette(num_classes: int) -> npt.NDArray[np.uint8]:
    """Give every class a colour; that of class i does not depend on the number of classes.

    Args:
        num_classes: Number of classes without the background, 0 to 65,534.

    Returns:
        (num_classes + 1, 3) uint8 RGB; row 0 is the background, black.

    Raises:
        ConfigError: If the number of classes is out of range.
    """
    if not 0 <= num_classes <= MAX_CLASSES:
        raise ConfigError(
            f"Got {num_classes} classes, but a palette holds 0 to {MAX_CLASSES}: use fewer"
        )
    size = next(s for s in (len(_HAND_PICKED), _SPREAD, MAX_CLASSES) if s >= num_classes)
    return np.concatenate([np.array([BACKGROUND_COLOR], np.uint8), _colors(size)[:num_classes]])


def class_palette_for(specs: Sequence[ClassSpec]) -> npt.NDArray[np.uint8]:
    """Give every class the colour it asks for, and the others colours that differ from those.

    A class without a colour of its own has that of `class_palette`, unless a colour asked for looks
    like it: then it gets a later one.

    Args:
        specs: up to 65,534 classes.

    Returns:
        (C + 1, 3) uint8 RGB; row 0 is the background, black.

    Raises:
        ConfigError: If there are too many classes.
    """
    palette = class_palette(len(specs))
    given = {spec.color for spec in specs if spec.color is not None}
    if not given:
        return palette
    for row, spec in enumerate(specs, 1):
        if spec.color is not None:
            palette[row] = spec.color
    free = np.array([row for row, spec in enumerate(specs, 1) if spec.color is None], np.intp)
    taken = _near_any(palette[free], np.array(sorted(given), np.uint8))
    rows = free[taken]
    kept = np.delete(palette, rows, axis=0)
    palette[rows] = _spare_colors(kept, len(rows))
    return palette


def void_label(num_classes: int) -> int:
    """Tell which label means "no class": 255 in 8-bit label maps, 65,535 in 16-bit ones.

    Args:
        num_classes: Number of classes without the background; up to 254 make an 8-bit map.
    """
    return VOID_8_BIT if num_classes <= MAX_CLASSES_8_BIT else VOID_16_BIT


def oklab(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Convert colours to Oklab, where Euclidean distance is close to perceived difference.

    Args:
        colors: (N, 3) uint8, sRGB.

    Returns:
        (N, 3) float32: lightness in [0, 1] and two opponent axes around 0.

    Source: B. Ottosson, "A perceptual color space for image processing", 2020.
    """
    encoded = colors.astype(np.float32) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _LINEAR_TO_LMS.T) @ _LMS_TO_OKLAB.T, np.float32)


def _near_any(
    colors: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """Which of the colours (N, 3) are easily confused with one of the others (M, 3): (N,)."""
    places, near = oklab(colors), np.zeros(len(colors), bool)
    if len(others) > _SPREAD:  # so many cannot stay apart
        return _is_one_of(colors, others)
    for place in oklab(others):
        near |= np.linalg.norm(places - place, axis=1) < _ALIKE
    return near


def _is_one_of(
    colors: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    codes = [rgb.astype(np.int64) @ np.array([65_536, 256, 1]) for rgb in (colors, others)]
    return np.isin(*codes)


def _spare_colors(palette: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """Colours (count, 3) far from those of a palette; of a large one, only not among them."""
    if len(palette) + count <= _SPREAD:
        candidates = _bright_sequence(_CANDIDATES)
        return _farthest_first(palette, candidates, count=len(palette) + count)[len(palette) :]
    pool = _colors(MAX_CLASSES)
    return pool[~_is_one_of(pool, palette)][:count]


@lru_cache(maxsize=3)
def _colors(size: int) -> npt.NDArray[np.uint8]:
    picked = np.array(_HAND_PICKED, np.uint8)
    if size <= len(picked):
        return picked
    spread = _farthest_first(picked, _bright_sequence(_CANDIDATES), count=_SPREAD)
    if size <= _SPREAD:
        return spread
    return _distinct(np.concatenate([spread, _bright_sequence(2 * MAX_CLASSES)]))[:size]


def _bright_sequence(count: int) -> npt.NDArray[np.uint8]:
    """Walk evenly through hue, saturation and value, dark and grey colours left out.

    Source: M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (R3).
    """
    steps = 1 / 1.2207440846057596 ** np.arange(1, 4)
    hue, saturation, value = (np.outer(np.arange(1, count + 1), steps) % 1).T
    return _hsv_to_rgb(hue, 0.35 + 0.65 * saturation, 0.5 + 0.5 * value)


def _hsv_to_rgb(
    hue: npt.NDArray[np.float64],
    saturation: npt.NDArray[np.float64],
    value: npt.NDArray[np.float64],
) -> npt.NDArray[np.uint8]:
    sector = (np.array([5.0, 3.0, 1.0]) + 6 * hue[:, None]) % 6
    ramp = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    rgb = value[:, None] * (1 - saturation[:, None] * ramp)
    colors: npt.NDArray[np.uint8] = np.rint(255 * rgb).astype(np.uint8)
    return colors


def _farthest_first(
    start: npt.NDArray[np.uint8], candidates: npt.NDArray[np.uint8], *, count: int
) -> npt.NDArray[np.uint8]:
    """Append, one by one, the candidate farthest from everything chosen so far."""
    places = oklab(candidates)
    chosen = [np.linalg.norm(places - place, axis=1) for place in oklab(start)]
    nearest = np.minimum.reduce(chosen)
    nearest = np.minimum(nearest, np.linalg.norm(places, axis=1))  # keep off the background
    order = []
    for _ in range(count - len(start)):
        best = int(np.argmax(nearest))
        order.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(places - places[best], axis=1))
    return np.concatenate([start, candidates[order]])


def _distinct(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Drop repeated colours, keeping the order of first appearance."""
    _, first = np.unique(colors, axis=0, return_index=True)
    return colors[np.sort(first)]
