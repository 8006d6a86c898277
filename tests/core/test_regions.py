"""Region embeddings against torchvision, PyTorch, OpenCV and the definitions written out."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import roi_align as torchvision_roi_align

from atas_deploy.core.errors import InputError
from atas_deploy.core.regions import pool_boxes, pool_masks, resize_bicubic, roi_align

SEEDS = st.integers(0, 10**6)
SIDES = st.integers(1, 30)


def random_boxes(rng: np.random.Generator, grid: tuple[int, int]) -> np.ndarray:
    """Boxes (K, 4) of all sizes inside, partly outside and outside a grid, some of zero size."""
    count = 200
    centre = rng.uniform(-0.6, 1.6, (count, 2)) * grid[::-1]
    half = rng.uniform(0, 1, (count, 2)) * rng.choice([0, 0.1, 0.5, 2, *grid], (count, 1))
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    whole = rng.random(count) < 0.3  # on the borders of cells, where rounding decides
    boxes[whole] = np.round(boxes[whole])
    return boxes


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, grid=st.tuples(SIDES, SIDES), double=st.booleans())
def test_roi_align_equals_torchvision(seed: int, grid: tuple[int, int], double: bool) -> None:
    """Boxes of any place and size, to the accuracy of either float type."""
    rng = np.random.default_rng(seed)
    dtype, limit = (np.float64, 1e-13) if double else (np.float32, 1e-5)
    dense = rng.normal(size=(*grid, 3)).astype(dtype)
    boxes = random_boxes(rng, grid).astype(dtype)
    expected = torchvision_roi_align(
        torch.tensor(dense).permute(2, 0, 1)[None],
        [torch.tensor(boxes)],
        output_size=1,
        sampling_ratio=-1,
        aligned=True,
    )
    found = roi_align(dense, boxes)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected[..., 0, 0].numpy(), rtol=0, atol=limit)


def test_roi_align_takes_boxes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many boxes need no more memory than the limit, and get the same result."""
    rng = np.random.default_rng(0)
    dense, boxes = rng.normal(size=(7, 9, 3)), random_boxes(rng, (7, 9))
    whole = roi_align(dense, boxes)
    monkeypatch.setattr("atas_deploy.core.regions._AT_ONCE", 1000)
    np.testing.assert_allclose(roi_align(dense, boxes), whole, atol=1e-14)


@pytest.mark.parametrize("box", [(3, 2, 1, 4), (1, 4, 3, 2), (3, 4, 1, 2), (2, 2, 2, 4)])
def test_box_without_area_is_zero(box: tuple[int, ...]) -> None:
    """Of zero or negative width or height, where torchvision fails on some."""
    dense = np.ones((5, 6, 2), np.float32)
    assert not pool_boxes(dense, [box], size=(5, 6)).any()


def test_boxes_are_in_pixels_of_the_picture() -> None:
    """Each side is scaled by itself, and boxes in [0, 1] are those of a picture of size 1 x 1."""
    rng = np.random.default_rng(0)
    dense, boxes = rng.normal(size=(4, 9, 3)), random_boxes(rng, (4, 9))
    pooled = roi_align(dense, boxes)
    lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
    expected = np.divide(pooled, lengths, out=np.zeros_like(pooled), where=lengths > 0)
    sides = np.array([9, 4, 9, 4])
    found = pool_boxes(dense, boxes * 16 * [2, 1, 2, 1], size=(64, 288))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    found = pool_boxes(dense, boxes / sides, size=(1, 1))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_box_reaching_far_out_is_no_burden() -> None:
    """A box of any finite size is pooled; all but a trace of it is zero."""
    found = roi_align(np.ones((3, 4, 1), np.float32), [[-1e30, -1e30, 1e30, 1e30]])
    assert 0 <= found[0, 0] < 1e-6


@pytest.mark.parametrize("boxes", [[1, 2, 3, 4], [[1, 2, 3]], [[0, 0, np.nan, 1]]])
def test_boxes_of_another_kind_are_refused(boxes: list[object]) -> None:
    """One box without its list, three numbers, not finite."""
    with pytest.raises(InputError, match=r"expected \(K, 4\) finite numbers"):
        pool_boxes(np.ones((2, 2, 3), np.float32), boxes, size=(8, 8))


def test_no_regions_give_no_embeddings() -> None:
    """Empty lists are lists."""
    dense = np.ones((2, 2, 3), np.float32)
    assert pool_boxes(dense, [], size=(8, 8)).shape == (0, 3)
    assert pool_masks(dense, []).shape == (0, 3)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES))
def test_bicubic_equals_pytorch_and_opencv(
    seed: int, old: tuple[int, int], new: tuple[int, int]
) -> None:
    """Enlarging and shrinking, from one pixel on; OpenCV computes in float32."""
    values = np.random.default_rng(seed).random(old)
    found = resize_bicubic(values, new)
    expected = F.interpolate(torch.tensor(values)[None, None], new, mode="bicubic")[0, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)
    by_opencv = cv2.resize(values.astype(np.float32), new[::-1], interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(found, by_opencv, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.tuples(SIDES, SIDES), share=st.sampled_from([0.1, 0.5, 0.9]))
def test_mask_embedding_equals_its_definition(
    seed: int, size: tuple[int, int], share: float
) -> None:
    """Every cell whose interpolated value is above zero, by rounding aside, counts as one."""
    rng = np.random.default_rng(seed)
    dense, masks = rng.normal(size=(4, 5, 3)), rng.random((6, *size)) < share
    values = F.interpolate(torch.tensor(masks)[:, None].double(), (4, 5), mode="bicubic")[:, 0]
    found = pool_masks(dense, masks)
    for embedding, cells in zip(found, values.numpy() > 1e-9, strict=True):
        if cells.any():
            mean = dense[cells].mean(axis=0)
            np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-9)


def test_pixel_that_interpolation_weighs_zero_does_not_count() -> None:
    """Cell 13 of 27 is centred on pixel 213 of 427, though 427 / 27 is rounded."""
    dense = np.eye(27 * 27).reshape(27, 27, -1)
    mask = np.ones((427, 427), bool)
    mask[:, 213] = False
    cells = pool_masks(dense, [mask])[0].reshape(27, 27) > 0
    assert not cells[:, 13].any()
    assert cells.sum() == 27 * 26


def test_mask_between_the_centres_of_cells_gets_the_cells_it_lies_in() -> None:
    """Weighted by pixels: three of a thin line lie in the first cell, one in the second."""
    dense = np.eye(4).reshape(2, 2, 4)
    mask = np.zeros((32, 32), bool)
    mask[0, 13:17] = True
    found = pool_masks(dense, mask[None])[0]
    np.testing.assert_allclose(found, np.array([3, 1, 0, 0]) / np.sqrt(10))


def test_empty_mask_is_zero() -> None:
    """Zeros, no NaN, in the features' type."""
    found = pool_masks(np.ones((2, 3, 4), np.float32), np.zeros((1, 20, 30), bool))
    assert found.dtype == np.float32
    assert not found.any()


def test_mask_without_its_list_is_refused() -> None:
    """One mask (H, W) is not a list of masks."""
    with pytest.raises(InputError, match=r"expected \(H, W\)"):
        pool_masks(np.ones((2, 2, 3), np.float32), np.ones((8, 8), bool))
