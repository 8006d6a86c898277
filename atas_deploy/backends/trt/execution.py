"""TensorRT's runtime: an engine that was read back, and the contexts that execute it.

B images, H W pixels, h w grid, D embedding width
"""

from collections.abc import Mapping
from typing import Any

from atas_deploy.backends.trt.flavour import RTX, Flavour
from atas_deploy.backends.trt.profiles import Profile
from atas_deploy.backends.trt.refit import refit
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import BackendError

IMAGES, DENSE, IMAGE = "images", "dense", "image"
Shape = tuple[int, ...]


class Context:
    """What executes an engine by one of its profiles, for one shape at a time.

    TensorRT's context has no memory of its own: it works in what it is given here.

    Args:
        context: TensorRT's.
        flavour: TensorRT.
        profile: number of the profile.
        scratch: address of the engine's working memory.
        size: of that memory in bytes.
        stream: a `cupy.cuda.Stream`, where it executes.

    Raises:
        BackendError: TensorRT refuses one of these.
    """

    def __init__(
        self,
        context: Any,
        *,
        flavour: Flavour,
        profile: int,
        scratch: int,
        size: int,
        stream: Any,
    ) -> None:
        self._context, self._flavour, self._stream = context, flavour, stream
        context.set_device_memory(scratch, size)
        chosen = context.set_optimization_profile_async(profile, stream.ptr)
        _agreed(chosen, flavour, f"select optimization profile {profile}")

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where every tensor lies on the GPU.

        Raises:
            BackendError: TensorRT refuses.
        """
        for name, address in addresses.items():
            agreed = self._context.set_tensor_address(name, address)
            _agreed(agreed, self._flavour, f"take the address of {name}")

    def set_shape(self, shape: Shape) -> dict[str, Shape]:
        """Set (B, H, W) of the images; return the shapes of `dense` and `image`.

        Raises:
            BackendError: the shape is outside the profile.
        """
        agreed = self._context.set_input_shape(IMAGES, (*shape, 3))
        _agreed(agreed, self._flavour, f"take images of shape {(*shape, 3)}")
        return {name: tuple(self._context.get_tensor_shape(name)) for name in (DENSE, IMAGE)}

    def enqueue(self) -> None:
        """Enqueue one execution for the shape that was set.

        Raises:
            BackendError: TensorRT refuses.
        """
        agreed = self._context.execute_async_v3(self._stream.ptr)
        _agreed(agreed, self._flavour, "enqueue an execution")

    @property
    def capturable(self) -> bool:
        """Whether TensorRT lets executions be captured; only TensorRT-RTX can be asked."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(self._stream.ptr))


class Engine:
    """An engine that was read back, on the GPU that is active.

    Args:
        plan: what the builder wrote; its hash was checked in this very buffer.
        flavour: TensorRT.
        weights: the bundle whose weights are put into a plan that has none; None = it has them.

    Attributes:
        profiles: the ranges of (B, H, W) that it takes.
        scratch: working memory that an execution needs, in bytes.

    Raises:
        BackendError: TensorRT cannot read it, or it has other inputs and outputs than a bundle's.
    """

    def __init__(self, plan: bytes, *, flavour: Flavour, weights: Bundle | None = None) -> None:
        self._flavour, self._module = flavour, flavour.module
        self._runtime = self._module.Runtime(flavour.log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        _agreed(self._engine is not None, flavour, "read the engine")
        if weights is not None:
            refit(self._engine, weights, flavour)
        count = self._engine.num_io_tensors
        names = {self._engine.get_tensor_name(index) for index in range(count)}
        if names != {IMAGES, DENSE, IMAGE}:
            raise BackendError(
                f"The engine has the tensors {', '.join(sorted(names))}; expected {IMAGES}, "
                f"{DENSE} and {IMAGE}: build it again with `atas-deploy engine`."
            )
        self.scratch = int(self._engine.device_memory_size_v2)
        self.profiles = tuple(
            self._profile(index) for index in range(self._engine.num_optimization_profiles)
        )

    def context(
        self, *, profile: int, scratch: int, stream: Any, specialization: str = "LAZY"
    ) -> Context:
        """A context for one of the profiles.

        Args:
            profile: its number.
            scratch: address of the working memory; contexts that execute on one stream share it.
            stream: where it executes.
            specialization: when TensorRT-RTX compiles the kernels of a shape: in the background
                while slower ones work ("LAZY"), or at the first execution ("EAGER"), so that the
                next one can be captured with them. TensorRT compiled them when it built.

        Raises:
            BackendError: TensorRT refuses.
        """
        context = self._create_context(specialization)
        _agreed(context is not None, self._flavour, "create an execution context")
        return Context(
            context,
            flavour=self._flavour,
            profile=profile,
            scratch=scratch,
            size=self.scratch,
            stream=stream,
        )

    def _create_context(self, specialization: str) -> Any:
        """TensorRT's context, without memory of its own."""
        user_managed = self._module.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._flavour.name != RTX:
            return self._engine.create_execution_context(user_managed)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(user_managed)
        strategies = self._module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = getattr(strategies, specialization)
        return self._engine.create_execution_context(config)

    def _profile(self, index: int) -> Profile:
        shapes = self._engine.get_tensor_profile_shape(IMAGES, index)
        least, best, most = ((shape[0], shape[1], shape[2]) for shape in shapes)
        return Profile(least, best, most)


def _agreed(answer: bool, flavour: Flavour, action: str) -> None:
    """Raise what TensorRT only answers and logs."""
    if not answer:
        errors = flavour.log.errors
        reason = errors[-1].splitlines()[0].rstrip(". ") if errors else "it gives no reason"
        raise BackendError(
            f"{flavour} cannot {action} ({reason}); look at `nvidia-smi`, or build the engine "
            "again with `atas-deploy engine`."
        )
