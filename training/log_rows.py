"""Rows of the training log: means of losses, and the speed, since the row before."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from atas_deploy.training.distributed import Group


class LogRows:
    """Adds up what the steps between two rows give."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._images = 0
        self._since = time.monotonic()
        self._aside = 0.0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done inside is no training: it does not count against its speed."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._aside += time.monotonic() - begin

    def add(self, losses: Mapping[str, float], *, images: int) -> None:
        """Note the losses of one batch and its number of images."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._images += images

    def take(self, group: Group) -> dict[str, float]:
        """The row over all processes, and begin the next one.

        Returns:
            seconds since the last row, the mean of each loss over the batches that had it, and
            images_per_second of training if there were images.
        """
        now = time.monotonic()
        seconds = now - self._since
        parts = group.objects((self._sums, self._counts, self._images))
        row = {"seconds": round(seconds, 2)}
        for name in self._sums:
            total = sum(sums.get(name, 0.0) for sums, _, _ in parts)
            row[name] = round(total / sum(counts.get(name, 0) for _, counts, _ in parts), 5)
        if images := sum(images for _, _, images in parts):
            row["images_per_second"] = round(images / max(seconds - self._aside, 1e-9), 2)
        self._sums, self._counts, self._images = {}, {}, 0
        self._since, self._aside = now, 0.0
        return row
