"""Which engine runs a bundle: it is chosen here and nowhere else."""

from collections.abc import Mapping

from atas_deploy.backends.base import Backend
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.trt.backend import TrtBackend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError

BACKENDS: Mapping[str, type[OrtBackend | TrtBackend]] = {"ort": OrtBackend, "trt": TrtBackend}
DEFAULT_DEVICES: Mapping[str, str] = {"ort": "cpu", "trt": "cuda"}


def check_backend(name: str, *, device: str | None = None) -> None:
    """Refuse an engine or device that is unknown or missing; this needs no bundle.

    Args:
        name: "ort" or "trt".
        device: "cpu", "cuda" or "cuda:N"; None = "cpu" for "ort" and "cuda" for "trt".

    Raises:
        ConfigError: there is no such engine, or the device is none of its.
        BackendUnavailableError: it is not installed, or the device is missing.
    """
    if name not in BACKENDS:
        raise ConfigError(f'Unknown backend "{name}"; expected {", ".join(BACKENDS)}.')
    BACKENDS[name].check_device(device or DEFAULT_DEVICES[name])


def open_backend(name: str, bundle: Bundle, *, device: str | None = None) -> Backend:
    """Run a bundle on an engine; there is no fallback to another one.

    Args:
        name: as for `check_backend`.
        bundle: the model.
        device: as for `check_backend`.

    Raises:
        ConfigError: as for `check_backend`.
        BackendUnavailableError: as for `check_backend`, or there is no engine for this machine.
        BackendError: the model cannot be loaded.
        ParityError: a TensorRT engine does not compute what the model does.
    """
    check_backend(name, device=device)
    return BACKENDS[name](bundle, device=device or DEFAULT_DEVICES[name])
