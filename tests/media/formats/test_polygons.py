"""Tests of the polygon file."""

import json
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.media.formats import write_polygons
from atas_deploy.media.formats.trace import fill_polygons


def test_filled_polygons_are_the_label_maps(tmp_path: Path, items, maps) -> None:
    """Each line is an image whose polygons fill to its label map."""
    write_polygons(tmp_path / "polygons.jsonl", items())
    lines = (tmp_path / "polygons.jsonl").read_text().splitlines()
    for line, (name, labels) in zip(lines, maps.items(), strict=True):
        row = json.loads(line)
        assert row["image"] == f"{name}.jpg"
        back = np.zeros_like(labels)
        for entry in row["classes"]:
            assert entry["geometry"]["type"] == "MultiPolygon"
            filled = fill_polygons(entry["geometry"]["coordinates"], row["height"], row["width"])
            back[filled] = entry["id"]
        np.testing.assert_array_equal(back, labels)


def test_classes_are_those_of_the_results(tmp_path: Path, items) -> None:
    """Beside its geometry a class has what results.jsonl says of it."""
    write_polygons(tmp_path / "a.jsonl", items(), tolerance=1.5)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for row, item in zip(rows, items(), strict=True):
        assert [entry.pop("geometry")["type"] for entry in row["classes"]] == [
            "MultiPolygon"
        ] * len(item.classes)
        assert row["classes"] == item.classes


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_impossible_tolerances_are_refused(tmp_path: Path, tolerance: float) -> None:
    """A tolerance that is no distance is an error."""
    with pytest.raises(ConfigError, match="expected a number of pixels"):
        write_polygons(tmp_path / "a.jsonl", [], tolerance=tolerance)
