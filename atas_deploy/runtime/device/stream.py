"""A stream of pictures through the GPU; a batch is under way before the one before is waited for.

H W pixels
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size
from atas_deploy.core.masks.definition import class_scores
from atas_deploy.core.results import Segmentation
from atas_deploy.media.video.planes import Planes
from atas_deploy.runtime.device.batch import BatchShape, Found, Picture, Plans
from atas_deploy.runtime.device.slot import Slot
from atas_deploy.runtime.device.tools import Tint, Tools
from atas_deploy.runtime.encode import Fitted, ImageEncoder, as_image
from atas_deploy.runtime.label import Words
from atas_deploy.runtime.pipeline import ahead

Image = npt.NDArray[np.uint8]
Tinted = tuple[Segmentation, Image | None]

# One is filled, one waits for the consumer, who reads one: `ahead` lets no more be under way.
_SLOTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Pictures in their order, True = held, and the slot of those that are not."""

    held: Sequence[bool]
    slot: Slot | None


class DeviceStream:
    """Labels pictures as they come, on the GPU.

    Pictures of one size make a batch. Reading and enqueuing have a thread each; the caller's waits
    for results. Labels are of the words that are in use when a result is given out: where they have
    changed since it was enqueued, the batch is labelled again from its features.

    Args:
        tools: of the model.
        encoder: how pictures are fitted and batched; it has no windows.
        width: D, the embedding width.
        cell: pixels along a cell of the grid.
        words: gives those in use.
        threshold: least probability of a pixel that keeps its class; None = 0.
        tint: how overlays are made; None = there are none.
    """

    def __init__(
        self,
        tools: Tools,
        encoder: ImageEncoder,
        *,
        width: int,
        cell: int,
        words: Callable[[], Words],
        threshold: float | None,
        tint: Tint | None = None,
    ) -> None:
        self._tools, self._encoder, self._width, self._cell = tools, encoder, width, cell
        self._words, self._threshold, self._tint = words, threshold, tint
        self._shape: BatchShape | None = None
        self._plans: Plans | None = None
        self._ring: list[Slot] = []
        self._turn = 0

    def results(
        self, images: Iterable[Image | str | Path], *, every: int = 1
    ) -> Generator[Segmentation]:
        """Yield a result for each picture, as `tinted` does."""
        with closing(self.tinted(images, every=every)) as found:
            for result, _ in found:
                yield result

    def tinted(
        self, images: Iterable[Image | str | Path | Planes], *, every: int = 1
    ) -> Generator[Tinted]:
        """Yield a result for each picture, and its overlay.

        Args:
            images: paths, (H, W, 3) uint8 RGB arrays, or frames as they were decoded.
            every: label each N-th picture only; those between, if they have its size, get its
                result, the very same object, and no overlay.

        Raises:
            InputError: an item is not a readable path or an (H, W, 3) uint8 array.
            BackendError: the engine or the GPU fails.
        """
        batches = ahead(self._encoder.batches(images, every=every, read=_as_picture, fit=_unfitted))
        try:
            with closing(ahead(self._enqueue(batches))) as enqueued:
                for batch in enqueued:
                    for found in self._results(batch):
                        if found is not None:
                            last = found[0]
                        yield found or (last, None)
        finally:
            self._tools.wait()

    def _enqueue(self, batches: Generator[list[Fitted]]) -> Iterator[_Batch]:
        with closing(batches):
            for batch in batches:
                images = [picture.image for picture in batch if picture.image is not None]
                slot = self._start(images) if images else None
                yield _Batch([picture.image is None for picture in batch], slot)

    def _start(self, images: Sequence[Picture]) -> Slot:
        """Enqueue pictures of one size, all the way to their results."""
        height, width = images[0].shape[:2]
        with self._tools.enqueuing(f"take {len(images)} pictures of {height} x {width} pixels"):
            slot = self._next_slot(images, (height, width))
        slot.fill(images)
        with self._tools.enqueuing(f"label {len(images)} pictures of {height} x {width} pixels"):
            slot.start(self._words())
        return slot

    def _next_slot(self, images: Sequence[Picture], size: Size) -> Slot:
        """Memory for a batch: that of the third one before, if all had its shape."""
        fitted = self._encoder.fitted_size(size)
        grid = fitted[0] // self._cell, fitted[1] // self._cell
        colours = images[0].shape[2:] if isinstance(images[0], Planes) else None
        shape = BatchShape(len(images), size, fitted, grid, self._width, colours)
        if shape != self._shape or self._plans is None:
            self._shape, self._ring, self._turn = shape, [], 0
            self._plans = Plans(self._tools, shape, threshold=self._threshold, tint=self._tint)
        if len(self._ring) < _SLOTS:
            self._ring.append(Slot(self._plans))
        slot = self._ring[self._turn % _SLOTS]
        self._turn += 1
        return slot

    def _results(self, batch: _Batch) -> Iterator[Tinted | None]:
        index = 0
        for held in batch.held:
            if held or batch.slot is None:
                yield None
                continue
            yield self._result(batch.slot, index)
            index += 1

    def _result(self, slot: Slot, index: int) -> Tinted:
        """Wait for a picture's labels, in the words that are in use now."""
        words = self._words()
        slot.finish()
        if slot.words is not words:
            with self._tools.enqueuing("label pictures with other words"):
                slot.label_again(words)
            slot.finish()
        found = slot.take(index)
        names = words.vocabulary.names
        return Segmentation(found.labels, names, self._scores(found, words)), found.tinted

    def _scores(self, found: Found, words: Words) -> npt.NDArray[np.float32]:
        query_class = words.vocabulary.query_class
        return class_scores(
            query_class[found.winners],
            found.probability,
            classes=int(query_class[-1]),
            threshold=self._threshold,
        )


def _as_picture(item: Image | str | Path | Planes) -> Picture:
    """Read a path, check an array; frames as they were decoded are converted on the GPU."""
    return item if isinstance(item, Planes) else as_image(item)


def _unfitted(image: Picture) -> tuple[Picture, Size]:
    """Pictures are fitted on the GPU."""
    return image, (image.shape[0], image.shape[1])
