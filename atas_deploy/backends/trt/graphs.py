"""CUDA graphs of the shapes that come back, the ones used last."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atas_deploy.backends.driver import Driver
from atas_deploy.backends.trt.execution import Context, Shape
from atas_deploy.core.errors import BackendError, first_sentence


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """A CUDA graph with what must live as long as it does, and the shapes of the outputs."""

    graph: Any
    context: Context
    outputs: Mapping[str, Shape]


class GraphCache:
    """Remembers shapes, and a graph of each that came at least twice.

    A shape that comes once, as most do in a folder of photographs, is not worth a graph: it takes a
    context of its own and an execution more than once.

    Args:
        driver: the GPU.
        limit: shapes that are remembered.

    Attributes:
        problem: one sentence on why nothing is captured any more; None while all is well.
    """

    def __init__(self, driver: Driver, *, limit: int) -> None:
        self._driver, self._limit = driver, limit
        self._known: OrderedDict[Shape, Captured | None] = OrderedDict()
        self.problem: str | None = None

    def find(self, key: Shape) -> Captured | None:
        """The graph of a profile and a shape, (profile, B, H, W), if they have one."""
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def wants(self, key: Shape) -> bool:
        """Remember a profile and a shape; say whether they came before and get a graph now."""
        if key in self._known:
            return self.problem is None
        while len(self._known) >= self._limit:
            _, captured = self._known.popitem(last=False)
            if captured is not None:
                self._driver.stream.synchronize()  # it may be running
        self._known[key] = None
        return False

    def capture(self, key: Shape, context: Context, outputs: Mapping[str, Shape]) -> None:
        """Capture what a context has just executed, so that TensorRT defers nothing any more.

        Args:
            key: number of the profile and shape of the images.
            context: of this graph alone, as TensorRT's documentation advises.
            outputs: shapes of the outputs.
        """
        if not context.capturable:
            self._give_up("TensorRT-RTX does not allow them for this engine")
            return
        try:
            graph = self._driver.capture(context.enqueue)
        except (BackendError, RuntimeError) as exc:  # CuPy's errors are RuntimeErrors
            self._give_up(first_sentence(exc))
            return
        self._known[key] = Captured(graph, context, outputs)

    def _give_up(self, reason: str) -> None:
        """Go on without graphs; the context that was to have one goes when its work is done."""
        self.problem = f"CUDA graphs are not used ({reason})."
        self._driver.stream.synchronize()

    def clear(self) -> None:
        """Let go of all graphs; none may be running."""
        self._known.clear()
