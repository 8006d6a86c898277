"""Run lengths and polygons, compared with pycocotools."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as rle

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.coco_row import read_coco
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.masks import label_rles, read_mask, tight_box

ENTRY = Entry(Path("x.json"), "annotation 5")
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def decoded(code: Any) -> np.ndarray:
    """The mask (H, W) of run lengths."""
    return np.asarray(rle.decode(code), bool)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, column by column, from 0 on."""
    counts, last = [0], 0
    for value in mask.T.ravel().astype(int).tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


def through_json(value: Any, write) -> Any:
    """A segmentation as it comes out of a file."""
    return read_coco(write("x.json", {"segmentation": value}))["segmentation"]


@given(arrays.arrays(np.bool_, SIZES))
def test_both_kinds_of_run_lengths_come_back(mask: np.ndarray) -> None:
    """Compressed by pycocotools or written as a list, a mask is read to the pixel."""
    if not mask.any():
        mask[0, 0] = True
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    size = list(mask.shape)
    for counts in (code["counts"].decode(), np.array(run_lengths(mask))):
        found = read_mask({"size": size, "counts": counts}, mask.shape, ENTRY)
        assert found["counts"] == code["counts"]
        np.testing.assert_array_equal(decoded(found), mask)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_damaged_text_is_refused_or_whole(text: str) -> None:
    """Run lengths that are read fill the picture, whatever the text."""
    with suppress(AnnotationError):
        found = decoded(read_mask({"size": [5, 7], "counts": text}, (5, 7), ENTRY))
        assert sum(run_lengths(found)) == 35
        assert rle.decode({"size": [5, 7], "counts": text}).tolist() == found.tolist()


@given(
    st.lists(
        st.lists(st.floats(-8, 30, width=32), min_size=6, max_size=12).filter(
            lambda values: len(values) % 2 == 0
        ),
        min_size=1,
        max_size=3,
    )
)
def test_polygons_are_those_of_pycocotools(polygons: list[list[float]]) -> None:
    """The union is that of pycocotools; what it draws as nothing is refused or has a pixel."""
    expected = rle.merge(rle.frPyObjects(polygons, 20, 24))
    try:
        found = read_mask([np.array(polygon) for polygon in polygons], (20, 24), ENTRY)
    except AnnotationError:
        assert rle.area(expected) == 0
    else:
        assert rle.area(found) == 1 if rle.area(expected) == 0 else found == expected


@given(arrays.arrays(np.uint8, SIZES, elements=st.integers(0, 5)))
def test_label_maps_are_split_in_one_pass(labels: np.ndarray) -> None:
    """Each value has the run lengths that pycocotools makes of its mask."""
    found = dict(label_rles(labels))
    assert sorted(found) == np.unique(labels).tolist()
    for value, code in found.items():
        assert code == rle.encode(np.asfortranarray(labels == value, np.uint8))


def test_tight_box_is_that_of_a_region() -> None:
    """From the first to behind the last column and row."""
    mask = np.zeros((5, 9), bool)
    mask[1:3, 4:8] = True
    region = Region.from_mask(mask)
    assert tight_box(region.rle or {}) == region.box == (4, 1, 8, 3)


def test_a_polygon_of_less_than_a_pixel_has_one(write) -> None:
    """COCO has such; the pixel at its middle stands for it."""
    value = through_json([[3.1, 2.1, 3.2, 2.1, 3.2, 2.2]], write)
    assert tight_box(read_mask(value, (4, 6), ENTRY)) == (3, 2, 4, 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"size": [4, 7], "counts": [0, 28]}, r"size \(height, width\) \[4, 7\], .* is \[4, 6\]"),
        ({"counts": [0, 24]}, r"size \(height, width\) None"),
        ({"size": [4, 6], "counts": [0, 4, 19]}, "run lengths of 23 pixels, .* has 24"),
        ({"size": [4, 6], "counts": [0, -4, 28]}, "damaged run lengths"),
        ({"size": [4, 6], "counts": []}, "damaged run lengths"),
        ({"size": [4, 6], "counts": [0, 2**62, 2**62]}, "damaged run lengths"),
        ({"size": [4, 6], "counts": [0, 2**70]}, "damaged run lengths"),
        ({"size": [4, 6], "counts": [0, 4.5, 19.5]}, "damaged run lengths"),
        ({"size": [4, 6], "counts": "04"}, "run lengths of 4 pixels"),
        ({"size": [4, 6], "counts": "04d"}, "damaged run lengths"),
        ({"size": [4, 6], "counts": "0" + "o" * 60}, "damaged run lengths"),
        ({"size": [4, 6], "counts": "犬"}, "damaged run lengths"),
        ({"size": [4, 6], "counts": ""}, "damaged run lengths"),
        ({"size": [4, 6]}, "damaged run lengths"),
        ({"size": [4, 6], "counts": [24]}, "mask without a pixel"),
        ([[1, 1, 2, 2]], "polygon of 4 numbers, expected x, y of three points or more"),
        ([[1, 1, 2, 2, 3, 3, 4]], "polygon of 7 numbers"),
        ([[1, 1, 2, 2, 3, "3"]], "polygon that is no list of numbers"),
        ([1, 1, 2, 2, 3, 3], "polygon that is no list of numbers"),
        ([[1, 1, 2, 2, 3, float("nan")]], "polygon that is no list of numbers"),
        ([[7, 1, 8, 1, 8, 3]], "polygons that lie outside of the picture of 6 x 4 pixels"),
        ([[1, 1, 9e9, 1, 3, 3]], "polygon that reaches far out of the picture"),
        ("mask.png", "the segmentation 'mask.png', expected polygons or run lengths"),
    ],
)
def test_bad_masks(value: Any, message: str, write) -> None:
    """Each is one sentence that names the file and the entry."""
    with pytest.raises(AnnotationError, match=f"^x.json: annotation 5 has .*{message}.*: "):
        read_mask(through_json(value, write), (4, 6), ENTRY)
