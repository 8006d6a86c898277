"""The kernels, on the model of CUDA."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from cupy_model import Array, Launch

from atas_deploy.backends.kernels import plans, twins


class TwinKernels:
    """`Kernels` on the model: each launch runs its numpy twin when its turn comes.

    Scratch memory and tables of plans belong to the launch, too: a graph that outlives its plan is
    found out, and scratch memory is spoiled.
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy, self.cuda = cupy, cupy.model
        self.loaded: set[str] = set()
        self.plan_resize = partial(plans.plan_resize, cupy)
        self.plan_labels = partial(plans.plan_labels, cupy)
        self.plan_blend = partial(plans.plan_blend, cupy)

    def resize(self, frames: Array, out: Array, *, plan: Any) -> None:
        """Enqueue the twin."""
        tables = [plan.rows.first, plan.rows.weights, plan.columns.first, plan.columns.weights]

        def work(frames: np.ndarray, out: np.ndarray, *_: np.ndarray) -> None:
            out[:] = twins.resize(frames, plan.target)

        self._launch("resize", work, [frames, out, *tables])

    def nv12_to_rgb(self, *arrays: Array, matrix: str, full_range: bool) -> None:
        """Enqueue the twin."""

        def work(luma: np.ndarray, chroma: np.ndarray, out: np.ndarray) -> None:
            out[:] = twins.nv12_to_rgb(luma, chroma, matrix=matrix, full_range=full_range)

        self._launch("nv12_to_rgb", work, arrays)

    def label_map(self, *arrays: Array, threshold: float | None, plan: Any) -> None:
        """Enqueue the twin, for as many queries as there are then."""
        assert arrays[1].shape[1] == plan.capacity

        def work(*places: np.ndarray) -> None:
            dense, queries, query_class, (count,), labels, winners, probability, *scratch = places
            for place in scratch:
                place[...] = 77
            found = twins.label_map(
                dense,
                queries[:, :count],
                query_class[:count],
                size=plan.size,
                threshold=threshold,
            )
            assert labels.dtype == found[0].dtype
            labels[:], winners[:], probability[:] = found

        name = f"label_map {arrays[4].dtype}"
        self._launch(name, work, [*arrays, plan.logits, plan.top, plan.lse])

    def blend(self, *arrays: Array, opacity: float, plan: Any) -> None:
        """Enqueue the twin."""

        def work(image: np.ndarray, labels: np.ndarray, *places: np.ndarray) -> None:
            palette, out, changes = places
            changes[:] = 77
            out[:] = twins.blend(image, labels, palette, opacity=opacity)

        self._launch("blend", work, [*arrays, plan.changes])

    def _launch(self, name: str, work: Callable[..., None], arrays: Sequence[Array]) -> None:
        stream = self.cuda.current[-1]
        ready = stream.captured is None or name in self.loaded
        self.cuda.check(ready, f"the kernel {name} is loaded while capturing")
        self.loaded.add(name)
        Launch(self.cuda, work, arrays)
