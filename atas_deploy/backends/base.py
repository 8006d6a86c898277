"""What every inference engine offers.

B images, N texts, L tokens, H W pixels, h w grid, D embedding width
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.driver import Driver
from atas_deploy.core.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """Features of a batch of images, both L2-normalised.

    Attributes:
        dense: (B, h, w, D) float32, one vector a cell.
        image: (B, D) float32, the class token.
    """

    dense: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceFeatures:
    """Features of a batch of images that still lie on the GPU; they belong to the caller.

    Work on `stream` may use them at once. Other work waits for `ready` first, and whoever started
    it keeps the features until it is done: memory that is let go is used again on `stream`.

    Attributes:
        dense: (B, h, w, D) float32 `cupy.ndarray` in C order, L2-normalised, one vector a cell.
        image: (B, D) float32 `cupy.ndarray` in C order, L2-normalised, the class token.
        stream: the `cupy.cuda.Stream` that writes them.
        ready: a `cupy.cuda.Event`, recorded on the stream behind what writes them.
    """

    dense: Any
    image: Any
    stream: Any
    ready: Any

    def to_host(self) -> ImageFeatures:
        """Wait until they are written and copy them to numpy."""
        self.ready.synchronize()
        return ImageFeatures(self.dense.get(), self.image.get())


class Backend(Protocol):
    """A loaded bundle on a device. Arrays go in and out as numpy and belong to the caller."""

    name: str
    device: str

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images; H, W are multiples of the manifest's."""
        ...

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised."""
        ...


class DeviceBackend(Backend, Protocol):
    """A backend that may run on a GPU, take images from there and leave features there."""

    @property
    def driver(self) -> Driver | None:
        """The GPU, with the stream that all work is enqueued on; None = the backend uses none."""
        ...

    def encode_on_device(self, images: npt.NDArray[np.uint8]) -> DeviceFeatures:
        """As `encode_images`, without waiting for the GPU or copying features from it."""
        ...

    def enqueuing(self) -> AbstractContextManager[None]:
        """The stream for oneself: no other thread enqueues work of the backend meanwhile."""
        ...

    def encode_into(self, images: Any, dense: Any) -> None:
        """Enqueue the encoding of images that lie on the GPU; call it inside `enqueuing`.

        Args:
            images: (B, H, W, 3) uint8 `cupy.ndarray` in C order, RGB.
            dense: (B, h, w, D) float32 `cupy.ndarray` in C order, written.
        """
        ...

    def repeat_encoding(self, images: Any, dense: Any) -> Callable[[], None] | None:
        """What enqueues `encode_into` of the same memory again and again.

        Call it, and what it returns, inside `enqueuing`. Once that was called, it may be captured.
        It must live as long as the graph.

        Args:
            images: as for `encode_into`.
            dense: as for `encode_into`.

        Returns:
            None if the backend's work cannot be captured in a CUDA graph.
        """
        ...


def calls_at_once(backend: Backend) -> int:
    """How many calls of `encode_images` a backend works on at once, in threads of the caller's."""
    return int(getattr(backend, "calls_at_once", 1))


def release_texts(backend: Backend) -> None:
    """Free what a backend needs for new words only, if it can; they load it again."""
    if release := getattr(backend, "release_texts", None):
        release()


def check_images(images: npt.NDArray[np.uint8], *, multiple: int) -> None:
    """Refuse a batch that a graph would silently crop or fail on.

    Raises:
        InputError: not (B, H, W, 3) uint8, empty, or H, W are no multiples of the graph's.
    """
    fits = images.ndim == 4 and images.shape[3] == 3 and images.dtype == np.uint8
    if not fits or images.size == 0 or images.shape[1] % multiple or images.shape[2] % multiple:
        raise InputError(
            f"Got images of shape {images.shape} and dtype {images.dtype}; expected a batch "
            f"(B, H, W, 3) of dtype uint8 with H and W multiples of {multiple}."
        )
