"""Damaged files end in one sentence or in regions that fit the picture, never in anything else."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atas_deploy.core.errors import InputError
from atas_deploy.media.annotations import Picture, open_boxes, open_masks

KNOWN = {"image_id": 7, "category_id": 18}
COCO = {
    "images": [{"id": 7, "file_name": "one.jpg", "height": 4, "width": 6}],
    "categories": [{"id": 18, "name": "dog"}],
    "annotations": [
        {"id": 1, **KNOWN, "segmentation": [[2, 1, 5, 1, 5, 3, 2, 3]]},
        {"id": 2, **KNOWN, "segmentation": {"size": [4, 6], "counts": "04d0"}},
        {"id": 3, **KNOWN, "segmentation": {"size": [4, 6], "counts": [0, 24]}},
    ],
}
FILES = {
    "a.json": json.dumps(COCO),
    "one.txt": "0 0.5 0.5 0.1 0.2 0.9\n2 0.25 0.25 0.75 0.25 0.75 0.75\n",
    "gt.txt": "1,2,1,1,3,3,1,1,0.8\n2,3,1,1,2,2,0,8,1\n",
    "b.csv": "image,frame,x0,y0,x1,y1,label,score\none.jpg,0,1,1,2,2,dog,0.5\n",
}
PICTURES = [Picture("one.jpg", (4, 6)), Picture("1.jpg", (4, 6)), Picture("a.mp4", (4, 6), 0)]
SCRAPS = st.sampled_from(
    [b"", b"-1", b"null", b"[]", b"{}", b"1e999", b"NaN", b'"x"', b"9" * 20, b"\xff", b"\0", b","]
)


@pytest.mark.parametrize("name", FILES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), SCRAPS), min_size=1, max_size=3))
def test_damage(name: str, tmp_path: Path, damage: list[tuple[float, int, bytes]]) -> None:
    """Whatever takes the place of some bytes, regions lie inside of the picture and have pixels."""
    data = FILES[name].encode()
    for place, length, scrap in damage:
        at = int(place * len(data))
        data = data[:at] + scrap + data[at + length :]
    (tmp_path / name).write_bytes(data)
    for opened in (open_boxes, open_masks):
        for picture in PICTURES:
            with suppress(InputError):
                for region in opened(tmp_path / name).regions(picture):
                    x0, y0, x1, y1 = region.box
                    assert 0 <= x0 < x1 <= 6
                    assert 0 <= y0 < y1 <= 4
                    assert region.rle is None or region.mask().any()


@pytest.mark.parametrize("name", FILES)
def test_no_damage(name: str, write) -> None:
    """The files are whole before that."""
    opened = open_masks if name == "a.json" else open_boxes
    file = opened(write(name, FILES[name]))
    assert file.regions(PICTURES[2] if name == "gt.txt" else PICTURES[0])
