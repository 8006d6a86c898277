"""The GPU, asked of a driver that is played here; its calls are those of NVIDIA's headers."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from atas_deploy.backends.trt.cards import Card, find_card


def drivers(*, version: str | None) -> dict[str, Any]:
    """A libcuda with one card of capability 12.0, and NVML, if it knows the version."""

    def get(device: Any, index: int) -> int:
        device._obj.value = 7 + index
        return 0 if index == 0 else 101

    def name(buffer: Any, length: int, device: ctypes.c_int) -> int:
        assert (len(buffer), device.value) == (length, 7)
        buffer.value = b"NVIDIA GeForce RTX 5090"
        return 0

    def attribute(value: Any, number: int, device: ctypes.c_int) -> int:
        value._obj.value = {75: 12, 76: 0}[number]
        return 0

    def cuda_version(value: Any) -> int:
        value._obj.value = 13010
        return 0

    def driver_version(buffer: Any, length: int) -> int:
        assert len(buffer) == length
        buffer.value = (version or "").encode()
        return 0 if version else 999

    cuda = SimpleNamespace(cuInit=lambda flags: 0, cuDeviceGet=get, cuDeviceGetName=name)
    cuda.cuDeviceGetAttribute, cuda.cuDriverGetVersion = attribute, cuda_version
    nvml = SimpleNamespace(nvmlInit_v2=lambda: 0, nvmlShutdown=lambda: 0)
    nvml.nvmlSystemGetDriverVersion = driver_version
    return {"libcuda.so.1": cuda, "libnvidia-ml.so.1": nvml}


@pytest.mark.parametrize(
    ("version", "told"), [("580.65.06", "580.65.06"), (None, "CUDA 13.1")], ids=["nvml", "cuda"]
)
def test_a_card_is_described(
    monkeypatch: pytest.MonkeyPatch, version: str | None, told: str
) -> None:
    """Name, capability and the driver's version, or its CUDA's where NVML does not tell."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", drivers(version=version).__getitem__)
    assert find_card() == Card("NVIDIA GeForce RTX 5090", "12.0", told)
    assert find_card(1) is None


@pytest.mark.parametrize("broken", ["library", "cuInit"])
def test_no_driver_is_no_card(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Neither a missing library nor one that finds no device is an error."""

    def load(name: str) -> Any:
        if broken == "library":
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(cuInit=lambda flags: 100)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert find_card() is None
