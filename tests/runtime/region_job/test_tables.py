"""Tests of the tables of a run, which hold the same pictures."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import OutputError
from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.media.annotations import Picture
from atas_deploy.runtime.region_job import GridRegions
from atas_deploy.runtime.region_job.tables import Tables


def named(*, crumbs: int) -> NamedRegions:
    """One region, a mask with some odd pixels, whose run lengths are long in COCO's table only."""
    mask = np.zeros((100, 100), np.bool_)
    mask.flat[np.random.default_rng(0).permutation(mask.size)[: crumbs + 1]] = True
    labels, scores = np.array([[1]]), np.array([[0.5]], np.float32)
    return NamedRegions((Region.from_mask(mask),), ("dog",), labels, scores)


def test_a_picture_is_in_both_tables_or_in_none(tmp_path: Path) -> None:
    """What only one of them takes, as a limit of file sizes is met, is in neither."""
    resource = pytest.importorskip("resource")  # not on Windows
    tables = Tables(tmp_path, top=1, regions_from=GridRegions(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
        for name, crumbs in (("a.png", 1), ("b.png", 3000), ("c.png", 1)):
            picture = Picture(name, (100, 100))
            if crumbs == 3000:
                with pytest.raises(OutputError, match="coco_results"):
                    tables.write(name, picture, named(crumbs=crumbs), name=name)
            else:
                tables.write(name, picture, named(crumbs=crumbs), name=name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    tables.close()
    with (tmp_path / "regions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    results = json.loads((tmp_path / "coco_results.json").read_text())
    assert [row["source"] for row in rows] == ["a.png", "c.png"]
    assert [row["image_id"] for row in results] == [int(row["image_id"]) for row in rows]
