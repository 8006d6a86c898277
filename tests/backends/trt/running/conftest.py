"""A model of TensorRT, on the model of CUDA: engines that run ONNX Runtime on "device" memory.

An engine reads and writes what lies at the addresses that it was given, when its turn on the stream
comes. It objects to memory that is too small, missing, or not on its GPU, and to graphs whose
context or memory have changed since they were captured.
"""

import json
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from atas_deploy.backends.trt.flavour import Flavour
from atas_deploy.core.bundle import IMAGE_ENCODER
from atas_deploy.models import open_model


class Execution:
    """One execution: shape and memory as they were when it was enqueued."""

    def __init__(self, context: "Context", uses: dict[str, Any], *, captured: bool) -> None:
        self.context, self.version = weakref.ref(context), context.version
        self.engine, self.shape, self.uses = context.engine, context.shape, uses
        self.captured = captured

    def check(self) -> None:
        """Object to a graph whose context or memory has changed."""
        cuda, context = self.engine.cuda, self.context()
        cuda.check(context is not None, "the context of a graph was freed")
        cuda.check(context.version == self.version, "the context of a graph was changed")
        for use in self.uses.values():
            use.check(cuda)

    def __call__(self) -> None:
        """Compute."""
        self.engine.cuda.check(self.context() is not None, "a context was freed while it executed")
        self.uses["scratch"].bytes[:] = 77
        pixels = self.uses["images"].bytes.reshape(self.shape)
        outputs = self.engine._compute(pixels, captured=self.captured)
        for name, value in zip(("dense", "image"), outputs, strict=True):
            self.uses[name].bytes[:] = np.ascontiguousarray(value).view(np.uint8).ravel()


