"""Images through an engine: fixed memory on the GPU, a CUDA graph for each shape that comes back.

B images, H W pixels, h w grid, D embedding width
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import DeviceFeatures
from atas_deploy.backends.driver import Driver
from atas_deploy.backends.trt.batches import split_batch
from atas_deploy.backends.trt.execution import DENSE, IMAGE, IMAGES, Context, Engine, Shape
from atas_deploy.backends.trt.graphs import GraphCache

SHAPES = 8  # that are remembered
_FLOAT = 4  # bytes
_ALIGNMENT = 256  # bytes, of tensors


class Session:
    """An engine on a GPU. Calls must not overlap, and need `driver.active()`.

    All memory that TensorRT reads and writes is allocated here, once, for the largest shape of all
    profiles: a graph holds addresses, so they never change. There is one context for each profile.
    A shape that comes a second time gets a context of its own, as TensorRT's documentation advises
    for graphs, and from then on is one launch. The shapes used last are kept.

    Args:
        engine: read back on the same GPU.
        driver: of the GPU.
        shapes: that are remembered, with a graph of each that came twice.

    Raises:
        BackendError: TensorRT refuses what it needs.
    """

    def __init__(self, engine: Engine, driver: Driver, *, shapes: int = SHAPES) -> None:
        self._engine, self._driver = engine, driver
        self._graphs = GraphCache(driver, limit=shapes)
        self._scratch = driver.allocate(engine.scratch)
        self._contexts = [self._new_context(i) for i in range(len(engine.profiles))]
        sizes = self._largest()
        self._memory = {name: driver.allocate(size) for name, size in sizes.items()}
        self._addresses = {name: int(memory.ptr) for name, memory in self._memory.items()}
        for context in self._contexts:
            context.bind(self._addresses)
        self._uploads = [driver.allocate_pinned(sizes[IMAGES]) for _ in range(2)]

    def encode(
        self, images: npt.NDArray[np.uint8], *, profile: int | None = None
    ) -> DeviceFeatures:
        """Enqueue the encoding of images; the host need not wait.

        Args:
            images: (B, H, W, 3) uint8 RGB.
            profile: number of the one to use; None = the best for the shape.

        Raises:
            InputError: no profile takes H and W.
            BackendError: TensorRT refuses.
        """
        count, height, width, _ = images.shape
        chosen, length = self._split((count, height, width), profile)
        features: dict[str, Any] = {}
        for first in range(0, count, length):
            part = images[first : first + length]
            self._upload(part, length)
            outputs = self._execute(chosen, (length, height, width))
            for name, shape in outputs.items():
                if not first:
                    features[name] = self._driver.empty((count, *shape[1:]))
                self._take(name, features[name], first=first, count=len(part))
        ready = self._driver.event()
        ready.record(self._driver.stream)
        return DeviceFeatures(features[DENSE], features[IMAGE], self._driver.stream, ready)

    def encode_into(self, images: Any, dense: Any) -> None:
        """Enqueue the encoding of images that lie on the GPU.

        Args:
            images: (B, H, W, 3) uint8 `cupy.ndarray`.
            dense: (B, h, w, D) float32 `cupy.ndarray`, written.

        Raises:
            InputError: no profile takes H and W.
            BackendError: TensorRT refuses.
        """
        count, height, width, _ = images.shape
        chosen, length = self._split((count, height, width))
        picture = prod(images.shape[1:])
        for first in range(0, count, length):
            part = min(length, count - first)
            source = int(images.data.ptr) + first * picture
            self._driver.copy(self._addresses[IMAGES], source, part * picture)
            self._execute(chosen, (length, height, width))
            self._take(DENSE, dense, first=first, count=part)

    def repeat_encoding(self, images: Any, dense: Any) -> Callable[[], None] | None:
        """What enqueues the encoding of the same memory, without copies, and may be captured.

        It has a context for each part of the batch, bound to that memory. The class token goes
        where nobody reads it.

        Returns:
            None if parts would have to be filled up or begin at addresses that TensorRT does not
            take, or if it allows no capture.
        """
        count, height, width, _ = images.shape
        chosen, length = self._split((count, height, width))
        parts, rest = divmod(count, length)
        if rest:
            return None
        steps = {IMAGES: images.nbytes // parts, DENSE: dense.nbytes // parts}
        if parts > 1 and any(step % _ALIGNMENT for step in steps.values()):
            return None
        first = {IMAGES: int(images.data.ptr), DENSE: int(dense.data.ptr)}
        contexts = []
        for part in range(parts):
            context = self._new_context(chosen, specialization="EAGER")
            places = {name: first[name] + part * step for name, step in steps.items()}
            context.bind(self._addresses | places)
            context.set_shape((length, height, width))
            contexts.append(context)
        return partial(_enqueue, contexts) if all(c.capturable for c in contexts) else None

    def close(self) -> None:
        """Wait for all work, then let go of graphs, contexts and memory, in this order."""
        self._driver.stream.synchronize()
        self._graphs.clear()
        self._contexts.clear()
        self._memory.clear()
        self._uploads.clear()
        self._scratch = None

    @property
    def capture_problem(self) -> str | None:
        """One sentence on why there are no CUDA graphs; None while there are."""
        return self._graphs.problem

    def _split(self, shape: tuple[int, int, int], profile: int | None = None) -> tuple[int, int]:
        """The profile for images of a shape (B, H, W), and the length of their parts."""
        allowed = range(len(self._engine.profiles)) if profile is None else [profile]
        batches = split_batch([self._engine.profiles[index] for index in allowed], shape)
        return allowed[batches.profile], batches.length

    def _upload(self, part: npt.NDArray[np.uint8], length: int) -> None:
        """Enqueue the copy of a part, of two buffers in turn; whatever was there fills it up."""
        buffer = self._uploads[0]
        self._uploads.reverse()
        buffer.copied.synchronize()
        shape = length, *part.shape[1:]
        pixels = buffer.host[: prod(shape)].reshape(shape)
        pixels[: len(part)] = part
        self._driver.copy(self._addresses[IMAGES], buffer.address, pixels.nbytes)
        buffer.copied.record(self._driver.stream)

    def _take(self, name: str, features: Any, *, first: int, count: int) -> None:
        """Enqueue the copy of an output to the caller's features, without what filled it up."""
        row = _FLOAT * prod(features.shape[1:])
        target = int(features.data.ptr) + first * row
        self._driver.copy(target, self._addresses[name], count * row)

    def _execute(self, profile: int, shape: Shape) -> Mapping[str, Shape]:
        """Enqueue one execution, by the shape's graph once it has one; say what came out."""
        key = (profile, *shape)
        if captured := self._graphs.find(key):
            self._driver.launch(captured.graph)
            return captured.outputs
        if not self._graphs.wants(key):
            context = self._contexts[profile]
            outputs = context.set_shape(shape)
            context.enqueue()
            return outputs
        context = self._new_context(profile, specialization="EAGER")
        context.bind(self._addresses)
        outputs = context.set_shape(shape)
        context.enqueue()
        self._graphs.capture(key, context, outputs)
        return outputs

    def _new_context(self, profile: int, *, specialization: str = "LAZY") -> Context:
        return self._engine.context(
            profile=profile,
            scratch=int(self._scratch.ptr),
            stream=self._driver.stream,
            specialization=specialization,
        )

    def _largest(self) -> dict[str, int]:
        """Bytes of every tensor for the largest shape of all profiles."""
        sizes = {IMAGES: 0, DENSE: 0, IMAGE: 0}
        for context, profile in zip(self._contexts, self._engine.profiles, strict=True):
            shapes = context.set_shape(profile.most)
            sizes[IMAGES] = max(sizes[IMAGES], 3 * prod(profile.most))
            for name, shape in shapes.items():
                sizes[name] = max(sizes[name], _FLOAT * prod(shape))
        return sizes


def _enqueue(contexts: Sequence[Context]) -> None:
    """Enqueue one execution of each."""
    for context in contexts:
        context.enqueue()
