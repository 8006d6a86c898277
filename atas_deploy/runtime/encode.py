"""Pictures to dense features: whole, or by sliding windows.

B images, H W pixels, h w grid, D embedding width, R C windows down and across
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend, calls_at_once
from atas_deploy.core.errors import InputError
from atas_deploy.core.geometry import (
    Size,
    Tiles,
    check_short_side,
    cut_tiles,
    encoder_size,
    exact_size,
    resize_bilinear,
    resize_image,
)
from atas_deploy.media.images import read_image
from atas_deploy.runtime.adaptive import Chooser, Turn
from atas_deploy.runtime.carry import Motion, carry
from atas_deploy.runtime.pipeline import ahead
from atas_deploy.runtime.tiling import encode_tiles, mean_over_windows
from atas_deploy.runtime.windows import PixelWindows, Windows

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A picture with its features.

    Attributes:
        size: (H, W) of the picture.
        fitted: (H', W', 3) uint8 RGB, the encoder's input, or what its windows were cut from.
        dense: (h, w, D) float32, or (R, C, h, w, D) of windows that are merged as pixels.
        tiles: where those windows lie; None without them.
        carried: the features are those of an earlier picture, moved along.
    """

    size: Size
    fitted: Image
    dense: FloatArray
    tiles: Tiles | None = None
    carried: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A picture of a size, fitted to the encoder; None = as the picture before.

    Features of the last picture without a motion are moved along to one that has it.
    """

    size: Size
    image: Image | None
    motion: Motion | None = None


_Started = tuple[list[Fitted], Future[FloatArray] | None]
"""A batch, and its features once they are there; None where nothing of it is encoded."""


class ImageEncoder:
    """Encodes pictures of any size.

    Args:
        backend: the engine.
        cell: pixels along a cell of its grid.
        multiple: of this, H and W of its images are multiples; None = `cell`.
        short_side: shorter side of the encoder's input in pixels.
        windows: how to cut it; None = whole.
        batch_size: images or windows encoded at once.

    Raises:
        ConfigError: the short side cannot be used.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        cell: int,
        multiple: int | None = None,
        short_side: int,
        windows: Windows | PixelWindows | None = None,
        batch_size: int = 1,
    ) -> None:
        self._cell, self._multiple = cell, multiple or cell
        check_short_side(short_side, multiple=self._multiple, cell=cell)
        self.short_side, self.windows, self.batch_size = short_side, windows, batch_size
        self._backend, self._at_once = backend, calls_at_once(backend)

    def __call__(self, image: Image | str | Path) -> Encoded:
        """Encode one picture: a path, or (H, W, 3) uint8 RGB."""
        fitted, size = self._fit(as_image(image))
        return Encoded(size, fitted, self.encode([fitted])[0], self.tiles(fitted))

    def tiles(self, fitted: Image) -> Tiles | None:
        """Where the windows of a fitted picture lie, if they are merged as pixels."""
        if not isinstance(self.windows, PixelWindows):
            return None
        size = fitted.shape[0], fitted.shape[1]
        side = self.windows.side or max(size)
        return cut_tiles(size, window=side, stride=self.windows.stride or side)

    def stream(
        self,
        images: Iterable[Image | str | Path],
        *,
        every: int = 1,
        adaptive: float | None = None,
    ) -> Generator[Encoded | None]:
        """Encode pictures as they come, in order; None = the picture is held, as the one before.

        They are read and fitted in one thread, a batch ahead, and encoded in others, as many at
        once as the engine works on best.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays.
            every: encode each N-th picture only, if those between have its size.
            adaptive: level of `Chooser`: encode a picture when there is enough that is new, and
                move features along to the others; None = encode all.
        """
        batches = ahead(self.batches(images, every=every, adaptive=adaptive))
        with closing(ahead(self._start(batches), depth=max(1, self._at_once - 1))) as started:
            yield from self._finish(started)

    def encode(self, images: Sequence[Image]) -> FloatArray:
        """Encode (H, W, 3) uint8 images of one size, fitted to the encoder.

        Returns:
            (B, h, w, D) float32; without windows each vector has unit length. With windows a cell
            gets the mean over those that cover it, not normalised again, so that logits are the
            means of the windows' logits. With windows that are merged as pixels (B, R, C, h, w, D),
            each vector of unit length.
        """
        batch = np.stack(images)
        if (tiles := self.tiles(images[0])) is not None:
            fitting = (self._nearest(tiles.window[0]), self._nearest(tiles.window[1]))
            return encode_tiles(
                self._dense, batch, tiles, fitting=fitting, batch_size=self.batch_size
            )
        longest = max(batch.shape[1:3]) // self._cell
        if isinstance(self.windows, Windows) and self.windows.side < longest:
            return mean_over_windows(
                self._dense, batch, self.windows, cell=self._cell, batch_size=self.batch_size
            )
        return self._dense(batch)

    def _dense(self, batch: Image) -> FloatArray:
        return self._backend.encode_images(batch).dense

    def _nearest(self, length: int) -> int:
        """The nearest length in pixels that the encoder takes."""
        return max(1, round(length / self._multiple)) * self._multiple

    def _fit(self, image: Image) -> tuple[Image, Size]:
        size = (image.shape[0], image.shape[1])
        if isinstance(self.windows, PixelWindows):
            exact = exact_size(size, short_side=self.short_side, cell=self._cell)
            return resize_bilinear(image, exact), size
        return resize_image(image, self.fitted_size(size)), size

    def fitted_size(self, size: Size) -> Size:
        """(H', W') of the encoder's input for a picture (H, W) without windows merged as pixels."""
        return encoder_size(
            size, short_side=self.short_side, multiple=self._multiple, cell=self._cell
        )

    def batches(
        self,
        images: Iterable[Any],
        *,
        every: int,
        adaptive: float | None = None,
        read: Callable[[Any], Any] | None = None,
        fit: Callable[[Any], tuple[Any, Size]] | None = None,
    ) -> Iterator[list[Fitted]]:
        """Group consecutive pictures of equal input size; held ones never wait for others.

        A picture whose windows are all kept has a batch of its own: they fill it, and memory.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays, or what `read` takes.
            every: encode each N-th picture only, if those between have its size.
            adaptive: as for `stream`.
            read: what makes a picture of an item; None = `as_image`.
            fit: what makes the encoder's input and the size of a picture; None = as for `stream`.
        """
        read, fit = read or as_image, fit or self._fit
        alone = isinstance(self.windows, PixelWindows) and self.windows.side is not None
        most = 1 if alone else self.batch_size
        batch: list[Fitted] = []
        inputs: list[Image] = []  # of the batch
        choose = Chooser(every=every, level=adaptive)
        for item in images:
            image = read(item)
            turn = choose(image)
            if turn is Turn.HOLD:
                batch.append(Fitted((image.shape[0], image.shape[1]), None))
            else:
                fitted, size = fit(image)
                if inputs and inputs[0].shape != fitted.shape:
                    yield batch
                    batch, inputs = [], []
                motion = turn if isinstance(turn, Motion) else None
                batch.append(Fitted(size, fitted, motion))
                inputs += [fitted] if motion is None else []
            if len(inputs) in (0, most) or len(batch) >= max(16, 4 * most):
                yield batch  # now, not at the next image: a camera may be slow
                batch, inputs = [], []
        if batch:
            yield batch

    def _start(self, batches: Generator[list[Fitted]]) -> Iterator[_Started]:
        """Begin to encode batches; the thread that asks for more waits while enough are begun."""
        pool = ThreadPoolExecutor(self._at_once, "atas-deploy encoder")
        try:
            with closing(batches):
                for batch in batches:
                    new = [picture.image for picture in batch if picture.motion is None]
                    fitted = [image for image in new if image is not None]
                    yield batch, pool.submit(self.encode, fitted) if fitted else None
        except GeneratorExit:  # nobody wants the rest
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            pool.shutdown()

    def _finish(self, started: Iterable[_Started]) -> Iterator[Encoded | None]:
        """Wait for batches in order."""
        key = np.zeros((0,), np.float32)  # features of the last picture without a motion
        for batch, encoding in started:
            features = iter(encoding.result() if encoding else ())
            for picture in batch:
                if picture.image is None:
                    yield None
                    continue
                if picture.motion is None:
                    key = next(features)
                yield self._encoded(picture, picture.image, key)

    def _encoded(self, picture: Fitted, image: Image, key: FloatArray) -> Encoded:
        """A picture with its features, or with those of the key picture moved along."""
        tiles, motion = self.tiles(image), picture.motion
        if motion is None:
            return Encoded(picture.size, image, key, tiles)
        moved = carry(key, motion, size=(image.shape[0], image.shape[1]), tiles=tiles)
        return Encoded(picture.size, image, moved, tiles, carried=True)


def as_image(item: Image | str | Path) -> Image:
    """Read a path, or check that an array is an (H, W, 3) uint8 RGB image.

    Raises:
        InputError: it is neither.
    """
    if isinstance(item, (str, Path)):
        return read_image(Path(item))
    image = np.asarray(item)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            f"Got an array of shape {image.shape} and dtype {image.dtype}; expected an RGB image "
            "(H, W, 3) of dtype uint8 with at least one pixel."
        )
    return image
