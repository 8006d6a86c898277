"""Stages on a GPU, on the model of CUDA in `tests/cupy_model.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.backends.driver import Driver
from atas_deploy.backends.kernels import twins
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.bench.on_gpu import GpuStages
from atas_deploy.bench.stopwatch import STAGES, Stopwatch
from atas_deploy.core.masks import label_map
from atas_deploy.media.video import VideoReader
from atas_deploy.models import open_model
from atas_deploy.runtime.device import tools
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.outputs import OutputFolder

FITTED = (32, 48)


class ModelBackend:
    """ONNX Runtime as an engine of the model's GPU: it encodes when its turn comes."""

    def __init__(self, model: ModuleType, cuda: Any, host: OrtBackend) -> None:
        self.driver = Driver("cuda")
        self._model, self._cuda, self._host = model, cuda, host

    @contextmanager
    def enqueuing(self) -> Iterator[None]:
        """The stream."""
        with self.driver.active():
            yield

    def encode_into(self, images: Any, dense: Any) -> None:
        """Enqueue the encoding."""

        def work(images: np.ndarray, dense: np.ndarray) -> None:
            dense[:] = self._host.encode_images(images).dense

        self._model.Launch(self._cuda, work, [images, dense])


@pytest.fixture
def segmenter() -> Segmenter:
    """The embedded model on the CPU, which knows what must come out."""
    return Segmenter(classes="sky,tree,building", background="none", short_side=32)


@pytest.fixture
def stages(
    segmenter: Segmenter,
    cuda: Any,
    cupy_model: ModuleType,
    kernel_model: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> GpuStages:
    """The same model's stages on the model of a GPU."""
    monkeypatch.setattr(tools, "Kernels", kernel_model.TwinKernels)
    backend = ModelBackend(cupy_model, cuda, OrtBackend(open_model("atas-tiny"), threads=1))
    folder = OutputFolder(Path(), classes=segmenter.vocabulary.classes, options=JobOptions())
    gpu = tools.open_tools(backend)
    assert gpu is not None
    return GpuStages(gpu, segmenter._words, folder, cell=16, width=256)


@pytest.fixture
def images(pan: Path) -> list[np.ndarray]:
    """Two frames."""
    with VideoReader(pan, max_frames=2) as reader:
        return [frame.image for frame in reader]


def test_labels_are_those_of_the_cpu(
    stages: GpuStages, segmenter: Segmenter, images: list[np.ndarray]
) -> None:
    """Of every frame of a batch, from the pixels that the kernel's twin makes."""
    encoded = stages.encode(images, Stopwatch(), fitted=FITTED)
    words = segmenter._words
    for image, item in zip(images, encoded, strict=True):
        labels, overlay = stages.label(image, item, Stopwatch())
        fitted = twins.resize(image[None], FITTED)
        dense = segmenter.backend.encode_images(fitted).dense[0]
        size = image.shape[:2]
        wanted = label_map(dense, words.queries, words.vocabulary.query_class, size=size)
        assert (labels == wanted.labels).mean() > 0.999
        assert overlay.shape == image.shape
        assert not np.array_equal(overlay, image)


def test_every_stage_is_timed_once_a_frame(stages: GpuStages, images: list[np.ndarray]) -> None:
    """But for what the decoder and the video encoder do; the product is a part of the masks."""
    watch = Stopwatch()
    for image, item in zip(images, stages.encode(images, watch, fitted=FITTED), strict=True):
        stages.label(image, item, watch)
    elsewhere = {"decode", "text_product", "encode"}
    assert {stage: len(times) for stage, times in watch.seconds.items()} == dict.fromkeys(
        set(STAGES) - elsewhere, 2
    )


def test_every_step_is_waited_for(stages: GpuStages, images: list[np.ndarray], cuda: Any) -> None:
    """Nothing is left in the stream when the time of a step is taken."""
    item = stages.encode(images[:1], Stopwatch(), fitted=FITTED)[0]
    waits = cuda.log.count("synchronize")
    stages.label(images[0], item, Stopwatch())
    assert cuda.log.count("synchronize") - waits == 3
    assert not any(stream.work for stream in cuda.streams.values())
