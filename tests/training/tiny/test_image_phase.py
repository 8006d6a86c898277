"""The second phase: mosaics and boxes."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from atas_deploy.training.tiny.features import GRID, random_boxes
from atas_deploy.training.tiny.image_phase import Layout, arrange, pool_boxes, split_cells


@given(count=st.integers(1, 3), grid=st.integers(1, 3), n=st.integers(1, 3))
def test_cells_are_where_their_images_are(count: int, grid: int, n: int) -> None:
    """Arranging images, cutting patches and splitting cells is the identity."""
    layout = Layout(count, grid, 16 * n)
    images = torch.rand(count * grid**2, 3, layout.cell, layout.cell)
    canvas = arrange(images, layout)
    patches = F.avg_pool2d(canvas, 16).permute(0, 2, 3, 1)
    expected = F.avg_pool2d(images, 16).permute(0, 2, 3, 1)
    torch.testing.assert_close(split_cells(patches, grid), expected)


def test_boxes_pool_the_patches_inside() -> None:
    """A box on the left of the image is on the right of its mirror image."""
    patches = torch.zeros(2, GRID, GRID, 2)
    patches[..., 0] = 1
    patches[0, :, :7] = torch.tensor([0.0, 1.0])
    patches[1, :, 7:] = torch.tensor([0.0, 1.0])
    boxes = np.tile(np.array([[0, 0, GRID, 7]]), (2, 1, 1))
    pooled = pool_boxes(patches, boxes, torch.tensor([False, True]))
    torch.testing.assert_close(pooled, torch.tensor([[0.0, 1.0]] * 2))


def test_boxes_scale_with_the_grid() -> None:
    """On a finer grid the same box covers the same part."""
    coarse = torch.rand(1, GRID, GRID, 4)
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    boxes = random_boxes(1, seed=0)
    upright = torch.tensor([False])
    torch.testing.assert_close(pool_boxes(fine, boxes, upright), pool_boxes(coarse, boxes, upright))


def test_random_boxes_are_inside_and_repeatable() -> None:
    """Sides of 4 to 10 patches, inside the image, the same for the same seed."""
    boxes = random_boxes(50, seed=3)
    sides = boxes[..., 2:] - boxes[..., :2]
    assert boxes.min() >= 0
    assert boxes.max() <= GRID
    assert sides.min() >= 4
    assert sides.max() <= 10
    assert np.array_equal(boxes, random_boxes(50, seed=3))
