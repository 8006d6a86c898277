"""Segmenters whose backend lies on the model of CUDA, with kernels that run their numpy twins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.backends.driver import Driver
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.models import open_model
from atas_deploy.runtime.device import tools

Make = Callable[..., Segmenter]
SMALL = {"short_side": 32, "templates": ["a {}"]}


class GpuBackend:
    """ONNX Runtime as a backend on the GPU 1: it encodes what lies there when its turn comes."""

    name, device = "model", "cuda:1"

    def __init__(self, model: ModuleType, cuda: Any, host: OrtBackend, *, capturable: bool) -> None:
        self.driver = Driver(self.device)
        self.capturable, self.encoded = capturable, 0
        self._model, self._cuda, self._lock = model, cuda, RLock()
        self._host = host
        self.encode_texts = self._host.encode_texts
        self.encode_images = self._host.encode_images

    @contextmanager
    def enqueuing(self) -> Iterator[None]:
        """The stream for one thread."""
        with self._lock, self.driver.active():
            yield

    def encode_into(self, images: Any, dense: Any) -> None:
        """Enqueue the encoding, unless the stream captures."""
        self._cuda.check(self.driver.stream.captured is None, "what cannot be captured is")
        self._launch(images, dense)

    def repeat_encoding(self, images: Any, dense: Any) -> Callable[[], None] | None:
        """The encoding of these images, if it may be captured."""
        return (lambda: self._launch(images, dense)) if self.capturable else None

    def _launch(self, images: Any, dense: Any) -> None:
        def work(images: np.ndarray, dense: np.ndarray) -> None:
            dense[:] = self._host.encode_images(images).dense

        self.encoded += 1
        self._model.Launch(self._cuda, work, [images, dense])


@pytest.fixture(scope="session")
def host() -> OrtBackend:
    """What encodes in its place."""
    return OrtBackend(open_model("atas-tiny"), threads=1)


@pytest.fixture(params=[False, True], ids=["late", "hasty"])
def gpu(
    request: pytest.FixtureRequest,
    cuda: Any,
    kernel_model: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """The model of CUDA with twins for kernels; copies are as late, or as early, as they may be."""
    cuda.hasty = request.param
    monkeypatch.setattr(tools, "Kernels", kernel_model.TwinKernels)
    return cuda


@pytest.fixture
def make(gpu: Any, cupy_model: ModuleType, host: OrtBackend) -> Make:
    """Make a segmenter on the GPU; `capturable` says whether its engine may be captured."""

    def segmenter(*, capturable: bool = True, **settings: Any) -> Segmenter:
        backend = GpuBackend(cupy_model, gpu, host, capturable=capturable)
        given = {"classes": "sky,tree|bush,water", "background": "road", **SMALL} | settings
        return Segmenter(open_model("atas-tiny"), backend=backend, **given)

    return segmenter
