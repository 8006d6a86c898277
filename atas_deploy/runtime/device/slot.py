"""Memory for a batch of pictures, and its way to the GPU, through the engine and back."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.driver import Driver, Pinned
from atas_deploy.core.errors import BackendError, first_sentence
from atas_deploy.media.video.planes import Planes
from atas_deploy.runtime.device.batch import Found, Picture, Plans
from atas_deploy.runtime.device.tools import translated
from atas_deploy.runtime.label import Words


class Slot:
    """Memory for one batch, on the GPU and page-locked on the host, used again and again.

    The second batch is captured: from the third one on, all kernels, and the engine as far as it
    allows, are one launch of a CUDA graph. A slot takes the next batch when `finish` has returned
    for the one before.

    Args:
        plans: for the batch's shape; `enqueuing` is on.

    Attributes:
        words: that the labels are of.
    """

    def __init__(self, plans: Plans) -> None:
        self._plans, self._tools = plans, plans.tools
        driver, shape = self._tools.driver, plans.shape
        self._frames = driver.empty((shape.count, *shape.size, 3), np.uint8)
        self._inputs = [self._frames]  # what goes up
        if shape.colours is not None:
            height, width = shape.size
            sides = (height, width), (height // 2, width)
            self._inputs = [driver.empty((shape.count, *side), np.uint8) for side in sides]
        self._fitted = driver.empty((shape.count, *shape.fitted, 3), np.uint8)
        self._dense = driver.empty((shape.count, *shape.grid, shape.width))
        self._upload = _pinned(driver, sum(array.nbytes for array in self._inputs))
        self._uploaded, self._computed, self._done = (driver.event() for _ in range(3))
        self._let_copies_follow()
        self._results: dict[str, Any] = {}  # on the GPU
        self._download: Pinned | None = None
        self._generation = self._turn = 0
        self._repeated: Callable[[], None] | None = None
        self._whole: Any = None  # graph of all that is done to the batch
        self._tail: Any = None  # graph of what is done behind the engine
        self.words: Words | None = None

    def _let_copies_follow(self) -> None:
        """Memory from CuPy's pool may still be in use by what is enqueued on the stream."""
        taken = self._tools.driver.event()
        taken.record(self._tools.driver.stream)
        self._tools.up.wait_event(taken)

    def fill(self, images: Sequence[Picture]) -> None:
        """Copy pictures, all as `BatchShape` says, to where the GPU takes them from."""
        places = _views(self._upload, self._inputs)
        for index, image in enumerate(images):
            parts = (image.luma, image.chroma) if isinstance(image, Planes) else (image,)
            for place, part in zip(places, parts, strict=True):
                np.copyto(place[index], part)

    def start(self, words: Words) -> None:
        """Enqueue all that is done to the batch; call it while `enqueuing`."""
        driver, up = self._tools.driver, self._tools.up
        source = self._upload.address
        for array in self._inputs:
            driver.copy(int(array.data.ptr), source, array.nbytes, stream=up)
            source += array.nbytes
        self._uploaded.record(up)
        self._load(words)
        driver.stream.wait_event(self._uploaded)
        self._compute()
        self._fetch()

    def label_again(self, words: Words) -> None:
        """Enqueue the labels for other words; call it while `enqueuing`, after `finish`."""
        self._load(words)
        self._label()
        self._fetch()

    def finish(self) -> None:
        """Wait for the results.

        Raises:
            BackendError: something failed on the GPU meanwhile.
        """
        with translated("label pictures"):
            self._done.synchronize()

    def take(self, index: int) -> Found:
        """Copy the results of a picture, after `finish`."""
        assert self._download is not None
        places = _views(self._download, list(self._results.values()))
        found = {
            name: place[index].copy() for name, place in zip(self._results, places, strict=True)
        }
        return Found(found["labels"], found["winners"], found["probability"], found.get("tinted"))

    def _load(self, words: Words) -> None:
        """Put words on the GPU; memory, plans and graphs are made anew if they need more room."""
        tools = self._tools
        tools.words.load(words)
        self.words = words
        if self._generation == tools.words.generation:
            return
        self._generation, self._turn = tools.words.generation, 0
        self._whole = self._tail = None
        driver, shape = tools.driver, self._plans.shape
        self._results = {
            "winners": driver.empty((shape.count, *shape.grid), np.int32),
            "probability": driver.empty((shape.count, *shape.grid)),
            "labels": driver.empty((shape.count, *shape.size), tools.words.labels),
        }
        if self._plans.tint is not None:
            self._results["tinted"] = driver.empty(self._frames.shape, np.uint8)
        size = sum(array.nbytes for array in self._results.values())
        self._download = _pinned(driver, size)

    def _compute(self) -> None:
        """Enqueue the work of the GPU, by graphs once there are some."""
        driver, backend = self._tools.driver, self._tools.backend
        if self._whole is not None:
            driver.launch(self._whole)
            return
        self._turn += 1
        if self._turn == 2 and self._repeated is None:
            self._repeated = backend.repeat_encoding(self._fitted, self._dense)
        self._encode()
        if self._tail is not None:
            driver.launch(self._tail)
            return
        self._label()
        if self._turn == 2:
            self._capture()

    def _capture(self) -> None:
        """Capture what has just been done, as much of it as may be."""
        tools = self._tools
        if tools.capture_problem is not None:
            return
        try:
            if self._repeated is None:
                self._tail = tools.driver.capture(self._label)
            else:
                self._whole = tools.driver.capture(self._encode_and_label)
        except (BackendError, RuntimeError) as exc:  # CuPy's errors are RuntimeErrors
            reason = first_sentence(exc)
            tools.capture_problem = f"CUDA graphs of whole frames are not used ({reason})."

    def _encode_and_label(self) -> None:
        self._encode()
        self._label()

    def _encode(self) -> None:
        """Enqueue the way from the pictures to their features."""
        tools, colours = self._tools, self._plans.shape.colours
        if colours is not None:
            luma, chroma = self._inputs
            matrix, full_range = colours
            for index in range(self._plans.shape.count):
                planes = luma[index], chroma[index], self._frames[index]
                tools.kernels.nv12_to_rgb(*planes, matrix=matrix, full_range=full_range)
        tools.kernels.resize(self._frames, self._fitted, plan=self._plans.resize)
        if self._repeated is None:
            tools.backend.encode_into(self._fitted, self._dense)
        else:
            self._repeated()

    def _label(self) -> None:
        """Enqueue the way from the features to label maps and overlays, picture by picture."""
        kernels, words, plans = self._tools.kernels, self._tools.words, self._plans
        results = self._results
        for index in range(plans.shape.count):
            kernels.label_map(
                self._dense[index],
                words.queries,
                words.query_class,
                words.count,
                results["labels"][index],
                results["winners"][index],
                results["probability"][index],
                threshold=plans.threshold,
                plan=plans.labels,
            )
            if plans.tint is not None:
                kernels.blend(
                    self._frames[index],
                    results["labels"][index],
                    plans.palette,
                    results["tinted"][index],
                    opacity=plans.tint.opacity,
                    plan=plans.blend,
                )

    def _fetch(self) -> None:
        """Enqueue the copies of the results to the host."""
        assert self._download is not None
        driver, down = self._tools.driver, self._tools.down
        self._computed.record(driver.stream)
        down.wait_event(self._computed)
        target = self._download.address
        for array in self._results.values():
            driver.copy(target, int(array.data.ptr), array.nbytes, stream=down)
            target += array.nbytes
        self._done.record(down)


def _views(memory: Pinned, arrays: Sequence[Any]) -> list[npt.NDArray[Any]]:
    """Arrays of the GPU on the host, one behind the other, in place."""
    views, start = [], 0
    for array in arrays:
        place = memory.host[start : start + array.nbytes]
        views.append(place.view(array.dtype).reshape(array.shape))
        start += array.nbytes
    return views


def _pinned(driver: Driver, size: int) -> Pinned:
    """Page-locked memory for some bytes, of one of few sizes.

    CuPy keeps what is freed for those who ask for the very same size: with a size for every
    picture, a folder of photographs would fill the host.
    """
    return driver.allocate_pinned(1 << (size - 1).bit_length())
