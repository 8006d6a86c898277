"""Boxes in a table: CSV with a header, separated by commas, semicolons or tabs."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.matching import Entries, NamedEntries, NumberedEntries
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.annotations.text import read_text

_IMAGE = ("image", "file", "filename", "file_name", "image_name", "path", "imageid")
_OURS = "region"  # a column of the tables of named regions, where `source` is the picture
_FRAME = ("frame",)
_LABEL = ("label", "class", "category", "name")
_TRACK = ("track", "track_id", "id")
_SCORE = ("score", "confidence", "conf")
_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"))
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))


class _Row(NamedTuple):
    line: int
    region: Region


class _Columns:
    """Where a table has what."""

    def __init__(self, path: Path, header: list[str]) -> None:
        self._index = {name.strip().casefold(): i for i, name in enumerate(header)}
        self.count = len(header)
        further = ("source", "image_id") if _OURS in self._index else ("image_id", "source")
        self.image, self.frame = self._find((*_IMAGE, *further)), self._find(_FRAME)
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
        unseen = {*missed}
        frames = (
            f"{name}, frame {frame}"
            for name, left in zip(self.shown, self._left, strict=True)
            if name not in unseen
            for frame in sorted(left)
        )
        return [*missed, *frames]


class _Table:
    """The rows of a table, by picture and frame; the frame None is every one."""

    def __init__(self, path: Path) -> None:
        self.path, self.classes, self._faults = path, dict[str, int](), Faults()
        self._pictures: dict[str, dict[int | None, list[_Row]]] = defaultdict(dict)
        self._largest: float | None = None  # of the corners
        lines = _read_lines(path)
        self._columns = _Columns(path, next(lines, (0, list[str]()))[1])
        for number, fields in lines:
            self._add(number, fields)
        if self._largest is not None and self._largest <= 1:
            raise AnnotationError(
                f"{path} has boxes from 0 to 1 only, expected pixels: multiply x by the width and "
                "y by the height of the picture"
            )
        self._names = list(self._pictures)

    def region_file(self) -> RegionFile:
        names = list(self.classes) if self._columns.label is not None else None
        entries: Entries
        if self._columns.image is not None:
            frames = [{f for f in rows if f is not None} for rows in self._pictures.values()]
            entries = _Names(self.path, self._names, frames)
        else:
            entries = NumberedEntries(self.path, [int(n) for n in self._names], noun="frame")
        return RegionFile(self.path, entries, self._read, faults=self._faults, class_names=names)

    def _read(self, index: int, picture: Picture) -> list[Region]:
        frames = self._pictures[self._names[index]]
        asked = {None, picture.frame} if picture.frame is not None else frames
        rows = sorted((row for f in asked for row in frames.get(f, ())), key=itemgetter(0))

        def clip(row: _Row) -> Region:
            box = self._entry(row.line).clip(row.region.box, picture.size)
            return replace(row.region, box=box)

        return self._faults.collect(rows, clip)

    def _entry(self, line: int) -> Entry:
        return Entry(self.path, f"line {line}")

    def _add(self, line: int, fields: list[str]) -> None:
        columns, entry = self._columns, self._entry(line)
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
        rows = self._pictures[name].setdefault(number, [])
        if any(_value(fields, i) for _, i in columns.box):
            rows.append(_Row(line, self._region(entry, fields)))

    def _region(self, entry: Entry, fields: list[str]) -> Region:
        columns = self._columns
        x, y, width, height = (entry.parse(fields[i], name) for name, i in columns.box)
        if columns.corners:
            width, height = width - x, height - y
        label, track = _value(fields, columns.label), _value(fields, columns.track)
        score = _value(fields, columns.score)
        number = None if track is None else entry.parse_whole(track, "track")
        box = entry.box(x, y, width, height)
        self._largest = max(box[2:] if self._largest is None else (self._largest, *box[2:]))
        return Region(
            box=box,
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
