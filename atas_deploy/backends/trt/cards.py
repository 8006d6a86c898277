"""The GPU of this machine, asked of NVIDIA's driver: no other package is needed to build."""

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_LIBRARIES = {"win32": ("nvcuda.dll", "nvml.dll")}
_LINUX = ("libcuda.so.1", "libnvidia-ml.so.1")


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU.

    Attributes:
        name: as the driver calls it, such as "NVIDIA GeForce RTX 4090".
        capability: compute capability, such as "8.9".
        driver: version of the driver, such as "580.65.06"; that of its CUDA where it is not told.
    """

    name: str
    capability: str
    driver: str


def find_card(index: int = 0) -> Card | None:
    """The GPU of a number, as CUDA counts them; None where there is no such GPU or no driver."""
    cuda_name, nvml_name = _LIBRARIES.get(sys.platform, _LINUX)
    cuda, device, name = _library(cuda_name), ctypes.c_int(), ctypes.create_string_buffer(256)
    if cuda is None or cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), index):
        return None
    if cuda.cuDeviceGetName(name, len(name), device):
        return None
    parts = [_attribute(cuda, device, number) for number in (_MAJOR, _MINOR)]
    driver = _driver_version(_library(nvml_name)) or _cuda_version(cuda)
    return Card(name.value.decode(errors="replace"), ".".join(map(str, parts)), driver)


def _library(name: str) -> Any:
    """A library of the driver; None if it is missing."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _attribute(cuda: Any, device: ctypes.c_int, number: int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _cuda_version(cuda: Any) -> str:
    """The CUDA version of the driver: 13000 -> "CUDA 13.0"."""
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _driver_version(nvml: Any) -> str | None:
    """The version of the driver as its packages have it."""
    if nvml is None or nvml.nvmlInit_v2():
        return None
    version = ctypes.create_string_buffer(96)
    failed = nvml.nvmlSystemGetDriverVersion(version, len(version))
    nvml.nvmlShutdown()
    return None if failed else version.value.decode(errors="replace")
