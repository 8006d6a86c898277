"""Rows of counts, and their sums."""

import json

import numpy as np
import pytest

from atas_deploy.core.errors import InputError
from atas_deploy.evaluation import rows as module
from atas_deploy.evaluation.rows import Row, Rows


def some_rows(count: int = 7) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Rows of two vectors, mostly zeros, and the vectors themselves."""
    generator = np.random.default_rng(0)
    a = generator.integers(0, 9, (count, 5)) * (generator.random((count, 5)) < 0.4)
    b = generator.random((count, 2))
    rows = Rows()
    for i in range(count):
        rows.add(Row(f"{i}.jpg", {"a": a[i], "b": b[i]}))
    return rows, a, b


def test_totals_are_sums() -> None:
    """Of each vector, over all rows."""
    rows, a, b = some_rows()
    np.testing.assert_array_equal(rows.totals()["a"], a.sum(0))
    np.testing.assert_allclose(rows.totals()["b"], b.sum(0))


def test_sums_are_weighted(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows fit into memory at once: here two."""
    rows, a, _ = some_rows()
    weights = np.random.default_rng(1).integers(0, 3, (5, 7))
    monkeypatch.setattr(module, "AT_ONCE", 14)
    expected = [sum(weights[r, i] * a[i] for i in range(7)) for r in range(5)]
    np.testing.assert_array_equal(rows.sums(weights)["a"], expected)


def test_a_number_is_a_vector() -> None:
    """A count of its own need be no list."""
    rows = Rows()
    rows.add(Row("x", {"right": 3, "all": True}))
    assert {name: sums.tolist() for name, sums in rows.totals().items()} == {
        "right": [3],
        "all": [1],
    }


def test_rows_must_be_alike() -> None:
    """Another length is a mistake of ours."""
    rows, _, _ = some_rows()
    with pytest.raises(ValueError, match="row y has"):
        rows.add(Row("y", {"a": [1], "b": [1, 2]}))


def test_lines_bring_rows_back() -> None:
    """Through JSON, with names and sums."""
    rows, _, _ = some_rows()
    lines = [json.loads(json.dumps(line)) for line in rows.lines()]
    again = Rows.from_lines(rows.widths, iter(lines))
    assert again.names == rows.names
    assert {k: v.tolist() for k, v in again.totals().items()} == {
        k: v.tolist() for k, v in rows.totals().items()
    }


@pytest.mark.parametrize(
    "line",
    [
        {"name": "x", "columns": [7], "values": [1]},
        {"name": "x", "columns": [-1], "values": [1]},
        {"name": "x", "columns": [0, 1], "values": [1]},
        {"name": "x", "columns": "no", "values": [1]},
        {"name": "x", "values": [1]},
    ],
)
def test_damaged_lines_are_refused(line: dict[str, object]) -> None:
    """The sentence names the row."""
    with pytest.raises(InputError, match="row 1 is damaged"):
        Rows.from_lines({"a": 5, "b": 2}, iter([line]))
