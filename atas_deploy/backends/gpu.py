"""GPUs by name, and CuPy, which both engines use for memory and streams there."""

from importlib import import_module
from typing import Any

from atas_deploy.core.errors import (
    BackendUnavailableError,
    ConfigError,
    first_sentence,
)

_INSTALL = 'run `pip install "cupy-cuda13x[ctk]"` (cupy-cuda12x for a driver of CUDA 12)'


def gpu_index(device: str) -> int:
    """The number of a GPU as CUDA counts them: 0 of "cuda", N of "cuda:N".

    Raises:
        ConfigError: the name is none of these.
    """
    kind, colon, index = device.partition(":")
    if kind != "cuda" or (colon and not (index.isascii() and index.isdigit())):
        raise ConfigError(f'Unknown GPU "{device}"; expected cuda or cuda:N.')
    return int(index or 0)


def load_cupy(device: str) -> Any:
    """The module `cupy`, once it sees the GPU.

    Raises:
        BackendUnavailableError: CuPy, the driver or the GPU is missing; says what to do.
        ConfigError: the device is no GPU.
    """
    index = gpu_index(device)
    try:
        cupy = import_module("cupy")
    except ImportError as exc:
        if isinstance(exc.__context__, KeyboardInterrupt):  # Ctrl-C in the middle of the import
            raise exc.__context__ from exc
        missing = isinstance(exc, ModuleNotFoundError)
        what = "is not installed" if missing else f"cannot be imported ({first_sentence(exc)})"
        raise BackendUnavailableError(
            f'The device "{device}" needs CuPy, which {what}; {_INSTALL}, or use --backend ort '
            "--device cpu."
        ) from exc
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as exc:  # CUDARuntimeError: no driver, or one that is too old
        raise BackendUnavailableError(
            f'The device "{device}" cannot be used ({first_sentence(exc)}); install the NVIDIA '
            "driver and check it with `nvidia-smi`, or use --backend ort --device cpu."
        ) from exc
    if index >= count:
        names = ", ".join(f"cuda:{number}" for number in range(count)) or "none"
        raise BackendUnavailableError(
            f'There is no device "{device}"; CUDA sees {names}: name one of them, or use --backend '
            "ort --device cpu."
        )
    return cupy
