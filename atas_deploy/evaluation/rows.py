"""Rows of counts, one for each image, from which every score and its interval are computed.

A score is a function of sums over images, such as intersections and unions; an image's row is what
it adds to them. Rows are kept sparse: an image has few of the classes.

N rows, R replicates, K counts
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError

FloatArray = npt.NDArray[np.float64]
Counts = Mapping[str, FloatArray]
"""Sums by name, each (..., K); leading axes are replicates."""

Measure = Callable[[Counts], Mapping[str, FloatArray]]
"""From sums to scores by name, (...), for any leading axes; NaN where there is none."""

AT_ONCE = 4_000_000
"""Numbers in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What one image (or video) adds.

    Attributes:
        name: which image.
        counts: vectors by name; the same names and lengths in every row of a task.
    """

    name: str
    counts: Mapping[str, npt.ArrayLike]


@dataclass(slots=True)
class Rows:
    """The rows of a task, sparse.

    Attributes:
        names: of the images.
        widths: length of each vector by name, in the order of the first row.
    """

    names: list[str] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)
    _columns: list[npt.NDArray[np.intp]] = field(default_factory=list)
    _values: list[FloatArray] = field(default_factory=list)

    def __len__(self) -> int:
        """N."""
        return len(self.names)

    def add(self, row: Row) -> None:
        """Take in a row.

        Raises:
            ValueError: its vectors are not those of the rows before.
        """
        vectors = {name: np.atleast_1d(np.asarray(v, float)) for name, v in row.counts.items()}
        widths = {name: len(vector) for name, vector in vectors.items()}
        if self.names and widths != self.widths:
            raise ValueError(f"row {row.name} has {widths}, expected {self.widths}")
        self.widths = widths
        flat = np.concatenate(list(vectors.values()))
        columns = np.flatnonzero(flat)
        self.names.append(row.name)
        self._columns.append(columns)
        self._values.append(flat[columns])

    def totals(self) -> dict[str, FloatArray]:
        """Sums over all rows, (K,) each."""
        return {name: sums[0] for name, sums in self.sums(np.ones((1, len(self)))).items()}

    def sums(self, weights: npt.NDArray[np.generic]) -> dict[str, FloatArray]:
        """Sums over weighted rows, (R, K) each.

        Args:
            weights: (R, N): how often each row counts in each of R sums.
        """
        sums = np.zeros((len(weights), sum(self.widths.values())))
        for some in self._blocks():
            sums += weights[:, some].astype(np.float64) @ self._dense(some)
        return self._by_name(sums)

    def single(self) -> Iterator[dict[str, FloatArray]]:
        """The rows themselves, (r, K) each, some at a time, in order."""
        for some in self._blocks():
            yield self._by_name(self._dense(some))

    def _blocks(self) -> Iterator[slice]:
        """Rows that fit into memory at once, all side by side."""
        step = max(1, AT_ONCE // max(1, sum(self.widths.values())))
        return (slice(start, start + step) for start in range(0, len(self), step))

    def _by_name(self, sums: FloatArray) -> dict[str, FloatArray]:
        ends = np.cumsum(list(self.widths.values()))
        return {
            name: sums[:, end - length : end]
            for (name, length), end in zip(self.widths.items(), ends, strict=True)
        }

    def _dense(self, some: slice) -> FloatArray:
        """Some of the rows, all vectors side by side."""
        columns, values = self._columns[some], self._values[some]
        dense = np.zeros((len(columns), sum(self.widths.values())))
        for row, places, found in zip(dense, columns, values, strict=True):
            row[places] = found
        return dense

    def lines(self) -> Iterator[dict[str, Any]]:
        """JSON-ready rows: name, columns and values; see `from_lines`."""
        for name, columns, values in zip(self.names, self._columns, self._values, strict=True):
            plain = [int(value) if value.is_integer() else value for value in values.tolist()]
            yield {"name": name, "columns": columns.tolist(), "values": plain}

    @classmethod
    def from_lines(cls, widths: Mapping[str, int], lines: Iterator[Mapping[str, Any]]) -> "Rows":
        """Rows that `lines` gave.

        Raises:
            InputError: a line is no such row.
        """
        rows = cls(widths={name: int(width) for name, width in widths.items()})
        most = sum(rows.widths.values())
        for number, line in enumerate(lines, 1):
            try:
                columns = np.asarray(line["columns"], np.intp)
                values = np.asarray(line["values"], np.float64)
                fits = columns.shape == values.shape == (columns.size,)
            except (KeyError, OverflowError, TypeError, ValueError) as exc:
                raise InputError(f"row {number} is damaged ({exc})") from exc
            if not fits or (columns >= most).any() or (columns < 0).any():
                raise InputError(f"row {number} is damaged (its columns and values do not match)")
            rows.names.append(str(line.get("name")))
            rows._columns.append(columns)
            rows._values.append(values)
        return rows
