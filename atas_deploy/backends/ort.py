"""ONNX Runtime, on the CPU and on NVIDIA GPUs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import DeviceFeatures, ImageFeatures, check_images
from atas_deploy.backends.driver import Driver
from atas_deploy.backends.gpu import load_cupy
from atas_deploy.backends.ort_cuda import CudaImages
from atas_deploy.backends.ort_device import providers_of
from atas_deploy.backends.ort_host import HostImages
from atas_deploy.backends.ort_session import (
    IMAGE_INPUTS,
    IMAGE_OUTPUTS,
    TEXT_INPUTS,
    TEXT_OUTPUTS,
    load_session,
    translated,
)
from atas_deploy.backends.ort_threads import thread_count
from atas_deploy.core.bundle import CPU_ENCODER, IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.memory import return_freed

_SMALL = 2**26  # bytes of weights of which a process may hold two copies, for two pictures at once
_SMALLER = "use a smaller --short-side or --batch-size if memory ran out"


class OrtTextEncoder:
    """A bundle's text encoder in ONNX Runtime; it is loaded when it is first used.

    Args:
        bundle: the model.
        device: "cpu", "cuda" or "cuda:N".
        threads: for one operator on the CPU; None = as `ort_threads.thread_count`.

    Raises:
        BackendUnavailableError: ONNX Runtime or its build for the device is missing.
        ConfigError: unknown device, or no such number of threads.
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> None:
        self._path = bundle.path / TEXT_ENCODER
        self._providers, self._threads = providers_of(device), thread_count(threads)

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised.

        Raises:
            BackendError: the graph cannot be loaded or run.
            BackendUnavailableError: the device did not start.
        """
        with translated(f"encode texts of shape {tokens.shape}", cure="use fewer or shorter words"):
            features: npt.NDArray[np.float32] = self._session.run(["text"], {"tokens": tokens})[0]
        return features

    def release(self) -> None:
        """Free the graph; the next words load it again."""
        if self.__dict__.pop("_session", None) is not None:
            return_freed()

    @cached_property
    def _session(self) -> Any:
        return load_session(
            self._path,
            inputs=TEXT_INPUTS,
            outputs=TEXT_OUTPUTS,
            providers=self._providers,
            threads=self._threads,
        )


class OrtBackend:
    """A bundle's graphs in ONNX Runtime.

    Args:
        bundle: the model.
        device: "cpu", "cuda" or "cuda:N".
        threads: for one operator on the CPU; None = the variable ATAS_DEPLOY_THREADS if it is set,
            else the cores that the affinity and the control group of this process allow.

    Raises:
        BackendUnavailableError: ONNX Runtime or the device is missing; there is no fallback.
        BackendError: a graph cannot be loaded, or is none of ours.
        ConfigError: unknown device, or one that cannot compute in the bundle's precision.
    """

    name = "ort"

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> None:
        self.device = device
        self._bundle, self._threads = bundle, thread_count(threads)
        self._texts = OrtTextEncoder(bundle, device=device, threads=threads)
        _check_precision(bundle, device)
        self._images = self._cuda if _has_cupy(device) else self._host()

    @staticmethod
    def check_device(device: str) -> None:
        """Refuse a device that is not there; this needs no bundle.

        Raises:
            BackendUnavailableError: ONNX Runtime, its build for the device, or a GPU is missing.
            ConfigError: unknown device.
        """
        providers_of(device)
        if _has_cupy(device):
            load_cupy(device)

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images; H, W are multiples of the manifest's."""
        check_images(images, multiple=self._bundle.manifest.multiple)
        with translated(f"encode images of shape {images.shape}", cure=_SMALLER):
            if isinstance(self._images, CudaImages):
                return self._images.encode(images).to_host()
            return self._images.encode(images)

    def encode_on_device(self, images: npt.NDArray[np.uint8]) -> DeviceFeatures:
        """As `encode_images`, without waiting for the GPU or copying features from it.

        Raises:
            BackendUnavailableError: CuPy is missing.
            BackendError: the graph cannot be run.
            ConfigError: the device is no GPU.
        """
        encoder = self._cuda
        check_images(images, multiple=self._bundle.manifest.multiple)
        with translated(f"encode images of shape {images.shape}", cure=_SMALLER):
            return encoder.encode(images)

    @property
    def calls_at_once(self) -> int:
        """How many calls of `encode_images` it works on at once."""
        return self._images.calls if isinstance(self._images, HostImages) else 1

    @property
    def driver(self) -> Driver | None:
        """The GPU; None on the CPU, and where CuPy is missing."""
        return self._images.driver if isinstance(self._images, CudaImages) else None

    def enqueuing(self) -> AbstractContextManager[None]:
        """The stream for oneself: no other thread enqueues work of the backend meanwhile."""
        return self._cuda.enqueuing()

    def encode_into(self, images: Any, dense: Any) -> None:
        """As `DeviceBackend` has it.

        Raises:
            BackendError: the graph cannot be run.
        """
        with translated(f"encode images of shape {images.shape}", cure=_SMALLER):
            self._cuda.encode_into(images, dense)

    def repeat_encoding(self, images: Any, dense: Any) -> Callable[[], None] | None:
        """None: ONNX Runtime would have to be told before, and then takes one shape only."""
        return None

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised."""
        return self._texts.encode_texts(tokens)

    def release_texts(self) -> None:
        """Free what only new words need; they load it again."""
        self._texts.release()

    @cached_property
    def _cuda(self) -> CudaImages:
        manifest = self._bundle.manifest
        driver = Driver(self.device)  # it says what is missing
        load = partial(_load_images, self._bundle, self.device, self._threads)
        return CudaImages(driver, load, cell=manifest.cell, width=manifest.embed_dim)

    def _host(self) -> HostImages:
        files = self._bundle.path.glob(f"{IMAGE_ENCODER}*")
        size = sum(path.stat().st_size for path in files)
        shared = self.device == "cpu" and self._threads > 1 and size <= _SMALL
        calls = 2 if shared else 1
        load = partial(_load_images, self._bundle, self.device)
        return HostImages(load, threads=self._threads, calls=calls)


def _load_images(bundle: Bundle, device: str, threads: int, stream: int | None = None) -> Any:
    """A session of the image encoder, on a CUDA stream of that address.

    It is no method: sessions are large, and whoever keeps one must not keep the backend alive.
    """
    return load_session(
        _graph(bundle, device),
        inputs=IMAGE_INPUTS,
        outputs=IMAGE_OUTPUTS,
        providers=providers_of(device, stream=stream),
        threads=threads,
    )


def _graph(bundle: Bundle, device: str) -> Path:
    """The image encoder, on the CPU with fused attention where the bundle has it so.

    One that the manifest does not list is of another bundle; while one is written, none is listed.
    """
    fused, listed = bundle.path / CPU_ENCODER, bundle.manifest.files
    ours = fused.exists() and (CPU_ENCODER in listed or not listed)
    return fused if device == "cpu" and ours else bundle.path / IMAGE_ENCODER


def _has_cupy(device: str) -> bool:
    """Whether CuPy binds the memory of a device; without it, ONNX Runtime makes the copies."""
    return device != "cpu" and find_spec("cupy") is not None


def _check_precision(bundle: Bundle, device: str) -> None:
    """Refuse bfloat16 on the CPU, where ONNX Runtime has no products of such matrices."""
    if device == "cpu" and bundle.manifest.precision == "bf16":
        raise ConfigError(
            f"The model {bundle.manifest.name} computes in bf16, which ONNX Runtime cannot on the "
            "CPU; use a bundle of --precision fp32 there, or a GPU with --backend trt."
        )
