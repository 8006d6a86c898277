"""What a kernel needs beside its arrays: tables and scratch memory, on the GPU, for fixed sizes.

A plan is made once for a shape and used again and again, so that nothing is allocated while a
frame is enqueued. Work of one stream may share a plan; work of two streams at a time may not.

H W pixels, h w grid, Q queries that there is room for
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from atas_deploy.backends.kernels.taps import Taps, resize_taps
from atas_deploy.core.geometry import Size
from atas_deploy.core.masks.axis import pixel_axis

_LOGITS = 16_000_000  # at once: bounds the memory when there are many queries


@dataclass(frozen=True, slots=True, eq=False)
class AxisTable:
    """One axis of an image on the GPU.

    Attributes:
        edges: (n + 2,) int32, as of `atas_deploy.core.masks.axis.Axis`.
        fraction: (N,) float32, as there.
        longest: pixels of the longest cell.
    """

    edges: Any
    fraction: Any
    longest: int


@dataclass(frozen=True, slots=True, eq=False)
class TapTable:
    """`Taps` on the GPU: `first` (N,) int32 and `weights` (N, K) float32."""

    first: Any
    weights: Any


@dataclass(frozen=True, slots=True, eq=False)
class ResizePlan:
    """For frames of one size.

    Attributes:
        source: (H, W).
        target: (H', W').
        rows: taps of the output's rows.
        columns: taps of its columns.
    """

    source: Size
    target: Size
    rows: TapTable
    columns: TapTable


@dataclass(frozen=True, slots=True, eq=False)
class LabelPlan:
    """For label maps of one size from grids of one size.

    Attributes:
        grid: (h, w).
        size: (H, W).
        capacity: Q.
        rows: axis of rows.
        columns: axis of columns.
        logits: (r, w, Q) float32 of the grid's rows that are labelled at once.
        top: (h, w) float32 largest logit of each node.
        lse: (h, w) float32 log-sum-exp of each node's logits less the largest.
    """

    grid: Size
    size: Size
    capacity: int
    rows: AxisTable
    columns: AxisTable
    logits: Any
    top: Any
    lse: Any


@dataclass(frozen=True, slots=True, eq=False)
class BlendPlan:
    """For pictures of one size: (H, W) and the (H, W) uint8 places where the class changes."""

    size: Size
    changes: Any


def plan_resize(cupy: Any, source: Size, target: Size) -> ResizePlan:
    """Work out the taps, as `atas_deploy.core.geometry.resize_image` has them."""
    rows, columns = (_tap_table(cupy, taps) for taps in resize_taps(source, target))
    return ResizePlan(source, target, rows, columns)


def plan_labels(cupy: Any, grid: Size, size: Size, *, capacity: int) -> LabelPlan:
    """Lay out the axes, and take memory for up to `capacity` queries."""
    rows, columns = (
        _axis_table(cupy, nodes, pixels) for nodes, pixels in zip(grid, size, strict=True)
    )
    band = min(grid[0], max(2, _LOGITS // (grid[1] * capacity)))
    logits = cupy.empty((band, grid[1], capacity), np.float32)
    top, lse = (cupy.empty(grid, np.float32) for _ in range(2))
    return LabelPlan(grid, size, capacity, rows, columns, logits, top, lse)


def plan_blend(cupy: Any, size: Size) -> BlendPlan:
    """Take memory."""
    return BlendPlan(size, cupy.empty(size, np.uint8))


def _tap_table(cupy: Any, taps: Taps) -> TapTable:
    return TapTable(cupy.asarray(taps.first), cupy.asarray(taps.weights))


def _axis_table(cupy: Any, nodes: int, pixels: int) -> AxisTable:
    axis = pixel_axis(nodes, pixels)
    edges = axis.edges.astype(np.int32)
    return AxisTable(
        cupy.asarray(edges), cupy.asarray(axis.fraction), int(np.diff(edges).max(initial=0))
    )