class Context:
    """TensorRT's execution context."""

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.version, self.flushed = engine, 0, -1
        self.profile: int | None = None
        self.shape: tuple[int, ...] = ()
        self.scratch = (0, 0)
        self.addresses: dict[str, int] = {}

    def set_device_memory(self, address: int, size: int) -> None:
        """Give it memory to work in."""
        self.engine.cuda.find(address, size)
        self.engine.cuda.check(size >= self.engine.device_memory_size_v2, "too little memory")
        self.scratch, self.version = (address, size), self.version + 1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        """Choose a profile; all shapes must be set anew."""
        self.engine.cuda.streams[stream].enqueue(lambda: None)
        self.profile, self.shape, self.version = index, (), self.version + 1
        return 0 <= index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """Refuse what is outside the profile."""
        least, _, most = self.engine.get_tensor_profile_shape(name, self.profile or 0)
        fits = all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
        self.engine.cuda.check(fits, f"the shape {shape} is outside the profile {self.profile}")
        self.shape, self.version = tuple(shape), self.version + 1
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output for the input's."""
        batch, height, width, _ = self.shape
        width_D = self.engine.width
        sizes = {"dense": (batch, height // 16, width // 16, width_D), "image": (batch, width_D)}
        return sizes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Bind a tensor."""
        self.addresses[name], self.version = address, self.version + 1
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Check what it is about to do, and enqueue it."""
        cuda, queue = self.engine.cuda, self.engine.cuda.streams[stream]
        cuda.check(set(self.addresses) == {"images", "dense", "image"}, "a tensor has no address")
        cuda.check(bool(self.shape), "no shape was set")
        sizes = {"images": prod(self.shape)}
        sizes |= {name: 4 * prod(self.get_tensor_shape(name)) for name in ("dense", "image")}
        uses = {name: cuda.use(self.addresses[name], size) for name, size in sizes.items()}
        uses["scratch"] = cuda.use(*self.scratch)
        for name, use in uses.items():
            cuda.check(use.block.device == queue.device_id, f"{name} is not on the GPU")
        if queue.captured is None:
            self.flushed = self.version
            cuda.log.append("execute")
        cuda.check(self.flushed == self.version, "captured without an execution before")
        queue.enqueue(Execution(self, uses, captured=queue.captured is not None))
        return True


class RtxContext(Context):
    """TensorRT-RTX's, which can be asked whether it may be captured."""

    def is_stream_capturable(self, stream: int) -> bool:
        """Whether graphs may be captured."""
        return self.engine.capturable


class Engine:
    """An engine, of a plan that is JSON: graph, width and profiles, and what is wrong with it."""

    num_io_tensors = 3
    device_memory_size_v2 = 5000

    def __init__(self, cuda: Any, plan: bytes) -> None:
        self.cuda = cuda
        data = json.loads(plan)
        self.profiles, self.width = data["profiles"], data["width"]
        self.capturable = data.get("capturable", True)
        self.fault = data.get("fault", "")
        self.names = data.get("names", ["images", "dense", "image"])
        self.num_optimization_profiles = len(self.profiles)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(data["graph"], options)

    def _compute(self, images: np.ndarray, *, captured: bool) -> list[np.ndarray]:
        """What the graph computes, or something else."""
        dense, image = self.session.run(["dense", "image"], {"images": images})
        if self.fault == "nan":
            image[0, 0] = np.nan
        if self.fault == "noise" or (self.fault == "graph" and captured):
            dense += 0.05
        return [dense, image]

    def get_tensor_name(self, index: int) -> str:
        """Name of an input or output."""
        return self.names[index]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        """Least, best and most."""
        return [(*shape, 3) for shape in self.profiles[index]]

    def create_execution_context(self, strategy: str) -> Context:
        """A context without memory."""
        self.cuda.check(strategy == "user-managed", "a context allocates by itself")
        self.cuda.log.append("context")
        return Context(self)


class RtxEngine(Engine):
    """TensorRT-RTX's, whose contexts are configured."""

    def create_runtime_config(self) -> Any:
        """Settings of a context."""
        config = SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="lazy")
        config.set_execution_context_allocation_strategy = lambda s: setattr(config, "memory", s)
        return config

    def create_execution_context(self, config: Any) -> Context:
        """A context without memory."""
        self.cuda.check(config.memory == "user-managed", "a context allocates by itself")
        kind = config.dynamic_shapes_kernel_specialization_strategy
        self.cuda.log.append(f"context {kind}")
        return RtxContext(self)


def fake_tensorrt(cuda: Any, engine: type[Engine]) -> Any:
    """The module, as far as the backend uses it."""

    def deserialize(logger: Any, plan: bytes) -> Engine | None:
        if not json.loads(plan).get("readable", True):
            logger.log(1, "Magic tag does not match\nmore")
            return None
        return engine(cuda, plan)

    module = ModuleType("tensorrt")
    module.Runtime = lambda logger: SimpleNamespace(
        deserialize_cuda_engine=partial(deserialize, logger)
    )
    module.ILogger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0})
    module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user-managed")
    strategies = SimpleNamespace(LAZY="lazy", EAGER="eager")
    module.DynamicShapesKernelSpecializationStrategy = strategies
    module.__version__ = "11.4"
    return module


@pytest.fixture
def fakes() -> dict[str, type]:
    """The classes of the model by the names that TensorRT gives them."""
    return {"IExecutionContext": RtxContext, "ICudaEngine": RtxEngine}


@pytest.fixture
def plan() -> Callable[..., bytes]:
    """Make the plan of an engine for the embedded model: profiles (least, best, most)."""

    def make(*profiles: Sequence[Sequence[int]], **more: Any) -> bytes:
        bundle = open_model("atas-tiny")
        graph = str(bundle.path / IMAGE_ENCODER)
        facts = {"graph": graph, "width": bundle.manifest.embed_dim, "profiles": profiles}
        return json.dumps(facts | more).encode()

    return make


@pytest.fixture
def make_flavour(cuda: Any) -> Callable[[str], Flavour]:
    """TensorRT, or TensorRT-RTX, by name."""
    engines = {"tensorrt": Engine, "tensorrt-rtx": RtxEngine}
    return lambda name: Flavour(name, "11.4", fake_tensorrt(cuda, engines[name]))


@pytest.fixture
def tensorrt(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both flavours of TensorRT, installed."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(cuda, Engine))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt(cuda, RtxEngine))
