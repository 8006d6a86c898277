"""Regions without another model."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from pycocotools import mask as rle

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.geometry import cut_tiles
from atas_deploy.core.region import Region
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.regions import grid_regions, propose

GRID = np.zeros((12, 16), np.intp)
GRID[3:8, 2:7] = 1  # two objects of one kind
GRID[6:11, 10:14] = 1
GRID[0:2, :] = 2  # a strip


def encoded(kinds: np.ndarray = GRID, *, cell: int = 16, noise: float = 0.02) -> Encoded:
    """A picture whose cells have the features of their kind, unit vectors of width 8."""
    rng = np.random.default_rng(0)
    dense = np.eye(8)[kinds] + rng.normal(0, noise, (*kinds.shape, 8))
    dense = (dense / np.linalg.norm(dense, axis=-1, keepdims=True)).astype(np.float32)
    size = kinds.shape[0] * cell, kinds.shape[1] * cell
    return Encoded(size, np.zeros((*size, 3), np.uint8), dense)


def overlaps(regions: list[Region], masks: list[np.ndarray]) -> np.ndarray:
    """Intersection over union of masks, (regions, masks), by counting pixels."""
    found = [region.mask() for region in regions]
    return np.array([[(a & b).sum() / (a | b).sum() for b in masks] for a in found])


def test_every_part_is_found() -> None:
    """Two objects of one kind, apart, a strip, and what is left, each with sharp scores."""
    regions = propose(encoded(), clusters=(2, 3))
    wide = np.kron(GRID, np.ones((16, 16), np.intp))
    first, second = wide == 1, wide == 1
    first[:, 128:] = second[:, :128] = False
    truth = [first, second, wide == 2, wide == 0]
    assert overlaps(regions, truth).max(axis=0).min() > 0.8


def test_masks_are_those_of_the_picture() -> None:
    """At its size, in one piece, with the tightest box, and scores that fall."""
    regions = propose(encoded(cell=13))
    scores = [region.score for region in regions]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[0] <= 1
    for region in regions:
        mask = region.mask()
        assert mask.shape == (156, 208)
        assert Region.from_mask(mask).box == region.box
        assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] == 2


def test_no_two_overlap_too_much() -> None:
    """Whatever the limit, in a picture no finer than parts are; fewer are left with a lower one."""
    rng = np.random.default_rng(0)
    picture = encoded(rng.integers(0, 5, (9, 9)).repeat(2, axis=0), cell=6, noise=0.3)
    counts = []
    for limit in (0.9, 0.5, 0.1):
        codes = [region.rle for region in propose(picture, overlap=limit, most=500)]
        shared = rle.iou(codes, codes, [0] * len(codes)) - np.eye(len(codes))
        assert shared.max() <= limit
        counts.append(len(codes))
    assert counts[0] > counts[1] > counts[2] > 0


def test_small_parts_are_dropped_and_the_best_kept() -> None:
    """None below the least area; with fewer wanted, the first of the same list."""
    picture = encoded(np.random.default_rng(0).integers(0, 4, (12, 16)), noise=0.1)
    regions = propose(picture, least_area=0.03, most=500)
    assert min(region.mask().mean() for region in regions) >= 0.03
    assert propose(picture, least_area=0.99) == []
    few = propose(picture, least_area=0.03, most=3)
    assert [region.rle for region in few] == [region.rle for region in regions[:3]]


def test_rims_are_no_proposals() -> None:
    """Between two things interpolated features are like a third: no thin ring of it is proposed."""
    kinds = np.zeros((12, 16), np.intp)
    kinds[3:9, 2:8] = 1
    kinds[:, 11:] = 2
    dense = np.eye(8, dtype=np.float32)[[0, 1, 0]]
    dense[2] = (dense[0] + dense[1]) / np.sqrt(2)
    picture = encoded(kinds)
    regions = propose(Encoded(picture.size, picture.fitted, dense[kinds]), clusters=(3,), most=500)
    wide = np.kron(kinds, np.ones((16, 16), np.intp))
    square = np.zeros(wide.shape, np.bool_)
    square[48:144, 32:128] = True
    assert overlaps(regions, [square, wide == 2]).max(axis=0).min() > 0.7
    assert len(regions) == 3


def test_equal_arguments_give_equal_proposals() -> None:
    """To the pixel."""
    picture = encoded(np.random.default_rng(0).integers(0, 6, (14, 14)), noise=0.4)
    one, two = propose(picture), propose(picture)
    assert [region.rle for region in one] == [region.rle for region in two]
    assert [region.score for region in one] == [region.score for region in two]


def test_score_is_contrast_by_the_root_of_the_area() -> None:
    """Written out for an object on whole cells of a picture without noise."""
    kinds = np.zeros((8, 8), np.intp)
    kinds[2:6, 2:6] = 1
    [around, inside] = propose(encoded(kinds, noise=0), clusters=(2,))
    assert overlaps([inside], [np.kron(kinds, np.ones((16, 16))) == 1])[0, 0] > 0.9
    assert inside.score == pytest.approx(np.sqrt(inside.mask().mean()), abs=0.03)
    assert around.score == pytest.approx(np.sqrt(around.mask().mean()), abs=0.05)


def test_large_picture_has_the_parts_of_a_small_one() -> None:
    """They are found at a smaller size and enlarged, to a pixel or two."""
    small, large = propose(encoded(cell=16)), propose(encoded(cell=128))
    assert large[0].rle["size"] == [1536, 2048]
    wide = [np.kron(region.mask(), np.ones((8, 8))) > 0 for region in small[:3]]
    assert overlaps(large[:3], wide).diagonal().min() > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2)])
def test_picture_of_one_colour_or_of_few_cells(shape: tuple[int, int]) -> None:
    """One proposal at least, no failure."""
    regions = propose(encoded(np.zeros(shape, np.intp), noise=0))
    assert overlaps(regions, [np.ones((16 * shape[0], 16 * shape[1]), np.bool_)]).max() == 1


def test_wide_features_are_projected() -> None:
    """Far apart in 512 dimensions is far apart in the few that are clustered."""
    picture = encoded()
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(512, 8)))[0].astype(np.float32)
    wide = Encoded(picture.size, picture.fitted, picture.dense @ basis.T)
    narrow, found = propose(picture, clusters=(2, 3)), propose(wide, clusters=(2, 3))
    masks = [region.mask() for region in narrow]
    assert overlaps(found, masks).max(axis=0).min() > 0.8


def test_features_need_not_be_unit_vectors() -> None:
    """Those of windows are means; only their direction counts."""
    picture = encoded()
    longer = Encoded(picture.size, picture.fitted, 0.25 * picture.dense)
    assert [r.rle for r in propose(longer)] == [r.rle for r in propose(picture)]


@pytest.mark.parametrize(
    "setting",
    [{"most": 0}, {"clusters": (2, 0)}, {"least_area": 1.2}, {"overlap": -1}, {"overlap": np.nan}],
)
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, object]) -> None:
    """Each with what was expected."""
    with pytest.raises(ConfigError, match="expected a"):
        propose(encoded(), **setting)


def test_windows_merged_as_pixels_are_refused() -> None:
    """Their features are no map of the picture."""
    tiles = cut_tiles((48, 80), window=32, stride=16)
    picture = Encoded((48, 80), np.zeros((48, 80, 3), np.uint8), np.zeros((2, 4, 4, 4, 5)), tiles)
    with pytest.raises(ConfigError, match="merge features"):
        propose(picture)


def test_grid_covers_the_picture() -> None:
    """Row by row, without gap or overlap, also where sides do not divide."""
    regions = grid_regions((90, 100), 2, 3)
    assert regions[1].box == pytest.approx((100 / 3, 0, 200 / 3, 45))
    corners = [region.box[:2] for region in regions]
    assert corners == sorted(corners, key=lambda corner: corner[::-1])
    assert sum(np.prod(region.size) for region in regions) == pytest.approx(9000)
    with pytest.raises(ConfigError, match="expected a whole number of rows above 0"):
        grid_regions((90, 100), 0, 3)


def segments(shared_data: Path, count: int) -> list[tuple[Path, list[dict[str, object]]]]:
    """Pictures of the development set with the masks of their panoptic segments."""
    folder = shared_data / "coco_panoptic_100"
    listing = json.loads((folder / "panoptic.json").read_text())
    names = {entry["id"]: entry["file_name"] for entry in listing["images"]}
    found = []
    for entry in listing["annotations"][:count]:
        pixels = np.asarray(Pillow.open(folder / "panoptic" / entry["file_name"]).convert("RGB"))
        ids = pixels.astype(np.int64) @ [1, 256, 65536]
        masks = [
            rle.encode(np.asfortranarray(ids == segment["id"], np.uint8))
            for segment in entry["segments_info"]
        ]
        found.append((folder / "images" / Path(names[entry["image_id"]]).name, masks))
    return found


def test_proposals_find_more_than_a_grid_does(shared_data: Path) -> None:
    """Twice as many panoptic segments at an overlap of a half as the boxes of five grids."""
    encoder = Encoders().dense()
    hits = np.zeros(2)
    for path, masks in segments(shared_data, 6):
        picture = encoder(path)
        grids = [box for n in range(1, 6) for box in grid_regions(picture.size, n, n)]
        boxes = []
        for region in grids:
            mask = np.zeros(picture.size, np.uint8, order="F")
            x0, y0, x1, y1 = np.round(region.box).astype(int)
            mask[y0:y1, x0:x1] = 1
            boxes.append(rle.encode(mask))
        proposed = [region.rle for region in propose(picture)]
        for index, codes in enumerate((proposed, boxes)):
            best = rle.iou(codes, masks, [0] * len(masks)).max(axis=0)
            hits[index] += (best >= 0.5).sum()
    assert hits[0] >= 2 * hits[1] > 0
