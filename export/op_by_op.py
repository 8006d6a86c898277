"""A graph run operator by operator in PyTorch, on the CPU, in the very types that it names.

ONNX Runtime's CPU provider computes float16 in float32, so it hides what overflows, and it has no
product of bfloat16. Here every value is rounded to its own type. A float16 graph must besides keep
clear of the end of float16: its values are measured in its float32 twin, see `check_range`.

    B images, H W pixels, h w grid, D embedding width
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from atas_deploy.backends.base import ImageFeatures
from atas_deploy.core.errors import ParityError
from atas_deploy.export.lower import LARGEST
from atas_deploy.export.operators import Operator, find_operator

RANGE = LARGEST / 4
"""How far float16 may be used: other pictures give other, perhaps larger, values than those run."""


class Seen(NamedTuple):
    """What was seen of a value in all runs.

    Attributes:
        node: what made it, and by which operator.
        dtype: its type.
        largest: its largest magnitude, NaN if it was ever NaN.
    """

    node: str
    dtype: torch.dtype
    largest: float


class _Step(NamedTuple):
    """One node: its function, arguments, results, and the values that nobody needs after it."""

    node: ir.Node
    function: Operator
    attributes: Mapping[str, Any]
    spent: Sequence[str]


class OpByOp:
    """An image encoder as a graph, run operator by operator.

    Args:
        model: the graph, in any precision.

    Attributes:
        seen: every float value that nodes made in runs so far, by name.
        sources: what each cast was made of: its input by its output.

    Raises:
        ExportError: the graph has an operator that our graphs do not use.
    """

    def __init__(self, model: ir.Model) -> None:
        graph = model.graph
        self.seen: dict[str, Seen] = {}
        casts = (node for node in graph if node.op_type == "Cast")
        self.sources = {_name(node.outputs[0]): _name(node.inputs[0]) for node in casts}
        self._weights = {name: _weight(value) for name, value in graph.initializers.items()}
        self._outputs = [_name(value) for value in graph.outputs]
        self._steps = _plan(graph, keep={*self._weights, *self._outputs})

    def run(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode images.

        Args:
            images: (B, H, W, 3) uint8 RGB; H, W multiples of the graph's.

        Returns:
            Features as the graph computes them in its types.

        Raises:
            ExportError: the graph uses an operator in a way that ours do not.
        """
        values = {**self._weights, "images": torch.from_numpy(images)}
        with torch.inference_mode():
            for step in self._steps:
                self._take(step, values)
        dense, image = (values[name].numpy() for name in self._outputs)
        return ImageFeatures(dense, image)

    def _take(self, step: _Step, values: dict[str, Tensor]) -> None:
        """Run one node."""
        inputs = [None if value is None else values[_name(value)] for value in step.node.inputs]
        result = step.function(*inputs, **step.attributes)
        results = [result] if isinstance(result, Tensor) else result
        for output, tensor in zip(step.node.outputs, results, strict=True):
            name = _name(output)
            values[name] = tensor
            if tensor.is_floating_point():
                self._note(name, step.node, tensor)
        for name in step.spent:
            del values[name]

    def _note(self, name: str, node: ir.Node, tensor: Tensor) -> None:
        largest, before = float(tensor.abs().max()), self.seen.get(name)
        if before and (math.isnan(before.largest) or largest <= before.largest):
            largest = before.largest
        self.seen[name] = Seen(f"{node.name} ({node.op_type})", tensor.dtype, largest)


def check_range(lowered: OpByOp, twin: OpByOp, *, limit: float = RANGE) -> Seen | None:
    """Refuse a float16 graph whose values come near the end of float16.

    Args:
        lowered: the graph as `lower` gives it, after it has run on some images.
        twin: the float32 graph that it was made of, after it has run on the same images.
        limit: largest magnitude that a value bound for float16 may have in the twin.

    Returns:
        The largest of these values; None if the graph has no float16.

    Raises:
        ParityError: a value exceeds the limit; names it, the limit and the cure.
    """
    largest = None
    for name, seen in lowered.seen.items():
        if seen.dtype != torch.float16:
            continue
        exact = twin.seen[name if name in twin.seen else lowered.sources[name]]
        if not exact.largest <= limit:
            raise ParityError(
                f"This model is not fit for fp16: the result of {exact.node} reaches "
                f"{exact.largest:.3g} in float32, limit {limit:g} (float16 ends at {LARGEST:g}); "
                "export with --precision bf16."
            )
        if largest is None or exact.largest > largest.largest:
            largest = exact
    return largest


def _plan(graph: ir.Graph, *, keep: set[str]) -> list[_Step]:
    """The nodes in order, each with its function and what can be dropped behind it."""
    steps: list[_Step] = []
    for node in reversed(list(graph)):
        mine = [_name(value) for value in (*node.inputs, *node.outputs) if value is not None]
        spent = [name for name in dict.fromkeys(mine) if name not in keep]
        keep.update(spent)
        attributes = {name: _attribute(attr) for name, attr in node.attributes.items()}
        steps.append(_Step(node, find_operator(node.op_type), attributes, spent))
    return steps[::-1]


def _attribute(attr: ir.Attr) -> Any:
    return _tensor(attr.as_tensor()) if attr.type == ir.AttributeType.TENSOR else attr.value


def _weight(value: ir.Value) -> Tensor:
    assert value.const_value is not None
    return _tensor(value.const_value)


def _tensor(tensor: ir.TensorProtocol) -> Tensor:
    """A tensor that shares memory where it can; NumPy's bfloat16 is unknown to PyTorch."""
    array = np.require(tensor.numpy(), requirements=["C", "W"])
    if tensor.dtype == ir.DataType.BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _name(value: ir.Value | None) -> str:
    assert value is not None
    assert value.name is not None
    return value.name
