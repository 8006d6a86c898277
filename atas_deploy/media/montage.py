"""Pictures of one size side by side, each with a caption, in blocks with headings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.media.heat import heat_colors
from atas_deploy.media.lettering import CAPITALS, elide, letters, text_width

Image = npt.NDArray[np.uint8]

_PAPER, _INK, _GREY = (255, 255, 255), (24, 26, 32), (96, 100, 110)
_FONT_SHARE = 1 / 24  # letter size as a share of a panel's width
_FONTS = 12, 20  # smallest and largest
_BAR = 3.0  # length of the colour bar in letter sizes
_LEAST_WIDTH = 22 * _FONTS[0]  # of a column: room for a caption and a colour bar


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A picture with a caption.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        caption: one line.
        scale: lowest and highest value of a heat map, shown with a colour bar; None = no heat map.
    """

    image: Image
    caption: str
    scale: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Panels under a heading.

    Attributes:
        heading: one line.
        panels: of one size, in order.
    """

    heading: str
    panels: Sequence[Panel]


def montage(blocks: Sequence[Block], *, room: int) -> Image:
    """Put panels into a grid, a block below the other.

    Args:
        blocks: panels of all must have one size; narrow ones stand in wider columns.
        room: pixels for the panels of a row; all rows have about one length.

    Returns:
        (H, W, 3) uint8 RGB on white.
    """
    height, width = blocks[0].panels[0].image.shape[:2]
    column = max(width, _LEAST_WIDTH)
    font = min(max(round(width * _FONT_SHARE), _FONTS[0]), _FONTS[1])
    gap, strip = font, 2 * font
    most = max(len(block.panels) for block in blocks)
    columns = max(1, room // column)
    columns = -(-most // -(-most // columns))  # in rows of about one length
    total = columns * (column + gap) + gap
    parts: list[Image] = []
    for block in blocks:
        parts.append(_line(block.heading, (strip + gap, total), font=round(1.2 * font), left=gap))
        for first in range(0, len(block.panels), columns):
            row = _paper((strip + height, total))
            for place, panel in enumerate(block.panels[first : first + columns]):
                left = gap + place * (column + gap)
                row[:strip, left : left + column] = _caption(panel, (strip, column), font=font)
                row[strip:, left : left + width] = panel.image
            parts.append(row)
    parts.append(_paper((gap, total)))
    return np.concatenate(parts)


def _caption(panel: Panel, size: tuple[int, int], *, font: int) -> Image:
    """The line above a picture: its caption and, for a heat map, its scale at the right."""
    strip, room = _paper(size), size[1]
    if panel.scale is not None:
        low, high = (f"{value:.2f}" for value in panel.scale)
        bar, gap = round(_BAR * font), round(0.4 * font)
        right = size[1] - text_width(high, font)
        _write(strip, high, left=right, font=font, color=_GREY)
        end = right - gap
        top = (size[0] - round(0.8 * font)) // 2
        ramp = heat_colors()[np.linspace(0, 255, bar).astype(np.intp)]
        strip[top : top + round(0.8 * font), end - bar : end] = ramp
        left = end - bar - gap - text_width(low, font)
        _write(strip, low, left=left, font=font, color=_GREY)
        room = left - font
    _write(strip, elide(panel.caption, room, font), left=0, font=font, color=_INK)
    return strip


def _line(text: str, size: tuple[int, int], *, font: int, left: int) -> Image:
    strip = _paper(size)
    _write(strip, elide(text, size[1] - 2 * left, font), left=left, font=font, color=_INK)
    return strip


def _write(strip: Image, text: str, *, left: int, font: int, color: tuple[int, int, int]) -> None:
    """Write a line into a strip, in place, halfway up."""
    start = left, strip.shape[0] // 2 + round(CAPITALS / 2 * font)
    share = letters(strip.shape[:2], text, start, font)[..., None] / np.float32(255)
    strip[:] = np.rint(strip * (1 - share) + np.array(color, np.float32) * share)


def _paper(size: tuple[int, int]) -> Image:
    return np.full((*size, 3), _PAPER, np.uint8)
