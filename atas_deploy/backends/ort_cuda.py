"""ONNX Runtime on a GPU: images in and features out by I/O binding, on one stream of CuPy's.

Nothing here has been run on a GPU by the project; the tests bind the memory of the host instead.

B images, H W pixels, h w grid, D embedding width
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import DeviceFeatures
from atas_deploy.backends.driver import Driver, Pinned
from atas_deploy.backends.ort_device import load_onnxruntime


class CudaImages:
    """The image encoder of a bundle on a GPU; any thread may call it, one enqueues at a time.

    Copies, ONNX Runtime's work and features share a stream, so that nothing need be waited for.

    Args:
        driver: of the GPU.
        load: creates the session that computes on the stream of that address.
        cell: side of a cell of the grid, in pixels.
        width: D.

    Attributes:
        driver: the same.
    """

    def __init__(
        self, driver: Driver, load: Callable[[int], Any], *, cell: int, width: int
    ) -> None:
        self.driver, self._cell, self._width = driver, cell, width
        self._session = load(int(driver.stream.ptr))
        self._options = load_onnxruntime().RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._pinned: Pinned | None = None
        self._lock = Lock()

    def encode(self, images: npt.NDArray[np.uint8]) -> DeviceFeatures:
        """Enqueue the encoding of (B, H, W, 3) uint8 RGB, H and W multiples of the manifest's."""
        batch, height, width, _ = images.shape
        grid = height // self._cell, width // self._cell
        with self.enqueuing():
            pixels = self._upload(images)
            dense = self.driver.empty((batch, *grid, self._width))
            image = self.driver.empty((batch, self._width))
            self._run(images.shape, pixels, {"dense": dense, "image": image})
            ready = self.driver.event()
            ready.record(self.driver.stream)
        return DeviceFeatures(dense, image, self.driver.stream, ready)

    def encode_into(self, images: Any, dense: Any) -> None:
        """Enqueue the encoding of images that lie on the GPU; call it inside `enqueuing`.

        Args:
            images: (B, H, W, 3) uint8 `cupy.ndarray`.
            dense: (B, h, w, D) float32 `cupy.ndarray`, written.
        """
        image = self.driver.empty((len(images), self._width))
        self._run(images.shape, images.data, {"dense": dense, "image": image})

    @contextmanager
    def enqueuing(self) -> Iterator[None]:
        """The stream for oneself."""
        with self._lock, self.driver.active():
            yield

    def _upload(self, images: npt.NDArray[np.uint8]) -> Any:
        """Enqueue the copy of the pixels to memory that is used again on the stream."""
        pinned = self._room(images.nbytes)
        pinned.host[: images.nbytes].reshape(images.shape)[:] = images
        pixels = self.driver.allocate(images.nbytes)
        self.driver.copy(int(pixels.ptr), pinned.address, images.nbytes)
        pinned.copied.record(self.driver.stream)
        return pixels

    def _room(self, size: int) -> Pinned:
        """Pinned memory that no copy reads any more."""
        if self._pinned is not None:
            self._pinned.copied.synchronize()
        if self._pinned is None or self._pinned.host.nbytes < size:
            self._pinned = self.driver.allocate_pinned(size)
        return self._pinned

    def _run(self, shape: tuple[int, ...], pixels: Any, outputs: dict[str, Any]) -> None:
        """Enqueue the graph on bound memory."""
        place = "cuda", self.driver.index
        binding = self._session.io_binding()
        binding.bind_input("images", *place, np.uint8, shape, int(pixels.ptr))
        for name, array in outputs.items():
            binding.bind_output(name, *place, np.float32, array.shape, int(array.data.ptr))
        self._session.run_with_iobinding(binding, self._options)
