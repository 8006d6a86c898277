"""The kernels of this folder on a GPU, through CuPy.

Each method enqueues its work on CuPy's current stream and returns: it allocates nothing, waits for
nothing and copies nothing from or to the host, so it may be captured into a CUDA graph. All arrays
are C-contiguous `cupy.ndarray`s of the current GPU. What each computes is defined by the function
of the same name in `atas_deploy.backends.kernels.twins`.

The project has not run this on a GPU yet: its tests compile the kernels for GPUs with NVRTC, and
compile and run the very same sources on the CPU.

B frames, H W pixels, h w grid, D embedding width, Q queries that there is room for, C classes
"""

from importlib.resources import files
from itertools import chain
from typing import Any

import numpy as np

from atas_deploy.backends.kernels.plans import (
    BlendPlan,
    LabelPlan,
    ResizePlan,
    plan_blend,
    plan_labels,
    plan_resize,
)
from atas_deploy.backends.kernels.twins import OUTLINE, mean_weights, outline_width, yuv_weights
from atas_deploy.core.geometry import Size

SOURCES = ("common.cu", "product.cu", "resize.cu", "masks.cu", "blend.cu", "nv12.cu")
OPTIONS = ("--fmad=false",)
"""Of the compiler: products are not fused with sums, so that results are those of the twins."""
_THREADS = 256  # of a block
_TILE = 64  # as in product.cu
_PIXELS_PER_BLOCK = 4_096  # of a cell; more of them are shared by several blocks


def source() -> str:
    """The CUDA C++ of all kernels; it includes nothing."""
    folder = files("atas_deploy.backends.kernels")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SOURCES)


