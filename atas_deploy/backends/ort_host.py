"""ONNX Runtime with images and features in the memory of the host.

B images, H W pixels
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import ImageFeatures


class HostImages:
    """The image encoder of a bundle; any thread may call it.

    A call that is alone computes on all threads, for the least time. Calls at the same time compute
    on a share of them each: a thread that waits for others at the end of every operator, while
    decoding or masks have its core, costs more than it brings.

    Args:
        load: creates a session that computes on so many threads.
        threads: all of them.
        calls: at the same time, at most; 1 on a GPU.

    Attributes:
        calls: the same.
    """

    def __init__(self, load: Callable[[int], Any], *, threads: int, calls: int) -> None:
        self.calls, self._load, self._share = calls, load, max(1, threads // calls)
        self._alone, self._shared = load(threads), None
        self._running, self._lock, self._loading = 0, Lock(), Lock()

    def encode(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB, H and W multiples of the manifest's."""
        with self._turn() as session:
            dense, image = session.run(["dense", "image"], {"images": images})
        return ImageFeatures(dense, image)

    @contextmanager
    def _turn(self) -> Iterator[Any]:
        """The session for a call that begins now."""
        with self._lock:
            alone = self.calls == 1 or not self._running
            self._running += 1
        try:
            yield self._alone if alone else self._shared_session()
        finally:
            with self._lock:
                self._running -= 1

    def _shared_session(self) -> Any:
        """The session of calls that are not alone; most processes never need it."""
        with self._loading:
            if self._shared is None:
                self._shared = self._load(self._share)
        return self._shared
