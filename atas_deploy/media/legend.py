"""A legend that stays readable on pictures of any size, for any number of classes.

A dark, half-opaque panel in the lower left corner holds one chip a class: a swatch and the name.
Chips flow into rows; rows that would cover too much of the picture give way to "+12 more".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from atas_deploy.media.lettering import CAPITALS, elide, font_size, letters, rounded, text_width

Color = tuple[int, int, int]
Entry = tuple[str, Color]

_LARGEST_SHARE = 1 / 3  # of the picture's height that the panel may cover
_LONGEST_NAME = 14  # in letter sizes
_PANEL_COLOR = (16, 18, 22)
_PANEL_OPACITY = 0.68
_TEXT_COLOR = (245, 246, 248)
_RIM_COLOR = (150, 154, 162)  # sets dark swatches off from the panel


@dataclass(frozen=True, slots=True)
class _Chip:
    text: str
    color: Color | None  # None: a note without a swatch
    width: int


@dataclass(frozen=True, slots=True)
class _Panel:
    """A picture to lay over another: out = under * keep / 255 + light."""

    keep: MatLike
    light: MatLike


def draw_legend(image: npt.NDArray[np.uint8], entries: Sequence[Entry]) -> npt.NDArray[np.uint8]:
    """Name the classes in the lower left corner of a picture.

    The panel is drawn once for each picture size and list of classes, then only laid over.

    Args:
        image: (H, W, 3) uint8 RGB.
        entries: Names and their RGB colours, in the order to show them: row by row from the top
            left. Where room is short the last ones give way to "+12 more".

    Returns:
        (H, W, 3) uint8 RGB, a new array; without a legend if not even one name fits.
    """
    size = image.shape[0], image.shape[1]
    panel = _panel_of(size, entries)
    result = image.copy()
    if panel is not None:
        left, top, right, bottom = _place(size, panel)
        corner = result[top:bottom, left:right]
        dimmed = cv2.multiply(corner, panel.keep, scale=1 / 255)
        corner[:] = cv2.add(dimmed, panel.light)
    return result


def legend_place(size: tuple[int, int], entries: Sequence[Entry]) -> tuple[int, int, int, int]:
    """Pixels x0, y0, x1, y1 that the legend takes of a picture (H, W); all 0 without a legend."""
    panel = _panel_of(size, entries)
    return (0, 0, 0, 0) if panel is None else _place(size, panel)


def _panel_of(size: tuple[int, int], entries: Sequence[Entry]) -> _Panel | None:
    height, width = size
    most = _Metrics.of(height, width).most
    first = tuple((name, (r, g, b)) for name, (r, g, b) in entries[:most])
    return _panel(height, width, first, len(entries) - len(first))


def _place(size: tuple[int, int], panel: _Panel) -> tuple[int, int, int, int]:
    margin = _Metrics.of(*size).margin
    rows, columns = panel.keep.shape[:2]
    bottom = size[0] - margin
    return margin, bottom - rows, margin + columns, bottom


@dataclass(frozen=True, slots=True)
class _Metrics:
    """Lengths in pixels, all from the size of the letters."""

    font: int
    width: int  # that a row may take
    rows: int  # that may be shown

    @classmethod
    def of(cls, height: int, width: int) -> "_Metrics":
        """Measure for a picture of a size."""
        font = font_size(height, width)
        bare = cls(font, 0, 0)
        rows = int((height * _LARGEST_SHARE - 2 * bare.padding) // bare.row)
        one_fits = height >= bare.row + 2 * (bare.padding + bare.margin)
        free = width - 2 * (bare.padding + bare.margin)
        return cls(font, free, max(rows, int(one_fits)))

    @property
    def most(self) -> int:
        """Chips that could fit if none had a name."""
        return max(0, self.width * self.rows // (self.indent + self.gap))

    @property
    def margin(self) -> int:
        """From the picture's border to the panel."""
        return round(0.5 * self.font)

    @property
    def padding(self) -> int:
        """From the panel's border to its chips."""
        return round(0.5 * self.font)

    @property
    def row(self) -> int:
        """Height of a row."""
        return round(1.45 * self.font)

    @property
    def swatch(self) -> int:
        """Side of a swatch."""
        return round(0.85 * self.font)

    @property
    def indent(self) -> int:
        """From the start of a swatch to that of its name."""
        return self.swatch + round(0.42 * self.font)

    @property
    def gap(self) -> int:
        """Between two chips."""
        return round(0.95 * self.font)


