"""The order of images in training: an endless stream of epochs, each shuffled anew.

A batch is the next part of the stream, also across the end of an epoch, so that an epoch has each
image once. What a step takes follows from the seed, the step and the size of the batch of all
processes together.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Place = tuple[int, int]
"""Epoch and index of an image in the stream."""


class Stream:
    """Which images a step takes.

    Args:
        count: images, 1 or more.
        seed: seed of the order, 0 or more.
        size: images a step on this rank.
        rank: which of the parts of the batch is this rank's.
        world: how many such parts there are.
    """

    def __init__(self, count: int, *, seed: int, size: int, rank: int = 0, world: int = 1) -> None:
        self._count, self._seed = count, seed
        self._size, self._rank, self._world = size, rank, world
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def places(self, step: int) -> list[Place]:
        """The part of this rank."""
        first = (step * self._world + self._rank) * self._size
        return [self._place(position) for position in range(first, first + self._size)]

    def after(self, step: int) -> Iterator[Place]:
        """As many places behind those of all ranks as there are images in two epochs."""
        first = (step + 1) * self._world * self._size
        return (self._place(position) for position in range(first, first + 2 * self._count))

    def _place(self, position: int) -> Place:
        epoch, at = divmod(position, self._count)
        return epoch, int(self._order(epoch)[at])

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        # The last number is no image's, so that no sample shares this randomness.
        rng = np.random.default_rng((self._seed, epoch, self._count))
        return rng.permutation(self._count)
