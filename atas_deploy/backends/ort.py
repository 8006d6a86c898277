"""ONNX Runtime."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import ImageFeatures, check_images
from atas_deploy.core.bundle import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.core.errors import BackendError, BackendUnavailableError, ConfigError

_SMALLER = "use a smaller --short-side or --batch-size if memory ran out"
_INSTALL = 'install exactly one of them: pip install "atas-deploy[cpu]" or "atas-deploy[gpu]"'


class OrtBackend:
    """A bundle's graphs in ONNX Runtime.

    Args:
        bundle: the model.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        BackendUnavailableError: ONNX Runtime or the device is missing; there is no fallback.
        BackendError: a graph cannot be loaded.
        ConfigError: unknown device.
    """

    name = "ort"

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        self.device = device
        self._multiple = bundle.manifest.multiple
        self._providers = _providers(device)
        self._image = self._load(bundle.path / IMAGE_ENCODER)
        self._text = self._load(bundle.path / TEXT_ENCODER)

    @staticmethod
    def check_device(device: str) -> None:
        """Refuse a device that is not there; this needs no bundle.

        Raises:
            BackendUnavailableError: ONNX Runtime, or its build for the device, is missing.
            ConfigError: unknown device.
        """
        _providers(device)

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images; H, W are multiples of the manifest's."""
        check_images(images, multiple=self._multiple)
        with _translated(f"encode images of shape {images.shape}", cure=_SMALLER):
            dense, image = self._image.run(["dense", "image"], {"images": images})
        return ImageFeatures(dense, image)

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised."""
        with _translated(
            f"encode texts of shape {tokens.shape}", cure="use fewer or shorter words"
        ):
            features: npt.NDArray[np.float32] = self._text.run(["text"], {"tokens": tokens})[0]
        return features

    def _load(self, path: Path) -> Any:
        """Create a session and check that it runs where it was asked to."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # threads that wait spinning would take the cores from decoding, masks and writing
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = len(os.sched_getaffinity(0)) if _has_affinity() else 0
        cure = f"check it with `atas-deploy models {path.parent} --verify`"
        with _translated(f"load {path}", cure=cure):
            session = onnxruntime.InferenceSession(path, options, providers=self._providers)
        wanted = self._providers[0][0]
        if session.get_providers()[0] != wanted:
            raise BackendUnavailableError(
                f'The device "{self.device}" was asked for, but ONNX Runtime could not start its '
                f"{wanted}; check the driver with `atas-deploy doctor`, or use --device cpu."
            )
        return session


def installed_packages() -> dict[str, str]:
    """Versions of the installed distributions that provide the module `onnxruntime`."""
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _has_affinity() -> bool:
    return hasattr(os, "sched_getaffinity")


def _providers(device: str) -> list[tuple[str, dict[str, str]]]:
    """The provider list for a device; the CPU stands behind CUDA for operators it lacks."""
    kind, _, index = device.partition(":")
    wrong_index = ":" in device and not (kind == "cuda" and index.isdigit())
    if kind not in ("cpu", "cuda") or wrong_index:
        raise ConfigError(f'Unknown device "{device}"; expected cpu, cuda or cuda:N.')
    packages = installed_packages()
    if len(packages) > 1:
        raise BackendUnavailableError(
            "Both onnxruntime and onnxruntime-gpu are installed and overwrite each other; run "
            "`pip uninstall -y onnxruntime onnxruntime-gpu`, then " + _INSTALL + "."
        )
    try:
        import onnxruntime
    except ImportError as exc:
        if isinstance(exc.__context__, KeyboardInterrupt):  # Ctrl-C in the middle of the import
            raise exc.__context__ from exc
        raise BackendUnavailableError(f"ONNX Runtime is not installed; {_INSTALL}.") from exc
    cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    if kind == "cpu":
        return [cpu]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise BackendUnavailableError(
            f'The device "{device}" needs ONNX Runtime for CUDA, but the installed build has only '
            'the CPU; run `pip uninstall -y onnxruntime`, then pip install "atas-deploy[gpu]".'
        )
    return [("CUDAExecutionProvider", {"device_id": index or "0"}), cpu]


@contextmanager
def _translated(action: str, *, cure: str) -> Iterator[None]:
    """Turn ONNX Runtime's errors, which share no base class, into ours."""
    try:
        yield
    except Exception as exc:
        reason = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        raise BackendError(f"ONNX Runtime could not {action}: {reason}; {cure}.") from exc
