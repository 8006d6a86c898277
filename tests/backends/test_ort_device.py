"""Devices: names, packages, and what the provider for CUDA is told."""

import sys

import onnxruntime
import pytest

from atas_deploy.backends import ort_device
from atas_deploy.backends.ort_device import providers_of
from atas_deploy.core.errors import BackendUnavailableError, ConfigError


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of ONNX Runtime that lists the provider for CUDA."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""])
def test_unknown_devices_are_named(device: str) -> None:
    """With those that there are."""
    with pytest.raises(ConfigError, match=f'Unknown device "{device}"; expected cpu, cuda'):
        providers_of(device)


def test_cuda_needs_its_build() -> None:
    """The cure is in the sentence."""
    with pytest.raises(BackendUnavailableError, match=r"pip install \"atas-deploy\[gpu\]\""):
        providers_of("cuda")


@pytest.mark.usefixtures("cuda_build")
def test_cuda_computes_in_float32_on_the_given_stream() -> None:
    """TF32, the provider's default, would round the factors of every product to 11 bits."""
    (name, options), (last, _) = providers_of("cuda:2", stream=1234)
    assert (name, last) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["device_id"] == "2"
    assert options["use_tf32"] == "0"
    assert options["user_compute_stream"] == "1234"
    assert "user_compute_stream" not in providers_of("cuda")[0][1]


def test_two_packages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both distributions at once are refused with the cure."""
    monkeypatch.setattr(ort_device, "version", lambda name: "1.0")
    with pytest.raises(BackendUnavailableError, match="pip uninstall -y"):
        providers_of("cpu")


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ONNX Runtime the message names both extras; it is an ImportError too."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"is not installed.*atas-deploy\[cpu\]"):
        providers_of("cpu")