@lru_cache(maxsize=8)
def _panel(height: int, width: int, entries: tuple[Entry, ...], left_out: int) -> _Panel | None:
    metrics = _Metrics.of(height, width)
    rows = _layout(entries, left_out, metrics)
    return _render(rows, metrics) if rows else None


def _layout(entries: Sequence[Entry], left_out: int, metrics: _Metrics) -> list[list[_Chip]]:
    """Flow chips into rows; what does not fit is counted by a last chip, with those left out."""
    chips = [_chip(name, color, metrics) for name, color in entries]
    for shown in range(len(chips), 0, -1):
        hidden = len(entries) - shown + left_out
        more = [_chip(f"+{hidden} more", None, metrics)] if hidden else []
        rows = _wrap([*chips[:shown], *more], metrics)
        if len(rows) <= metrics.rows and _widest(rows, metrics) <= metrics.width:
            return rows
    return []


def _wrap(chips: Sequence[_Chip], metrics: _Metrics) -> list[list[_Chip]]:
    rows: list[list[_Chip]] = []
    used = metrics.width
    for chip in chips:
        if used + metrics.gap + chip.width > metrics.width:
            rows.append([])
            used = -metrics.gap
        rows[-1].append(chip)
        used += metrics.gap + chip.width
    return rows


def _widest(rows: Sequence[Sequence[_Chip]], metrics: _Metrics) -> int:
    return max(sum(chip.width + metrics.gap for chip in row) for row in rows) - metrics.gap


def _chip(name: str, color: Color | None, metrics: _Metrics) -> _Chip:
    indent = 0 if color is None else metrics.indent
    room = min(metrics.width - indent, _LONGEST_NAME * metrics.font)
    text = elide(" ".join(name.split()), room, metrics.font)
    return _Chip(text, color, indent + text_width(text, metrics.font))


def _render(rows: Sequence[Sequence[_Chip]], metrics: _Metrics) -> _Panel:
    width = _widest(rows, metrics) + 2 * metrics.padding
    height = len(rows) * metrics.row + 2 * metrics.padding
    shape = rounded((height, width), (0, 0, width, height), radius=round(0.45 * metrics.font))
    alpha = cv2.convertScaleAbs(shape, alpha=_PANEL_OPACITY)
    color = np.full((height, width, 3), _PANEL_COLOR, np.uint8)
    top = metrics.padding
    for row in rows:
        left = metrics.padding
        for chip in row:
            place = slice(top, top + metrics.row), slice(left, left + chip.width)
            _draw_chip(color[place], alpha[place], chip, metrics)
            left += chip.width + metrics.gap
        top += metrics.row
    opacity = cv2.merge([alpha] * 3)
    light = cv2.multiply(color, opacity, scale=1 / 255)
    return _Panel(keep=cv2.bitwise_not(opacity), light=light)


def _draw_chip(color: MatLike, alpha: MatLike, chip: _Chip, metrics: _Metrics) -> None:
    """Draw a swatch and a name into the chip's part of the panel."""
    size, middle, text_left = alpha.shape, metrics.row // 2, 0
    if chip.color is not None:
        side = metrics.swatch
        corner = (0, middle - side // 2)
        rim = side // 12  # none around the smallest
        outer, inner = (_square(corner, side, inset=inset) for inset in (0, rim))
        _paint(color, alpha, _RIM_COLOR, rounded(size, outer, radius=round(0.26 * side)))
        _paint(color, alpha, chip.color, rounded(size, inner, radius=round(0.22 * side)))
        text_left = metrics.indent
    start = (text_left, middle + round(CAPITALS / 2 * metrics.font))
    _paint(color, alpha, _TEXT_COLOR, letters(size, chip.text, start, metrics.font))


def _square(corner: tuple[int, int], side: int, *, inset: int) -> tuple[int, int, int, int]:
    left, top = corner
    return left + inset, top + inset, left + side - inset, top + side - inset


def _paint(
    color: MatLike,
    alpha: MatLike,
    paint: Color,
    mask: MatLike,
) -> None:
    """Lay an opaque colour over the panel where the mask says, in place."""
    share = np.asarray(mask, np.float32)[..., None] / 255
    color[:] = np.rint(color * (1 - share) + np.array(paint, np.float32) * share)
    np.maximum(alpha, mask, out=alpha)
