"""ONNX Runtime on a GPU, with the memory of the host in its place.

CuPy is replaced by a fake that allocates on the host, and a session "on CUDA" is one on the CPU
whose bindings are made on the host too. So ONNX Runtime itself reads the pixels and writes the
features through the addresses, types and shapes that it is given. What CUDA does at its own time
happens at once here; `log` holds the order.
"""

import ctypes
import sys
from importlib.machinery import ModuleSpec
from math import prod
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.errors import BackendError, BackendUnavailableError, InputError
from atas_deploy.models import open_model

STREAM = 4321


class Memory(np.ndarray):
    """Some bytes with an address, as CuPy's pointers have it."""

    @property
    def ptr(self) -> int:
        """The address."""
        return self.ctypes.data


class Features:
    """A `cupy.ndarray` as far as features need it."""

    def __init__(self, shape: tuple[int, ...], dtype: type) -> None:
        self.shape, self._dtype = shape, np.dtype(dtype)
        self.data = memory_of(prod(shape) * self._dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def get(self) -> np.ndarray:
        """A copy as a plain array."""
        return np.array(self.data.view(np.ndarray).view(self._dtype).reshape(self.shape))


class Current:
    """A GPU or a stream, to be made current."""

    ptr = STREAM

    def __enter__(self) -> "Current":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def memory_of(size: int) -> Memory:
    """Bytes that read as NaN until something is written there."""
    return np.full(size, 255, np.uint8).view(Memory)


def fake_cupy(log: list[str]) -> ModuleType:
    """The module, with two GPUs."""

    def memcpy(target: int, source: int, size: int, kind: int, stream: int) -> None:
        log.append(f"copy {size} on {stream}")
        ctypes.memmove(target, source, size)

    def event(**_: object) -> Any:
        return SimpleNamespace(
            record=lambda stream: log.append(f"record on {stream.ptr}"),
            synchronize=lambda: log.append("wait"),
        )

    module = ModuleType("cupy")
    module.__spec__ = ModuleSpec("cupy", None)
    module.empty = Features
    module.cuda = SimpleNamespace(
        Device=lambda index: Current(),
        Stream=lambda non_blocking: Current(),
        Event=event,
        alloc=memory_of,
        alloc_pinned_memory=memory_of,
        runtime=SimpleNamespace(getDeviceCount=lambda: 2, memcpyAsync=memcpy, memcpyDefault=4),
    )
    return module


class HostBinding:
    """ONNX Runtime's binding; what is bound on the GPU 1 lies on the host."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def bind_input(self, name: str, device: str, index: int, *rest: Any) -> None:
        """As ONNX Runtime's."""
        assert (device, index) == ("cuda", 1)
        self.real.bind_input(name, "cpu", 0, *rest)

    def bind_output(self, name: str, device: str, index: int, *rest: Any) -> None:
        """As ONNX Runtime's."""
        assert (device, index) == ("cuda", 1)
        self.real.bind_output(name, "cpu", 0, *rest)


class CudaSession(onnxruntime.InferenceSession):
    """A session that says that it is on CUDA."""

    log: list[str]
    asked: list[Any]

    def __init__(self, path: Any, options: Any, *, providers: Any, enable_fallback: int) -> None:
        self.asked.append(providers)
        assert not enable_fallback
        super().__init__(path, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        """The provider that was asked for."""
        return [name for name, _ in self.asked[-1]]

    def io_binding(self) -> HostBinding:
        """A binding on the host."""
        return HostBinding(super().io_binding())

    def run_with_iobinding(self, binding: HostBinding, options: Any = None) -> None:
        """Compute, and note how the caller wants it to end."""
        waits = options.get_run_config_entry("disable_synchronize_execution_providers") != "1"
        self.log.append("run and wait" if waits else "run")
        super().run_with_iobinding(binding.real)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with GPUs, CuPy and ONNX Runtime for CUDA; what happens on its stream."""
    log: list[str] = []
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", CudaSession)
    monkeypatch.setattr(CudaSession, "log", log, raising=False)
    monkeypatch.setattr(CudaSession, "asked", [], raising=False)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(log))
    return log


@pytest.fixture
def images() -> np.ndarray:
    """Two wide images that are not contiguous."""
    return np.random.default_rng(0).integers(0, 256, (2, 32, 96, 3), np.uint8)[:, :, ::2]


@pytest.mark.usefixtures("log")
def test_features_are_those_of_the_cpu(images: np.ndarray) -> None:
    """Addresses, shapes and types of all bindings fit the graph."""
    backend = OrtBackend(open_model("atas-tiny"), device="cuda:1")
    got = backend.encode_images(images)
    wanted = OrtBackend(open_model("atas-tiny"), device="cpu").encode_images(images)
    assert got.dense.shape == (2, 2, 3, 256)
    np.testing.assert_allclose(got.dense, wanted.dense, atol=1e-6)
    np.testing.assert_allclose(got.image, wanted.image, atol=1e-6)


def test_everything_is_on_one_stream(log: list[str], images: np.ndarray) -> None:
    """Nothing waits; features tell the stream, and are ready behind the run."""
    features = OrtBackend(open_model("atas-tiny"), device="cuda:1").encode_on_device(images)
    (image_session,) = CudaSession.asked
    assert image_session[0][1]["user_compute_stream"] == str(STREAM)
    order = [f"copy {images.nbytes} on {STREAM}", f"record on {STREAM}"]
    assert log == [*order, "run", f"record on {STREAM}"]
    assert features.stream.ptr == STREAM
    features.to_host()
    assert log[-1] == "wait"


def test_pinned_memory_is_used_again(log: list[str], images: np.ndarray) -> None:
    """Once its copy is done; larger batches get more of it, and earlier features stay."""
    backend = OrtBackend(open_model("atas-tiny"), device="cuda:1")
    first = backend.encode_on_device(images)
    before = first.dense.get()
    log.clear()
    larger = backend.encode_images(np.concatenate([images, images[::-1]]))
    assert log[0] == "wait"
    np.testing.assert_array_equal(first.dense.get(), before)
    np.testing.assert_allclose(larger.dense[3], before[0], atol=1e-6)


def test_images_on_the_gpu_stay_there(log: list[str], images: np.ndarray) -> None:
    """They are encoded into memory of the caller's; nothing is copied."""
    backend = OrtBackend(open_model("atas-tiny"), device="cuda:1")
    there, dense = Features(images.shape, np.uint8), Features((2, 2, 3, 256), np.float32)
    there.data[:] = images.reshape(-1)
    with backend.enqueuing():
        backend.encode_into(there, dense)
    assert log == ["run"]
    assert backend.repeat_encoding(there, dense) is None
    wanted = OrtBackend(open_model("atas-tiny"), device="cpu").encode_images(images)
    np.testing.assert_allclose(dense.get(), wanted.dense, atol=1e-6)


def test_only_a_backend_on_a_gpu_has_a_driver(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one on the CPU, nor where CuPy is missing."""
    driver = OrtBackend(open_model("atas-tiny"), device="cuda:1").driver
    assert driver is not None
    assert driver.index == 1
    assert OrtBackend(open_model("atas-tiny")).driver is None
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert OrtBackend(open_model("atas-tiny"), device="cuda:1").driver is None
    assert not log


@pytest.mark.usefixtures("log")
def test_words_are_encoded_on_the_gpu_too() -> None:
    """In a session of its own, which needs no stream of ours."""
    backend = OrtBackend(open_model("atas-tiny"), device="cuda:1")
    tokens = open_model("atas-tiny").tokenizer()(["a dog"])
    assert backend.encode_texts(tokens).shape == (1, 256)
    assert "user_compute_stream" not in CudaSession.asked[1][0][1]


@pytest.mark.usefixtures("log")
def test_without_cupy_pictures_go_the_plain_way(
    monkeypatch: pytest.MonkeyPatch, images: np.ndarray
) -> None:
    """ONNX Runtime copies them itself; only features that stay on the GPU need CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    backend = OrtBackend(open_model("atas-tiny"), device="cuda:1")
    assert backend.encode_images(images).dense.shape == (2, 2, 3, 256)
    with pytest.raises(BackendUnavailableError, match="needs CuPy, which is not installed"):
        backend.encode_on_device(images)


@pytest.mark.usefixtures("log")
def test_wrong_images_are_refused_before_the_gpu() -> None:
    """As on the CPU."""
    backend = OrtBackend(open_model("atas-tiny"), device="cuda:1")
    with pytest.raises(InputError, match="multiples of 16"):
        backend.encode_on_device(np.zeros((1, 50, 48, 3), np.uint8))


def test_a_gpu_that_is_not_there_is_told_before_loading(log: list[str]) -> None:
    """CuPy knows how many there are."""
    with pytest.raises(BackendUnavailableError, match='no device "cuda:7"'):
        OrtBackend.check_device("cuda:7")
    assert not log


def test_what_fails_on_the_gpu_is_one_sentence(
    log: list[str], monkeypatch: pytest.MonkeyPatch, images: np.ndarray
) -> None:
    """Such as memory that runs out."""
    backend = OrtBackend(open_model("atas-tiny"), device="cuda:1")

    def fail(*_: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : out of memory\nat line 3")

    monkeypatch.setattr(CudaSession, "run_with_iobinding", fail)
    with pytest.raises(BackendError, match=r"\(2, 32, 48, 3\): out of memory; use a smaller"):
        backend.encode_images(images)
    assert log
