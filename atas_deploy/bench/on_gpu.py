"""The stages of our runtime on a GPU, each waited for.

They are those of `atas_deploy.runtime.device`, which does not wait for them and captures them in
CUDA graphs; the whole way shows what that saves. The project has not run this on a GPU.

B frames, H W pixels, h w grid, D embedding width
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.bench.stopwatch import Stopwatch
from atas_deploy.core.geometry import Size
from atas_deploy.core.masks import Labels
from atas_deploy.core.results import Segmentation
from atas_deploy.media.overlay import DEFAULT_OPACITY
from atas_deploy.runtime.device.tools import Tools
from atas_deploy.runtime.label import Words
from atas_deploy.runtime.outputs import OutputFolder

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class OnGpu:
    """A frame on the GPU.

    Attributes:
        frame: (H, W, 3) uint8 `cupy.ndarray`.
        dense: (h, w, D) float32 `cupy.ndarray`.
        upload: seconds that the frame took to get there.
    """

    frame: Any
    dense: Any
    upload: float


class GpuStages:
    """Encodes and labels frames of one size.

    Args:
        tools: of the model.
        words: that are asked for.
        folder: draws overlays.
        cell: pixels along a cell of the grid.
        width: D.
    """

    def __init__(
        self, tools: Tools, words: Words, folder: OutputFolder, *, cell: int, width: int
    ) -> None:
        self._tools, self._words, self._folder = tools, words, folder
        self._cell, self._width = cell, width
        self._plans: tuple[Any, Any, Any] | None = None
        with self._here():
            tools.words.load(words)
            self._palette = tools.driver.cupy.asarray(folder.palette)
            tools.driver.stream.synchronize()

    def encode(self, images: Sequence[Image], watch: Stopwatch, *, fitted: Size) -> list[OnGpu]:
        """Upload, fit and encode a batch of (H, W, 3) frames, each step waited for.

        Args:
            images: of one size.
            watch: takes the times.
            fitted: (height, width) of the encoder's input.
        """
        driver, count, own = self._tools.driver, len(images), Stopwatch()
        grid = fitted[0] // self._cell, fitted[1] // self._cell
        with self._here():
            resize = self._plan(images[0].shape[:2], fitted, grid)[0]
            frames = driver.empty((count, *images[0].shape), np.uint8)
            inputs = driver.empty((count, *fitted, 3), np.uint8)
            dense = driver.empty((count, *grid, self._width))
            pinned = driver.allocate_pinned(frames.nbytes)
            with own("upload", frames=count):
                np.stack(images, out=pinned.host.reshape(frames.shape))
                driver.copy(int(frames.data.ptr), pinned.address, frames.nbytes)
                driver.stream.synchronize()
            with watch("preprocess", frames=count):
                self._tools.kernels.resize(frames, inputs, plan=resize)
                driver.stream.synchronize()
            with watch("encoder", frames=count):
                self._tools.backend.encode_into(inputs, dense)
                driver.stream.synchronize()
        return [OnGpu(frames[i], dense[i], own.last("upload")) for i in range(count)]

    def label(self, image: Image, encoded: OnGpu, watch: Stopwatch) -> tuple[Labels, Image]:
        """Labels (H, W) and overlay (H, W, 3) of a frame, each step waited for."""
        driver, kernels, own = self._tools.driver, self._tools.kernels, Stopwatch()
        words, size, (h, w) = self._tools.words, image.shape[:2], encoded.dense.shape[:2]
        assert self._plans is not None
        _, plan, blend = self._plans
        with self._here():
            labels = driver.empty(size, words.labels)
            winners, sureness = driver.empty((h, w), np.int32), driver.empty((h, w))
            tinted = driver.empty(image.shape, np.uint8)
            pinned = driver.allocate_pinned(labels.nbytes + tinted.nbytes)
            place = words.queries, words.query_class, words.count, labels, winners, sureness
            with watch("masks"):
                kernels.label_map(encoded.dense, *place, threshold=None, plan=plan)
                driver.stream.synchronize()
            pictures = encoded.frame, labels, self._palette, tinted
            with own("blend"):
                kernels.blend(*pictures, opacity=DEFAULT_OPACITY, plan=blend)
                driver.stream.synchronize()
            with watch("transfer"):
                driver.copy(pinned.address, int(labels.data.ptr), labels.nbytes)
                behind = pinned.address + labels.nbytes
                driver.copy(behind, int(tinted.data.ptr), tinted.nbytes)
                driver.stream.synchronize()
        watch.shift("transfer", encoded.upload)
        found = pinned.host[: labels.nbytes].view(labels.dtype).reshape(size).copy()
        drawn = pinned.host[labels.nbytes : labels.nbytes + tinted.nbytes].reshape(image.shape)
        with watch("overlay"):
            overlay = self._draw(image, found, drawn)
        watch.shift("overlay", own.last("blend"))
        return found, overlay

    def _draw(self, image: Image, labels: Labels, tinted: Image) -> Image:
        """What is left to the host: the legend."""
        names = self._words.vocabulary.names
        result = Segmentation(labels, names, np.zeros(len(names), np.float32))
        return self._folder.overlay(image, result, tinted=tinted)

    def _plan(self, size: tuple[int, ...], fitted: Size, grid: Size) -> tuple[Any, Any, Any]:
        """What the kernels need, made for the first frame."""
        if self._plans is None:
            kernels, height, width = self._tools.kernels, *size
            self._plans = (
                kernels.plan_resize((height, width), fitted),
                kernels.plan_labels(grid, (height, width), capacity=self._tools.words.capacity),
                kernels.plan_blend((height, width)),
            )
        return self._plans

    def _here(self) -> Any:
        return self._tools.enqueuing("measure stages")