class Kernels:
    """All kernels on one GPU. They are compiled for it when the first of them runs.

    Compiling takes about a second once; CuPy keeps the result on disk. Run each kernel once before
    it is captured: a module cannot be loaded while a stream captures.

    Args:
        cupy: the module, from `load_cupy`.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._module = cupy.RawModule(code=source(), options=OPTIONS)
        self._functions: dict[str, Any] = {}

    def plan_resize(self, source: Size, target: Size) -> ResizePlan:
        """Prepare `resize` from (H, W) to (H', W')."""
        return plan_resize(self._cupy, source, target)

    def plan_labels(self, grid: Size, size: Size, *, capacity: int) -> LabelPlan:
        """Prepare `label_map` from a grid (h, w) to a size (H, W) with up to `capacity` queries."""
        return plan_labels(self._cupy, grid, size, capacity=capacity)

    def plan_blend(self, size: Size) -> BlendPlan:
        """Prepare `blend` for pictures of a size (H, W)."""
        return plan_blend(self._cupy, size)

    def resize(self, frames: Any, out: Any, *, plan: ResizePlan) -> None:
        """Stretch frames, as `atas_deploy.core.geometry.resize_image` does but for one level.

        Args:
            frames: (B, H, W, 3) uint8.
            out: (B, H', W', 3) uint8, written.
            plan: from `plan_resize`.
        """
        count = len(frames)
        assert frames.shape == (count, *plan.source, 3)
        assert out.shape == (count, *plan.target, 3)
        sizes = map(np.int32, (count, *plan.source, *plan.target))
        tables = (
            (table.first, table.weights, np.int32(table.weights.shape[1]))
            for table in (plan.rows, plan.columns)
        )
        self._run("resize", _blocks(out.size // 3), frames, out, *sizes, *chain(*tables))

    def label_map(
        self,
        dense: Any,
        queries: Any,
        query_class: Any,
        count: Any,
        labels: Any,
        winners: Any,
        probability: Any,
        *,
        threshold: float | None,
        plan: LabelPlan,
    ) -> None:
        """Label every pixel of a picture, as defined in `atas_deploy.core.masks.definition`.

        Columns of `queries` from `count` on are ignored: words may change in place, without a new
        plan and without a new capture, as long as there is room for them.

        The scores of `class_scores` follow on the host from what is small, `winners` and
        `probability`: `class_scores(query_class[winners], probability, ...)`.

        Args:
            dense: (h, w, D) float32 features of the grid.
            queries: (D, Q) float32 text features times the logit scale.
            query_class: (Q,) int32 class of each query, ascending.
            count: (1,) int32 number of queries, 1 to Q; read on the GPU.
            labels: (H, W) uint8, or uint16 beyond 254 classes, written.
            winners: (h, w) int32, written: the query with the largest logit of each node.
            probability: (h, w) float32, written: its softmax probability.
            threshold: least probability of a pixel that keeps its class; None keeps all.
            plan: from `plan_labels`, with room for Q queries.
        """
        assert dense.shape[:2] == plan.grid
        assert queries.shape == (dense.shape[2], plan.capacity)
        assert labels.shape == plan.size
        h = plan.grid[0]
        for first, last in bands(h, len(plan.logits)):
            rows = dense[first:last]
            self._product(rows, queries, plan.logits)
            self._nodes(plan, count, winners, probability, first=first, rows=len(rows))
            cells = range(first + 1 if first else 0, h + 1 if last == h else last)
            self._cells(
                plan,
                query_class,
                count,
                labels,
                winners,
                first=first,
                cells=cells,
                threshold=threshold or 0.0,
            )

    def blend(
        self, image: Any, labels: Any, palette: Any, out: Any, *, opacity: float, plan: BlendPlan
    ) -> None:
        """Tint classes and outline them, as `atas_deploy.media.overlay.blend` but for one level.

        Args:
            image: (H, W, 3) uint8 RGB.
            labels: (H, W) uint8 or uint16; the type's highest value is void.
            palette: (C + 1 or more, 3) uint8 RGB; row 0, the background, and rows beyond C are not
                used.
            out: (H, W, 3) uint8 RGB, written; not `image` itself.
            opacity: share of the tint, in [0, 1].
            plan: from `plan_blend`.
        """
        assert image.shape == out.shape == (*plan.size, 3)
        assert labels.shape == plan.size
        bits, side = 8 * labels.dtype.itemsize, outline_width(plan.size) + 1
        place = *map(np.int32, plan.size), np.int32(side)
        mean = map(np.int32, mean_weights(side**2))
        shares = map(np.float32, (1 - opacity, opacity, OUTLINE))
        blocks = _blocks(labels.size)
        self._run(f"find_changes_{bits}", blocks, labels, plan.changes, *place)
        picture = image, labels, plan.changes, palette
        self._run(f"paint_{bits}", blocks, *picture, *place, *mean, *shares, out)

    def nv12_to_rgb(
        self, luma: Any, chroma: Any, out: Any, *, matrix: str, full_range: bool = False
    ) -> None:
        """Convert a decoded video frame.

        Colours lie between two rows, at the left one of two columns: the default of H.264 and HEVC.

        Args:
            luma: (H, W) uint8; its rows may lie apart, as hardware decoders leave them.
            chroma: (ceil(H / 2), 2 ceil(W / 2)) uint8, Cb and Cr in turn; so may its rows.
            out: (H, W, 3) uint8 RGB, written.
            matrix: "bt709" or "bt601".
            full_range: whether values use all of 0 to 255, not 16 to 235 (Cb and Cr: to 240).
        """
        height, width = luma.shape
        assert chroma.shape == ((height + 1) // 2, (width + 1) // 2 * 2)
        assert out.shape == (height, width, 3)
        planes = luma, np.int32(luma.strides[0]), chroma, np.int32(chroma.strides[0])
        sizes = np.int32(height), np.int32(width)
        weights = yuv_weights(matrix, full_range=full_range)
        self._run("nv12_to_rgb", _blocks(luma.size), *planes, *sizes, *weights, out)

    def _product(self, rows: Any, queries: Any, logits: Any) -> None:
        """Multiply (r, w, D) features with (D, Q) queries, into the first r rows of `logits`."""
        m, n = rows.shape[0] * rows.shape[1], queries.shape[1]
        tiles = -(-m // _TILE) * -(-n // _TILE)
        sizes = map(np.int32, (m, len(queries), n))
        self._run("product", tiles, rows, queries, logits, *sizes)

    def _nodes(
        self, plan: LabelPlan, count: Any, winners: Any, probability: Any, *, first: int, rows: int
    ) -> None:
        """Find the winners of some rows of nodes, whose logits are there."""
        w = plan.grid[1]
        place = map(np.int32, (plan.capacity, first * w, rows * w))
        found = winners, plan.top, probability, plan.lse
        self._run("nodes", rows * w, plan.logits, count, *place, *found)

    def _cells(
        self,
        plan: LabelPlan,
        query_class: Any,
        count: Any,
        labels: Any,
        winners: Any,
        *,
        first: int,
        cells: range,
        threshold: float,
    ) -> None:
        """Label the pixels of some rows of cells; `plan.logits` begins with node row `first`."""
        rows, columns = plan.rows, plan.columns
        parts = max(1, -(-rows.longest * columns.longest // _PIXELS_PER_BLOCK))
        place = plan.capacity, *plan.grid, first, cells.start, len(cells), parts
        axes = rows.edges, rows.fraction, columns.edges, columns.fraction
        self._run(
            f"label_cells_{8 * labels.dtype.itemsize}",
            len(cells) * (plan.grid[1] + 1) * parts,
            *(plan.logits, winners, plan.top, plan.lse, query_class, count),
            *map(np.int32, place),
            *axes,
            np.int32(plan.size[1]),
            np.float32(threshold),
            labels,
        )

    def _run(self, name: str, blocks: int, *args: Any) -> None:
        """Enqueue a kernel."""
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        self._functions[name]((blocks,), (_THREADS,), args)


def _blocks(items: int) -> int:
    """Blocks that have a thread for each item."""
    return -(-items // _THREADS)


def bands(rows: int, room: int) -> list[tuple[int, int]]:
    """Cut rows of nodes into bands of `room` at most, first and behind the last; they share one.

    All rows of cells lie in some band: between two of its rows, or above the first or below the
    last of all.
    """
    step = max(1, room - 1)
    return [(first, min(first + room, rows)) for first in range(0, max(1, rows - 1), step)]
