"""Words on the GPU, where kernels and graphs find other ones without being made anew.

D embedding width, Q queries, P queries that there is room for
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.driver import Driver, Pinned
from atas_deploy.core.masks import as_labels
from atas_deploy.runtime.label import Words

_STEP = 256  # queries; room is made for a multiple


class DeviceWords:
    """Text features on the GPU, in memory with room for more; how many count is read there.

    Args:
        driver: the GPU; its stream must be for oneself in all calls.

    Attributes:
        queries: (D, P) float32 `cupy.ndarray`: text features times the logit scale, then room.
        query_class: (P,) int32: the class of each query, then room.
        count: (1,) int32: Q.
        labels: the dtype of label maps.
        generation: counts how often the memory was replaced. What holds addresses from an earlier
            one, such as a graph, is of no use any more.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.queries: Any = None
        self.query_class: Any = None
        self.count: Any = None
        self.labels: np.dtype[Any] = np.dtype(np.uint8)
        self.generation = 0
        self._staging: Pinned | None = None
        self._loaded: Words | None = None

    def load(self, words: Words) -> None:
        """Enqueue the copy of words, unless they are there already."""
        if words is self._loaded:
            return
        query_class = words.vocabulary.query_class
        labels = as_labels(query_class).dtype
        if self._staging is None or len(query_class) > self.capacity or labels != self.labels:
            self._make_room(words.queries.shape, labels)
        self._copy(words.queries, query_class)
        self._loaded = words

    @property
    def capacity(self) -> int:
        """P."""
        return int(self.queries.shape[1])

    def _make_room(self, shape: tuple[int, ...], labels: np.dtype[Any]) -> None:
        width, count = shape
        room = -(-count // _STEP) * _STEP
        self.queries = self._driver.empty((width, room))
        self.query_class = self._driver.empty((room,), np.int32)
        self.count = self._driver.empty((1,), np.int32)
        self._staging = self._driver.allocate_pinned(sum(array.nbytes for array in self._arrays))
        self.labels = labels
        self.generation += 1

    def _copy(self, queries: npt.NDArray[np.float32], query_class: npt.NDArray[np.intp]) -> None:
        """Enqueue the copies of what counts and of what lies in the room behind it."""
        assert self._staging is not None
        self._staging.copied.synchronize()  # the words before are there
        self._staging.host[:] = 0
        start = 0
        count = np.array([len(query_class)])
        values: tuple[npt.NDArray[Any], ...] = (queries, query_class, count)
        for array, value in zip(self._arrays, values, strict=True):
            place = self._staging.host[start : start + array.nbytes].view(array.dtype)
            place = place.reshape(array.shape)
            place[..., : value.shape[-1]] = value
            source = self._staging.address + start
            self._driver.copy(int(array.data.ptr), source, array.nbytes)
            start += array.nbytes
        self._staging.copied.record(self._driver.stream)

    @property
    def _arrays(self) -> tuple[Any, Any, Any]:
        return self.queries, self.query_class, self.count
