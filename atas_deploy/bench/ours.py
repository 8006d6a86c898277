"""Our runtime as a contender.

H W pixels, h w grid, D embedding width, Q queries
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.bench.on_gpu import GpuStages, OnGpu
from atas_deploy.bench.plan import Contender
from atas_deploy.bench.stopwatch import Stopwatch
from atas_deploy.bench.words import UNLISTED, lvis
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import InputError
from atas_deploy.core.geometry import Size, encoder_size, resize_image
from atas_deploy.core.masks import Labels
from atas_deploy.media.sources import find_sources
from atas_deploy.runtime.device.tools import open_tools
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.job import SegmentJob
from atas_deploy.runtime.label import Words
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.outputs import OutputFolder
from atas_deploy.runtime.segment import Segmenter

Image = npt.NDArray[np.uint8]


class Ours:
    """A segmenter, as `atas-deploy segment` runs it.

    Args:
        contender: what to run.

    Attributes:
        segmenter: the model on its engine, with the words.
        device: "cpu", "cuda" or "cuda:N".
        batch_size: frames encoded at once.
        text_seconds: that the words took.

    Raises:
        AtasError: as `Segmenter`, or there are not so many words.
    """

    def __init__(self, contender: Contender) -> None:
        words = lvis(contender.words)
        self.device, self.batch_size = contender.device, contender.batch_size
        self.segmenter = Segmenter(
            Bundle.open(contender.model),
            UNLISTED,
            background="none",
            backend=contender.backend,
            device=contender.device,
            short_side=contender.short_side,
            batch_size=contender.batch_size,
        )
        start = time.perf_counter()
        self.segmenter.set_classes(words)
        self.text_seconds = time.perf_counter() - start
        vocabulary, prompts = self.segmenter.vocabulary, self.segmenter.templates.prompts
        features = self.segmenter.encoders.texts(prompts)(vocabulary.queries)
        self._queries_DQ = np.float32(self.segmenter.logit_scale) * features.T
        self._folder = OutputFolder(
            Path(), classes=vocabulary.classes, options=JobOptions(max_frames=1)
        )
        self._gpu = self._open_gpu(Words(vocabulary, self._queries_DQ))

    def _open_gpu(self, words: Words) -> GpuStages | None:
        """The stages on the GPU, if the backend keeps frames there."""
        tools, manifest = open_tools(self.segmenter.backend), self.segmenter.bundle.manifest
        if tools is None:
            return None
        sizes = {"cell": manifest.cell, "width": manifest.embed_dim}
        return GpuStages(tools, words, self._folder, **sizes)

    def run(self, video: Path, out: Path, *, frames: int, tick: Callable[[], None]) -> None:
        """Run the job of `atas-deploy segment` on a video."""
        progress, options = _Ticks(tick), JobOptions(max_frames=frames)
        job = SegmentJob(self.segmenter, out, progress=progress, options=options)
        tally = job.run(find_sources([str(video)], exclude=out))
        if tally.failed:
            raise InputError(tally.failures[0]["error"])

    def input_size(self, size: Size) -> Size:
        """(height, width) of the encoder's input for frames of a size."""
        manifest = self.segmenter.bundle.manifest
        return encoder_size(
            size,
            short_side=self.segmenter.short_side,
            multiple=manifest.multiple,
            cell=manifest.cell,
        )

    def encode(
        self, images: Sequence[Image], watch: Stopwatch
    ) -> Sequence[Encoded] | Sequence[OnGpu]:
        """Fit and encode a batch of (H, W, 3) frames."""
        size = images[0].shape[0], images[0].shape[1]
        if self._gpu is not None:
            return self._gpu.encode(images, watch, fitted=self.input_size(size))
        with watch("preprocess", frames=len(images)):
            fitted = [resize_image(image, self.input_size(size)) for image in images]
        with watch("encoder", frames=len(images)):
            dense = self.segmenter.encoder.encode(fitted)
        return [Encoded(size, *pair) for pair in zip(fitted, dense, strict=True)]

    def label(
        self, image: Image, encoded: Encoded | OnGpu, watch: Stopwatch
    ) -> tuple[Labels, Image]:
        """Labels (H, W) and overlay (H, W, 3) of a frame."""
        if isinstance(encoded, OnGpu):
            assert self._gpu is not None
            return self._gpu.label(image, encoded, watch)
        with watch("text_product"):
            encoded.dense.reshape(-1, encoded.dense.shape[-1]) @ self._queries_DQ
        with watch("masks"):
            result = self.segmenter.label(encoded)
        watch.shift("masks", -watch.last("text_product"))  # which it contains
        with watch("overlay"):
            overlay = self._folder.overlay(image, result)
        return result.labels, overlay


class _Ticks:
    """Progress of a job that only counts."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """A frame is done."""
        self._tick()

    def end(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
