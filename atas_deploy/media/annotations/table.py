"""Boxes in a table: CSV with a header, separated by commas, semicolons or tabs."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.matching import NamedEntries, NumberedEntries
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.annotations.text import read_text

_IMAGE = ("image", "file", "filename", "file_name", "path", "source")
_FRAME = ("frame",)
_LABEL = ("label", "class", "category", "name")
_TRACK = ("track", "track_id", "id")
_SCORE = ("score", "confidence", "conf")
_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"))
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))


@dataclass(frozen=True, slots=True)
class _Row:
    entry: Entry
    region: Region
    frame: int | None


class _Columns:
    """Where a table has what."""

    def __init__(self, path: Path, header: list[str]) -> None:
        self._index = {name.strip().casefold(): i for i, name in enumerate(header)}
        self.count = len(header)
        self.image, self.frame = self._find(_IMAGE), self._find(_FRAME)
        self.label, self.track = self._find(_LABEL), self._find(_TRACK)
        self.score = self._find(_SCORE)
        sets = [names for names in (*_CORNERS, *_SIZES) if set(names) <= set(self._index)]
        if not sets or (self.image is None and self.frame is None):
            missing = "x0, y0, x1, y1 (or x, y, w, h)" if not sets else "image (or frame)"
            raise Entry(path, "the first line").error(
                f"has no columns {missing}, expected a header such as image,x0,y0,x1,y1,label",
                "add it",
            )
        self.corners = sets[0] in _CORNERS
        self.box = [(name, self._index[name]) for name in sets[0]]

    def _find(self, names: tuple[str, ...]) -> int | None:
        return next((self._index[name] for name in names if name in self._index), None)


class _Names(NamedEntries):
    """Entries by name, some of them videos whose frames are in the table."""

    def __init__(self, path: Path, names: list[str], frames: list[set[int]]) -> None:
        super().__init__(path, names)
        self._left = frames

    def find(self, picture: Picture) -> int | None:
        index = super().find(picture)
        if index is not None:
            left = self._left[index]
            left.clear() if picture.frame is None else left.discard(picture.frame)
        return index

    def unmatched(self) -> list[str]:
        missed = super().unmatched()
        frames = (
            f"{name}, frame {frame}"
            for name, left in zip(self.shown, self._left, strict=True)
            if name not in missed
            for frame in sorted(left)
        )
        return [*missed, *frames]


class _Table:
    """The rows of a table, by picture."""

    def __init__(self, path: Path) -> None:
        self.path, self.classes = path, dict[str, int]()
        self._pictures: dict[str, list[_Row]] = defaultdict(list)
        lines = _read_lines(path)
        self._columns = _Columns(path, next(lines, (0, list[str]()))[1])
        for number, fields in lines:
            self._add(Entry(path, f"line {number}"), fields)
        self._names = list(self._pictures)

    def region_file(self) -> RegionFile:
        names = list(self.classes) if self._columns.label is not None else None
        if self._columns.image is not None:
            rows = self._pictures.values()
            asked = [{row.frame for row in of if row.frame is not None} for of in rows]
            entries = _Names(self.path, self._names, asked)
            return RegionFile(self.path, entries, self._read, class_names=names)
        numbers = [int(name) for name in self._names]
        frames = NumberedEntries(self.path, numbers, noun="frame")
        return RegionFile(self.path, frames, self._read, class_names=names)

    def _read(self, index: int, picture: Picture) -> list[Region]:
        return [
            replace(row.region, box=row.entry.clip(row.region.box, picture.size))
            for row in self._pictures[self._names[index]]
            if picture.frame is None or row.frame in (None, picture.frame)
        ]

    def _add(self, entry: Entry, fields: list[str]) -> None:
        columns = self._columns
        if len(fields) != columns.count:
            raise entry.error(
                f"has {len(fields)} values, expected {columns.count} as in the first line",
                "correct it",
            )
        frame = _value(fields, columns.frame)
        number = None if frame is None else entry.parse_whole(frame, "frame")
        if number is not None and number < 0:
            raise entry.error(f"has the frame {number}, expected numbers from 0 on", "correct it")
        name = str(number) if columns.image is None else _value(fields, columns.image)
        if name is None or (columns.image is None and number is None):
            raise entry.error("names no picture", "fill its column image or frame")
        self._pictures[name].append(_Row(entry, self._region(entry, fields), number))

    def _region(self, entry: Entry, fields: list[str]) -> Region:
        columns = self._columns
        x, y, width, height = (entry.parse(fields[i], name) for name, i in columns.box)
        if columns.corners:
            width, height = width - x, height - y
        label, track = _value(fields, columns.label), _value(fields, columns.track)
        score = _value(fields, columns.score)
        number = None if track is None else entry.parse_whole(track, "track")
        return Region(
            box=entry.box(x, y, width, height),
            category=None if label is None else self.classes.setdefault(label, len(self.classes)),
            track=None if number is None or number < 0 else number,
            score=None if score is None else entry.score(entry.parse(score, "score")),
        )


def open_table(path: Path) -> RegionFile:
    """The boxes of a table.

    Raises:
        InputError: it cannot be read.
        AnnotationError: columns are missing, or a line is not as it should be.
    """
    return _Table(path).region_file()


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not blank."""
    text = read_text(path, kind="a table of boxes")
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as exc:
        raise AnnotationError(
            f"{path}: line {reader.line_num} cannot be read ({exc}): correct it"
        ) from exc


def _value(fields: list[str], index: int | None) -> str | None:
    return None if index is None else fields[index].strip() or None
