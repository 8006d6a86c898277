"""What the numbers of YOLO's lines are: tools write different columns, and no header.

After the class comes a box (4 values) or a polygon (6 or more, an even number), then perhaps a
confidence, the number of a tracked object, or both. Which of these, the lines of a file tell
together: confidences lie from 0 to 1, objects have whole numbers, each once in a file. Where they
do not, as where an object is number 1, the other files do.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from atas_deploy.core.errors import InputError
from atas_deploy.media.annotations.entry import Entry

BOX = 4
"""Values of a box."""

_FEWEST = 6  # values of a polygon
_EITHER = "score or track"
_VISIBILITIES = {"0", "1", "2"}
_FEW_KEYPOINTS = 3
_AROUND, _FILLED = 0.52, 0.7  # of a box: farthest from its middle, least extent of its keypoints
_ROUNDING = 2e-3  # shares that may reach beyond the picture

Line = tuple[Entry, int, list[str]]  # where it stands, class, other values
Columns = tuple[str, ...]
_OPTIONS: dict[int, list[Columns]] = {0: [(), ("score", "track")], 1: [("score",), ("track",)]}


@dataclass(frozen=True, slots=True)
class YoloRow:
    """A line of a file.

    Attributes:
        entry: where it stands.
        category: class.
        shape: four values of a box, or x and y of the points of a polygon; in shares.
        score: confidence, if it has one.
        track: number of the object, if it has one.
    """

    entry: Entry
    category: int
    shape: list[float]
    score: float | None = None
    track: int | None = None


class RowSplitter:
    """Splits the lines of files that a tool wrote."""

    def __init__(
        self,
        keypoint_values: int | None = None,
        files: Callable[[], Iterable[Iterable[Line]]] = tuple,
    ) -> None:
        """For files without a header.

        Args:
            keypoint_values: how many values of keypoints follow each box; None if there are none.
            files: gives the lines of files, read where one does not tell enough.
        """
        self._keypoint_values, self._files = keypoint_values, files
        self._known: dict[int, list[Columns]] = {}

    def split(self, lines: Iterable[Line]) -> list[YoloRow]:
        """The rows of a file.

        Raises:
            AnnotationError: a line is not as it should be, or what it means cannot be told.
        """
        listed = self._cut(lines)
        last = {odd: self._last(_parity(listed, odd)) for odd in (0, 1)}
        rows = []
        for entry, label, texts in listed:
            columns = last[len(texts) % 2]
            shape = texts[: len(texts) - len(columns)]
            known = dict(zip(columns, texts[len(shape) :], strict=True))
            rows.append(_row(entry, label, shape, known))
        return rows

    def _cut(self, lines: Iterable[Line]) -> list[Line]:
        if (values := self._keypoint_values) is None:
            return list(lines)
        return [(entry, label, _cut(entry, texts, values)) for entry, label, texts in lines]

    def _last(self, lines: Sequence[Line]) -> Columns:
        """The columns after the shape, of lines whose numbers of values are all odd or all even.

        Raises:
            AnnotationError: they may be read in two ways.
        """
        if not lines:
            return ()
        entry, _, first = lines[0]
        if all(_has_keypoints(texts) for _, _, texts in lines):
            raise entry.error(
                f"has {len(first) + 1} values that seem to be of keypoints",
                "put a data.yaml with their kpt_shape beside it, or write boxes only",
            )
        odd = len(first) % 2
        fitting = _fitting(lines, odd)
        if len(fitting) > 1:
            fitting = self._in_other_files(odd)
        if len(fitting) == 1:
            return fitting[0]
        if odd:
            return (_EITHER,) if fitting else _OPTIONS[odd][0]
        if fitting and all(len(texts) == _FEWEST for _, _, texts in lines):
            raise entry.error(
                "may be a triangle, or a box with a confidence and the number of its object",
                "write 1.0 for a coordinate, or number objects from 2 on",
            )
        return ()

    def _in_other_files(self, odd: int) -> list[Columns]:
        """What fits the first file that tells it; all if none does."""
        if odd not in self._known:
            self._known[odd] = _OPTIONS[odd]
            for lines in self._files():
                with suppress(InputError):  # it comes up with its own picture
                    if len(fitting := _fitting(_parity(self._cut(lines), odd), odd)) == 1:
                        self._known[odd] = fitting
                        break
        return self._known[odd]


def _parity(lines: Iterable[Line], odd: int) -> list[Line]:
    return [line for line in lines if len(line[2]) % 2 == odd]


def _cut(entry: Entry, texts: list[str], keypoint_values: int) -> list[str]:
    """The values of a line without those of its keypoints."""
    if len(texts) == BOX:
        return texts
    if not 0 <= len(texts) - BOX - keypoint_values <= 2:
        raise entry.error(
            f"has {len(texts) + 1} values, expected a class, {BOX} of a box and {keypoint_values} "
            "of keypoints, as kpt_shape in data.yaml says",
            "correct or remove it",
        )
    return texts[:BOX] + texts[BOX + keypoint_values :]


def _fitting(lines: Sequence[Line], odd: int) -> list[Columns]:
    """What the last columns of all lines can be; nothing if there are no lines."""
    return [columns for columns in _OPTIONS[odd] if lines and _fits(lines, columns)]


def _fits(lines: Sequence[Line], columns: Columns) -> bool:
    """Whether the last columns of all lines can be these."""
    listed = [texts for _, _, texts in lines]
    if any(not _is_shape(len(texts) - len(columns)) for texts in listed):
        return False
    if not columns:
        return all(_is_share(texts[-1]) for texts in listed)
    ends = [dict(zip(columns, texts[len(texts) - len(columns) :], strict=True)) for texts in listed]
    if "score" in columns and not all(_is_share(end["score"]) for end in ends):
        return False
    tracks = [end.get("track", "") for end in ends]
    return "track" not in columns or (all(map(_is_whole, tracks)) and len({*tracks}) == len(tracks))


def _is_shape(count: int) -> bool:
    return count == BOX or (count >= _FEWEST and count % 2 == 0)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_share(text: str) -> bool:
    try:
        return -_ROUNDING <= float(text) <= 1 + _ROUNDING
    except ValueError:
        return False


def _has_keypoints(texts: list[str]) -> bool:
    """Whether the values seem to be a box and keypoints, rather than a polygon.

    Labels have 0, 1 or 2 after each point. Without that, points that fill the box are keypoints: it
    has its middle at the first corner of the polygon, were it one.
    """
    rest = texts[BOX:]
    if rest and len(rest) % 3 == 0 and {*rest[2::3]} <= _VISIBILITIES:
        return True
    try:
        values = np.array(texts, np.float64)
    except ValueError:
        return False
    middle, extent = values[:2], values[2:BOX]
    for width in (2, 3):
        points = values[BOX:][: len(rest) // width * width].reshape(-1, width)[:, :2]
        points = points[points.any(1)]  # (0, 0) is unknown
        if len(points) >= _FEW_KEYPOINTS:
            inside = (np.abs(points - middle) <= _AROUND * extent).all()
            if inside and (np.ptp(points, 0) >= _FILLED * extent).all():
                return True
    return False


def _row(entry: Entry, category: int, shape: list[str], known: dict[str, str]) -> YoloRow:
    if not _is_shape(len(shape)):
        raise entry.error(
            f'has {len(shape) + len(known) + 1} values, expected "class cx cy w h" or '
            '"class x1 y1 x2 y2 x3 y3 …", then perhaps a confidence and the number of an object',
            "correct or remove it",
        )
    values = [entry.parse(text, "value") for text in shape]
    for value in values:
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise entry.error(
                f"has the value {value:g}, expected shares of the picture from 0 to 1",
                "divide by the width or height of the picture",
            )
    score, track = known.get("score"), known.get("track")
    return YoloRow(
        entry=entry,
        category=category,
        shape=values,
        score=None if score is None else entry.score(entry.parse(score, "score")),
        track=None if track is None else int(track),
    )
