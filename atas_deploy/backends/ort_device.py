"""Devices of ONNX Runtime: which packages are installed and which providers they have."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from atas_deploy.core.errors import BackendUnavailableError, ConfigError, first_sentence

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
Provider = tuple[str, dict[str, str]]

_INSTALL = 'install exactly one of them: pip install "atas-deploy[cpu]" or "atas-deploy[gpu]"'


def installed_packages() -> dict[str, str]:
    """Versions of the installed distributions that provide the module `onnxruntime`."""
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def providers_of(device: str, *, stream: int | None = None) -> list[Provider]:
    """The provider list for a device; the CPU stands behind CUDA for operators it lacks.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        stream: address of the CUDA stream to compute on; None = one of ONNX Runtime's own.

    Raises:
        BackendUnavailableError: ONNX Runtime, or its build for the device, is missing.
        ConfigError: unknown device.
    """
    kind, _, index = device.partition(":")
    wrong_index = ":" in device and not (kind == "cuda" and index.isascii() and index.isdigit())
    if kind not in ("cpu", "cuda") or wrong_index:
        raise ConfigError(f'Unknown device "{device}"; expected cpu, cuda or cuda:N.')
    onnxruntime = load_onnxruntime()
    if kind == "cpu":
        return [(CPU, {})]
    if CUDA not in onnxruntime.get_available_providers():
        raise BackendUnavailableError(
            f'The device "{device}" needs ONNX Runtime for CUDA, but the installed build has only '
            'the CPU; run `pip uninstall -y onnxruntime`, then pip install "atas-deploy[gpu]".'
        )
    return [(CUDA, _cuda_options(index or "0", stream)), (CPU, {})]


def load_onnxruntime() -> Any:
    """The module `onnxruntime`, from the one package that is installed.

    Raises:
        BackendUnavailableError: there is none, there are two, or it cannot be imported.
    """
    if len(installed_packages()) > 1:
        raise BackendUnavailableError(
            "Both onnxruntime and onnxruntime-gpu are installed and overwrite each other; run "
            "`pip uninstall -y onnxruntime onnxruntime-gpu`, then " + _INSTALL + "."
        )
    try:
        import onnxruntime
    except ImportError as exc:
        if isinstance(exc.__context__, KeyboardInterrupt):  # Ctrl-C in the middle of the import
            raise exc.__context__ from exc
        missing = isinstance(exc, ModuleNotFoundError)
        what = "is not installed" if missing else f"cannot be imported ({first_sentence(exc)})"
        raise BackendUnavailableError(f"ONNX Runtime {what}; {_INSTALL}.") from exc
    return onnxruntime


def _cuda_options(index: str, stream: int | None) -> dict[str, str]:
    """Options of the provider for CUDA.

    float32 stays float32: by default, matrix products would be rounded to TF32. Convolutions are
    chosen by rule: by default, each new size of picture would be tried with all of them.
    """
    options = {"device_id": index, "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return options if stream is None else options | {"user_compute_stream": str(stream)}
