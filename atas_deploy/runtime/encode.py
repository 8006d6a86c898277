"""Pictures to dense features: whole, or by sliding windows that are merged on the patch grid.

B images, H W pixels, h w grid, D embedding width, P patch size
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.geometry import Size, encoder_size, resize_image, window_starts
from atas_deploy.media.images import read_image
from atas_deploy.runtime.pipeline import ahead

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A picture with its features.

    Attributes:
        size: (H, W) of the picture.
        fitted: (H', W', 3) uint8 RGB, the encoder's input.
        dense: (h, w, D) float32.
    """

    size: Size
    fitted: Image
    dense: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """A picture of a size, fitted to the encoder; None = as the picture before."""

    size: Size
    image: Image | None


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding windows on the patch grid.

    Attributes:
        side: length of a window in patches.
        stride: from one window to the next, in patches.
    """

    side: int
    stride: int


class ImageEncoder:
    """Encodes pictures of any size.

    Args:
        backend: the engine.
        patch_size: P.
        short_side: shorter side of the encoder's input in pixels.
        windows: how to cut it; None = whole.
        batch_size: images or windows encoded at once.

    Raises:
        ConfigError: the short side or the batch size cannot be used.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        patch_size: int,
        short_side: int,
        windows: Windows | None = None,
        batch_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"The batch size is {batch_size}; expected 1 or more.")
        encoder_size((1, 1), short_side=short_side, patch_size=patch_size)
        self.short_side, self.windows, self.batch_size = short_side, windows, batch_size
        self._backend, self._patch_size = backend, patch_size

    def __call__(self, image: Image | str | Path) -> Encoded:
        """Encode one picture: a path, or (H, W, 3) uint8 RGB."""
        fitted, size = self._fit(as_image(image))
        return Encoded(size, fitted, self.encode([fitted])[0])

    def stream(
        self, images: Iterable[Image | str | Path], *, every: int = 1
    ) -> Generator[Encoded | None]:
        """Encode pictures as they come, in order; None = the picture is held, as the one before.

        They are read and fitted in one thread and encoded in another, a batch ahead.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays.
            every: encode each N-th picture only, if those between have its size.
        """
        batches = ahead(self._batches(images, every=every))
        with closing(ahead(self._encode_batches(batches))) as encoded:
            yield from encoded

    def encode(self, images: Sequence[Image]) -> FloatArray:
        """Encode (H, W, 3) uint8 images of one size, multiples of P, to (B, h, w, D) float32.

        Without windows each vector has unit length. With windows a patch gets the mean over those
        that cover it, not normalised again, so that logits are the means of the windows' logits.
        """
        batch = np.stack(images)
        h, w = batch.shape[1] // self._patch_size, batch.shape[2] // self._patch_size
        if self.windows is None or self.windows.side >= max(h, w):
            return self._backend.encode_images(batch).dense
        total: FloatArray | None = None
        covered = np.zeros((len(batch), h, w, 1), np.float32)
        for places, features in self._encode_windows(batch, self.windows):
            if total is None:
                total = np.zeros((*covered.shape[:3], features.shape[-1]), np.float32)
            for place, window in zip(places, features, strict=True):
                total[place] += window
                covered[place] += 1
        assert total is not None
        total /= covered
        return total

    def _encode_windows(
        self, batch: Image, windows: Windows
    ) -> Iterator[tuple[list[tuple[int, slice, slice]], FloatArray]]:
        """Encode all windows of a batch, some at a time, with their places on the grid."""
        p, (side, stride) = self._patch_size, (windows.side, windows.stride)
        rows, columns = (
            [slice(start, start + min(side, length)) for start in starts]
            for length in (batch.shape[1] // p, batch.shape[2] // p)
            for starts in [window_starts(length, window=side, stride=stride)]
        )
        places = [(i, y, x) for i in range(len(batch)) for y in rows for x in columns]
        for start in range(0, len(places), self.batch_size):
            some = places[start : start + self.batch_size]
            pixels = [
                batch[i, p * y.start : p * y.stop, p * x.start : p * x.stop] for i, y, x in some
            ]
            yield some, self._backend.encode_images(np.stack(pixels)).dense

    def _fit(self, image: Image) -> tuple[Image, Size]:
        size = (image.shape[0], image.shape[1])
        fitted = encoder_size(size, short_side=self.short_side, patch_size=self._patch_size)
        return resize_image(image, fitted), size

    def _batches(
        self, images: Iterable[Image | str | Path], *, every: int
    ) -> Iterator[list[_Fitted]]:
        """Group consecutive pictures of equal input size; held ones never wait for others."""
        batch: list[_Fitted] = []
        inputs: list[Image] = []  # of the batch
        size, since = (0, 0), every  # of the last picture that was not held
        for item in images:
            image = as_image(item)
            since += 1
            if since < every and image.shape[:2] == size:
                batch.append(_Fitted(size, None))
            else:
                since = 0
                fitted, size = self._fit(image)
                if inputs and inputs[0].shape != fitted.shape:
                    yield batch
                    batch, inputs = [], []
                batch.append(_Fitted(size, fitted))
                inputs.append(fitted)
            if len(inputs) in (0, self.batch_size) or len(batch) >= max(16, 4 * self.batch_size):
                yield batch  # now, not at the next image: a camera may be slow
                batch, inputs = [], []
        if batch:
            yield batch

    def _encode_batches(self, batches: Generator[list[_Fitted]]) -> Iterator[Encoded | None]:
        with closing(batches):
            for batch in batches:
                fitted = [picture.image for picture in batch if picture.image is not None]
                features = iter(self.encode(fitted)) if fitted else iter(())
                for picture in batch:
                    if picture.image is None:
                        yield None
                    else:
                        yield Encoded(picture.size, picture.image, next(features))


def snap_windows(window: int | None, stride: int | None, *, patch_size: int) -> Windows | None:
    """Round a window and its stride, in pixels of the encoder's input, to whole patches.

    Args:
        window: side of a window; None = no windows.
        stride: from one window to the next; None = half a window.
        patch_size: P.

    Raises:
        ConfigError: a stride without a window, less than a patch, or gaps between windows.
    """
    if window is None:
        if stride is not None:
            raise ConfigError(f"Got a stride of {stride} without a window; give --window too.")
        return None
    stride = max(patch_size, window // 2) if stride is None else stride
    for name, length in (("window", window), ("stride", stride)):
        if length < patch_size:
            raise ConfigError(
                f"The {name} is {length} pixels; expected at least a patch, {patch_size}."
            )
    if stride > window:
        raise ConfigError(
            f"The stride, {stride}, is longer than the window, {window}, and would leave gaps; "
            "give a stride up to the window."
        )
    side = round(window / patch_size)
    return Windows(side, min(side, round(stride / patch_size)))


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
