"""What `atas-deploy doctor` finds out about GPUs, TensorRT and the engines that can run here."""

from collections.abc import Callable, Mapping
from itertools import count, takewhile

CUPY = ("cupy", "cupy-cuda12x", "cupy-cuda13x")
_READY = "ready"


def describe_gpus() -> list[str]:
    """Name, compute capability and driver of every GPU that NVIDIA's driver shows."""
    from atas_deploy.backends.trt.cards import find_card

    cards = takewhile(lambda card: card is not None, map(find_card, count()))
    return [
        f"{card.name}, capability {card.capability}, driver {card.driver}" for card in cards if card
    ]


def count_threads(problems: list[str]) -> int | None:
    """Threads of ONNX Runtime on the CPU; a wrong setting is a problem."""
    from atas_deploy.backends.ort_threads import thread_count
    from atas_deploy.core.errors import ConfigError

    try:
        return thread_count()
    except ConfigError as exc:
        problems.append(str(exc))
        return None


def load_tensorrt(packages: Mapping[str, str], problems: list[str]) -> list[str]:
    """The flavours of TensorRT that work; those that are installed and do not are problems."""
    from atas_deploy.backends.trt.flavour import FLAVOURS, load_flavour
    from atas_deploy.core.errors import AtasError

    found = []
    for name in FLAVOURS:
        if any(package == name or package.startswith(f"{name}-cu") for package in packages):
            try:
                found.append(str(load_flavour(name)))
            except AtasError as exc:
                problems.append(str(exc))
    return found


def check_engines(*, gpu: bool) -> dict[str, str]:
    """By the options that choose an engine: that it is ready, or what it lacks and the cure.

    Args:
        gpu: whether there is one; ONNX Runtime is started on it, which takes some seconds.
    """
    return {
        "--backend ort --device cpu": _try(_check_ort_on_cpu),
        "--backend ort --device cuda": _try(lambda: _check_ort_on_cuda(gpu=gpu)),
        "--backend trt --device cuda": _try(_check_trt),
    }


def _try(check: Callable[[], None]) -> str:
    from atas_deploy.core.errors import AtasError

    try:
        check()
    except AtasError as exc:
        return str(exc)
    return _READY


def _check_ort_on_cpu() -> None:
    from atas_deploy.backends.ort import OrtBackend

    OrtBackend.check_device("cpu")


def _check_ort_on_cuda(*, gpu: bool) -> None:
    """Start it: ONNX Runtime tells about missing libraries of CUDA and cuDNN only then."""
    from atas_deploy.backends.ort import OrtBackend
    from atas_deploy.core.errors import BackendUnavailableError
    from atas_deploy.models import open_model

    OrtBackend.check_device("cuda")
    if not gpu:
        raise BackendUnavailableError(
            "There is no NVIDIA GPU or no driver for it; install the driver and check it with "
            "`nvidia-smi`."
        )
    OrtBackend(open_model("atas-tiny"), device="cuda")


def _check_trt() -> None:
    from atas_deploy.backends.trt.backend import TrtBackend
    from atas_deploy.backends.trt.flavour import load_flavour

    load_flavour()
    TrtBackend.check_device("cuda")
