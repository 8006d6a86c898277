"""Name tags on pictures: where there is room for each, and how it looks.

A tag never leaves the picture, covers no other tag and hides no small region but its own. A text
that finds no place gives way to a shorter one, and at last to none.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from atas_deploy.core.region import Box
from atas_deploy.media.lettering import CAPITALS, elide, letters, rounded, text_width

Color = tuple[int, int, int]
Rect = tuple[int, int, int, int]

_OPACITY = 0.88
_HIDDEN = 0.4  # share of a region that the tag of another may cover
_LONGEST = 0.6  # of the picture's width
_TRIED = 500  # tags; a picture has no room for more
_CROWD = 25  # regions beyond which a name rather stays inside its box than whole
_LEAST = 3  # font sizes of room for a name that is cut short
_DARK, _LIGHT = (16, 18, 22), (250, 250, 252)


@dataclass(frozen=True, slots=True)
class PlacedTag:
    """A text with its place.

    Attributes:
        text: what to write.
        color: RGB of the box behind the letters.
        place: x0, y0, x1, y1 in pixels.
    """

    text: str
    color: Color
    place: Rect


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A name to put somewhere.

    Attributes:
        name: of the class.
        score: in [0, 1].
        color: RGB of the box behind the letters.
        box: x0, y0, x1, y1 of the region, right and lower ends exclusive.
        inside: (x, y) deep in the region, if it is not a box: the tag goes there.
    """

    name: str
    score: float
    color: Color
    box: Box
    inside: tuple[int, int] | None = None


def place_tags(
    size: tuple[int, int],
    tags: Sequence[Tag],
    *,
    font: int,
    nameless: Sequence[Box] = (),
    taken: Rect = (0, 0, 0, 0),
) -> list[PlacedTag]:
    """Find room for tags, those of large regions first.

    Args:
        size: (H, W) of the picture.
        tags: one for each region that has a name.
        font: size of the letters in pixels.
        nameless: boxes of regions without a tag, which no tag hides either.
        taken: x0, y0, x1, y1 of a part of the picture that tags leave free.

    Returns:
        The tags that there is room for.
    """
    boxes = np.array([*(tag.box for tag in tags), *nameless], np.float64).reshape(-1, 4)
    room = _Room(boxes, size=size, taken=taken)
    longest = round(_LONGEST * size[1])
    placed = []
    order = np.argsort(-room.areas[: len(tags)], kind="stable").tolist()
    for i in order[:_TRIED]:
        for text, places in _attempts(tags[i], font, longest=longest, crowd=len(tags) > _CROWD):
            if place := room.take(i, places, (_width(text, font), _height(font))):
                placed.append(PlacedTag(text, tags[i].color, place))
                break
    return placed


def draw_tag(image: npt.NDArray[np.uint8], tag: PlacedTag, *, font: int) -> None:
    """Lay a round box of the tag's colour over a picture (H, W, 3), in place, and write on it."""
    left, top, right, bottom = tag.place
    size = bottom - top, right - left
    box = rounded(size, (0, 0, size[1], size[0]), radius=round(0.22 * font))
    start = _padding(font), round(size[0] / 2 + CAPITALS / 2 * font)
    part = image[top:bottom, left:right]
    _lay(part, tag.color, box, _OPACITY)
    _lay(part, _DARK if _is_bright(tag.color) else _LIGHT, letters(size, tag.text, start, font), 1)


def _attempts(
    tag: Tag, font: int, *, longest: int, crowd: bool
) -> Iterator[tuple[str, Iterator[tuple[int, int]]]]:
    """Texts and the places to try for each, best first.

    In a crowd a tag beside a box would seem to be that of another one.
    """
    name = elide(" ".join(tag.name.split()), longest, font)
    texts = (f"{name} {tag.score:.2f}", name)
    size = round(tag.box[2] - tag.box[0]), round(tag.box[3] - tag.box[1])
    room = size[0] - 2 * _padding(font)
    if crowd and tag.inside is None and size[1] >= _height(font):
        for text in texts:
            if text_width(text, font) <= room:
                yield text, _within(tag, (_width(text, font), _height(font)))
        if room >= _LEAST * font:
            text = elide(name, room, font)
            yield text, _within(tag, (_width(text, font), _height(font)))
    for text in texts:
        yield text, _places(tag, (_width(text, font), _height(font)))


class _Room:
    """Where on a picture a tag may still go.

    Args:
        boxes: (K, 4) xyxy of the regions.
        size: (H, W) of the picture.
        taken: x0, y0, x1, y1 of a part that is not free.
    """

    def __init__(
        self, boxes: npt.NDArray[np.float64], *, size: tuple[int, int], taken: Rect
    ) -> None:
        self.areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        self._boxes, self._size = boxes, size
        self._taken = np.array([taken], np.float64)

    def take(
        self, index: int, places: Iterable[tuple[int, int]], size: tuple[int, int]
    ) -> Rect | None:
        """Take the first place that is free for a tag of (width, height); None = there is none."""
        width, height = size
        for left, top in places:
            x = min(max(left, 0), self._size[1] - width)
            rect = x, top, x + width, top + height
            if x >= 0 and top >= 0 and rect[3] <= self._size[0] and self._is_free(rect, index):
                self._taken = np.vstack([self._taken, rect])
                return rect
        return None

    def _is_free(self, rect: Rect, index: int) -> bool:
        if _overlap(self._taken, rect).any():
            return False
        hidden = _overlap(self._boxes, rect) > _HIDDEN * self.areas
        hidden[index] = False
        return not hidden.any()


def _overlap(boxes: npt.NDArray[np.float64], rect: Rect) -> npt.NDArray[np.float64]:
    """Pixels (K,) that boxes (K, 4) share with a rectangle."""
    width = np.minimum(boxes[:, 2], rect[2]) - np.maximum(boxes[:, 0], rect[0])
    height = np.minimum(boxes[:, 3], rect[3]) - np.maximum(boxes[:, 1], rect[1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0), np.float64)


def _within(tag: Tag, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Left and top of a tag in each corner of its box."""
    x0, y0, x1, y1 = (round(edge) for edge in tag.box)
    for top in (y0, y1 - size[1]):
        yield from ((x0, top), (x1 - size[0], top))


def _beside(tag: Tag, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Left and top of a tag above and below its box."""
    x0, y0, x1, y1 = (round(edge) for edge in tag.box)
    for top in (y0 - size[1], y1):
        yield from ((x0, top), (x1 - size[0], top))


def _places(tag: Tag, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Left and top of all places, best first: in the corners of large boxes, above small ones.

    On a mask the tag is centred where it is widest, or just above or below.
    """
    width, height = size
    if tag.inside is not None:
        x, y = tag.inside[0] - width // 2, tag.inside[1] - height // 2
        yield from ((x, y), (x, y - height), (x, y + height))
        return
    x0, y0, x1, y1 = tag.box
    roomy = x1 - x0 >= width and y1 - y0 >= 2.5 * height
    for places in (_within, _beside) if roomy else (_beside, _within):
        yield from places(tag, size)


def _width(text: str, font: int) -> int:
    return text_width(text, font) + 2 * _padding(font)


def _height(font: int) -> int:
    return round(1.3 * font)


def _padding(font: int) -> int:
    return round(0.32 * font)


def _lay(part: MatLike, color: Color, mask: MatLike, opacity: float) -> None:
    share = np.asarray(mask, np.float32)[..., None] * (opacity / 255)
    part[:] = np.rint(part * (1 - share) + np.array(color, np.float32) * share)


def _is_bright(color: Color) -> bool:
    """Whether dark letters are read better than light ones (ITU-R BT.601 luma)."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
