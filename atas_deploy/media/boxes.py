"""Regions with their names on a picture: boxes as lines, masks as tints, a tag for each name."""

from collections import Counter
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle

from atas_deploy.core.region import Box, Mask, NamedRegions
from atas_deploy.media.legend import draw_legend, legend_place
from atas_deploy.media.lettering import font_size
from atas_deploy.media.overlay import DEFAULT_OPACITY, blend
from atas_deploy.media.tags import Color, Tag, draw_tag, place_tags

Image = npt.NDArray[np.uint8]
Point = tuple[int, int]

_NAMELESS = (170, 172, 178)  # boxes that are none of the classes
_PIXELS_PER_LINE = 300  # root of the picture's area for each pixel of a line's width
_FEW, _SOME = 25, 60  # regions up to which lines, and letters, have their full size
_SMALLEST_FONT = 10
_MOST_MASKS = 65_534  # that an instance map of 16 bits can hold
_COARSE = 64  # longer side of a mask in which its deepest place is looked for


def draw_regions(
    image: Image,
    found: NamedRegions,
    palette: npt.NDArray[np.uint8],
    *,
    opacity: float = DEFAULT_OPACITY,
) -> Image:
    """Draw regions in the colours of their classes, each with its name and score.

    Small regions lie over large ones. The more there are, the thinner the lines and the smaller
    the letters; where there is no room for a tag, a legend names the classes. Boxes that are
    background are thin and grey, masks that are background show the picture; neither has a tag.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: the regions of the picture and their names, K of them.
        palette: (C + 1, 3) uint8 RGB, row 0 the background.
        opacity: share of the tint of masks, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    sizes = [region.size[0] * region.size[1] for region in found.regions]
    order = sorted(range(len(found)), key=lambda i: -sizes[i])
    masks = [i for i in order if found.regions[i].rle is not None]
    drawn, inside = _tint(image, found, masks[:_MOST_MASKS], palette, opacity=opacity)
    width = _line_width(image, len(found))
    for i in order:
        if found.regions[i].rle is None:
            named = _label(found, i) > 0
            color = _color(palette, _label(found, i)) if named else _NAMELESS
            _outline(drawn, found.regions[i].box, color, width if named else 1)
    nameless = [region.box for i, region in enumerate(found.regions) if not _label(found, i)]
    tags = _tags(found, palette, inside)
    return _write_names(drawn, tags, nameless, font=_font(image, len(found)))


def _label(found: NamedRegions, index: int) -> int:
    """Class of a region, 0 for background."""
    return int(found.labels[index, 0])


def _color(palette: npt.NDArray[np.uint8], label: int) -> Color:
    red, green, blue = palette[label].tolist()
    return red, green, blue


def _line_width(image: Image, count: int) -> int:
    side: float = (image.shape[0] * image.shape[1]) ** 0.5
    share: float = min(1.0, _FEW / max(1, count)) ** 0.5
    return max(1, round(side / _PIXELS_PER_LINE * share))


def _font(image: Image, count: int) -> int:
    full = font_size(image.shape[0], image.shape[1])
    share: float = min(1.0, _SOME / max(1, count)) ** 0.25
    return max(_SMALLEST_FONT, round(full * share))


def _tint(
    image: Image,
    found: NamedRegions,
    masks: Sequence[int],
    palette: npt.NDArray[np.uint8],
    *,
    opacity: float,
) -> tuple[Image, dict[int, Point]]:
    """Tint and outline masks, later ones over earlier ones, one at a time.

    Masks that are background clear what lies below them.

    Returns:
        A copy of the picture, and of each mask the place that is deepest in it.
    """
    if not masks:
        return image.copy(), {}
    instances = np.zeros(image.shape[:2], np.uint16)
    colors = np.zeros((len(masks) + 1, 3), np.uint8)
    inside: dict[int, Point] = {}
    for number, i in enumerate(masks, 1):
        mask, label = found.regions[i].mask(), _label(found, i)
        x0, y0, width, height = (int(edge) for edge in rle.toBbox(found.regions[i].rle))
        part = mask[y0 : y0 + height, x0 : x0 + width]
        instances[y0 : y0 + height, x0 : x0 + width][part] = number if label else 0
        colors[number] = palette[label]
        x, y = _deepest(part)
        inside[i] = x0 + x, y0 + y
    return blend(image, instances, colors, opacity=opacity), inside


def _outline(image: Image, box: Box, color: Color, width: int) -> None:
    """Draw the border of a box within it, in place, with a dark line inside it."""
    x0, y0 = (max(0, int(edge)) for edge in box[:2])
    x1 = min(image.shape[1], max(x0 + 1, int(np.ceil(box[2]))))
    y1 = min(image.shape[0], max(y0 + 1, int(np.ceil(box[3]))))
    part = image[y0:y1, x0:x1]
    width = max(1, min(width, min(part.shape[:2], default=0) // 6))
    shade = max(1, width // 2)
    _frame(part[width:-width, width:-width], (0, 0, 0), shade, opacity=0.45)
    _frame(part, color, width, opacity=1)


def _frame(part: Image, color: Color, width: int, *, opacity: float) -> None:
    """Paint the outermost pixels of a picture, in place."""
    if min(part.shape[:2]) == 0:
        return
    inner = part[width:-width, width:-width].copy()
    painted = part * (1 - opacity) + np.array(color, np.float32) * opacity
    part[:] = np.rint(painted)
    if inner.size:
        part[width:-width, width:-width] = inner


def _write_names(image: Image, tags: Sequence[Tag], nameless: Sequence[Box], *, font: int) -> Image:
    """Write tags on a picture, in place; if they do not all fit, the result has a legend, too."""
    size = image.shape[0], image.shape[1]
    placed, legend = place_tags(size, tags, font=font, nameless=nameless), None
    if len(placed) < len(tags):
        legend = _classes(tags)
        taken = legend_place(size, legend)
        placed = place_tags(size, tags, font=font, nameless=nameless, taken=taken)
    for tag in placed:
        draw_tag(image, tag, font=font)
    return image if legend is None else draw_legend(image, legend)


def _tags(
    found: NamedRegions, palette: npt.NDArray[np.uint8], inside: Mapping[int, Point]
) -> list[Tag]:
    tags = []
    for i, region in enumerate(found.regions):
        if label := _label(found, i):
            tags.append(
                Tag(
                    name=found.name(i),
                    score=float(found.scores[i, 0]),
                    color=_color(palette, label),
                    box=region.box,
                    inside=inside.get(i),
                )
            )
    return tags


def _classes(tags: Sequence[Tag]) -> list[tuple[str, Color]]:
    """Names and colours of the classes, the most frequent first."""
    return [entry for entry, _ in Counter((tag.name, tag.color) for tag in tags).most_common()]


def _deepest(mask: Mask) -> Point:
    """The place (x, y) in a mask (H, W) that is farthest from its border."""
    step = max(1, -(-max(mask.shape) // _COARSE))
    coarse = np.pad(mask[::step, ::step].astype(np.uint8), 1)
    depth = cv2.distanceTransform(coarse, cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return (int(x) - 1) * step + step // 2, (int(y) - 1) * step + step // 2
