"""Engines and contexts: what TensorRT refuses, and whether the model of it has the real names."""

from collections.abc import Callable
from typing import Any

import pytest

from atas_deploy.backends.driver import Driver
from atas_deploy.backends.trt.execution import Context, Engine
from atas_deploy.backends.trt.flavour import Flavour
from atas_deploy.core.errors import BackendError


@pytest.mark.parametrize("kind", ["IExecutionContext", "ICudaEngine"])
def test_the_model_has_only_what_tensorrt_has(fakes: dict[str, type], kind: str) -> None:
    """What the backend calls on the model exists in TensorRT-RTX, too."""
    trt = pytest.importorskip("tensorrt_rtx")
    names = {name for base in fakes[kind].__mro__[:-1] for name in vars(base)}
    public = {name for name in names if not name.startswith("_")}
    assert len(public) >= 6
    assert public <= set(dir(getattr(trt, kind)))


def test_tensorrt_has_the_settings_of_contexts() -> None:
    """Memory of the caller's, and kernels that are compiled at once."""
    trt = pytest.importorskip("tensorrt_rtx")
    assert hasattr(trt.ExecutionContextAllocationStrategy, "USER_MANAGED")
    assert {"LAZY", "EAGER"} <= set(trt.DynamicShapesKernelSpecializationStrategy.__members__)
    settings = {
        "set_execution_context_allocation_strategy",
        "dynamic_shapes_kernel_specialization_strategy",
    }
    assert settings <= set(dir(trt.IRuntimeConfig))
    assert tuple(trt.Dims((2, 3, 5))) == (2, 3, 5)


def test_profiles_are_read_from_the_engine(
    cuda: Any, plan: Callable[..., bytes], make_flavour: Callable[[str], Flavour]
) -> None:
    """In its order, without the channels."""
    shapes = [((1, 32, 32), (1, 32, 48), (1, 64, 64)), ((2, 16, 16), (4, 16, 16), (8, 16, 16))]
    engine = Engine(plan(*shapes), flavour=make_flavour("tensorrt"))
    assert [(p.least, p.best, p.most) for p in engine.profiles] == shapes
    assert engine.scratch == 5000


class Refusing:
    """A context of TensorRT's that answers no to one call."""

    def __init__(self, call: str) -> None:
        self.call = call

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *_: name != self.call


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("set_optimization_profile_async", "select optimization profile 1"),
        ("set_tensor_address", "take the address of images"),
        ("set_input_shape", r"take images of shape \(2, 32, 48, 3\)"),
        ("execute_async_v3", "enqueue an execution"),
    ],
)
def test_what_tensorrt_refuses_is_an_error(
    cuda: Any, make_flavour: Callable[[str], Flavour], call: str, message: str
) -> None:
    """TensorRT only answers no and logs why; both stand in one sentence with a cure."""
    flavour, driver = make_flavour("tensorrt"), Driver("cuda")
    flavour.log.log(flavour.module.ILogger.ERROR, "Error Code 3: no. \nmore")

    def use() -> None:
        context = Context(
            Refusing(call), flavour=flavour, profile=1, scratch=1, size=1, stream=driver.stream
        )
        context.bind({"images": 1})
        if call == "set_input_shape":
            context.set_shape((2, 32, 48))
        context.enqueue()

    with pytest.raises(BackendError, match=rf"{message} \(Error Code 3: no\); .*atas-deploy eng"):
        use()
