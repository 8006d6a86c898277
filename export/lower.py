"""From float32 to float16 or bfloat16: an image encoder in which every value has its one type.

Each change of type is a Cast in the graph, so an engine that adds none of its own, as TensorRT does
with strongly typed networks, computes what was proved. What runs in the low type:

- products of matrices and convolutions, and whatever takes a value that they gave;
- not norms, softmax, reductions and the resizing of positions, nor the end of the graph: the final
  projection and the way to unit length;
- pixels come before any product, and products of positions are of weights alone: both stay in
  float32;
- what is made of weights alone, such as the copies of a class token, is as its readers want it.

Attention stays the pattern that engines fuse: q is scaled, then multiplied with k^T; one Cast leads
into the softmax, or into the mask's sum in front of it, and one leads out of it to the product
with v. Both products are low, as fused kernels ask; such a kernel keeps logits in float32 anyway,
so these two casts tell what it does and cost it nothing.

Weights that are read in the low type are stored in it, others stay in float32.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from atas_deploy.core.errors import ConfigError, ExportError
from atas_deploy.export.storage import stored_as
from atas_deploy.export.to_onnx import OPSET

OPSETS: Mapping[str, int] = {"fp32": OPSET, "fp16": OPSET, "bf16": 22}
"""The operator set of each precision: the first one that has a Conv of bfloat16."""
LARGEST = 65504.0
"""The largest number that float16 holds."""

_LOW = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_SUFFIX = {
    ir.DataType.FLOAT: "fp32",
    ir.DataType.FLOAT16: "fp16",
    ir.DataType.BFLOAT16: "bf16",
}
_PRODUCTS = {"Conv", "Gemm", "MatMul"}
_SUMS = {"Add", "Mul", "Sub"}
_NORMS = {"LayerNormalization", "Softmax"}
_EXACT = _NORMS | {"Cast", "Resize"}


def lower(model: ir.Model, precision: str) -> ir.Model:
    """Lower a float32 graph.

    Values keep their names, so that each can be compared with its float32 twin; inputs and outputs
    keep their types. The operators that our graphs use mean the same in both operator sets.

    Args:
        model: an image encoder as `image_to_onnx` gives it; it stays as it is.
        precision: fp16 or bf16.

    Returns:
        A new graph; it shares weights that stay in float32 with the other one.

    Raises:
        ConfigError: another precision.
        ExportError: a weight is too large for float16.
    """
    if precision not in _LOW:
        raise ConfigError(f"The precision is {precision!r}; expected fp32, fp16 or bf16.")
    lowered, low = model.clone(), _LOW[precision]
    _Lowering(lowered.graph, _float_names(model), low).run()
    lowered.opset_imports[""] = OPSETS[precision]
    return lowered


def _float_names(model: ir.Model) -> set[str]:
    """The values of a graph that are float32, weights among them."""
    inferred = ShapeInferencePass()(model.clone()).model.graph
    values = [*inferred.initializers.values(), *(v for node in inferred for v in node.outputs)]
    return {value.name or "" for value in values if value.dtype == ir.DataType.FLOAT}


class _Lowering:
    """One graph on its way.

    Attributes:
        graph: changed in place.
        floats: names of its float32 values.
        low: the type to lower to.
        runs_low: the nodes that compute in it.
        casts: the result of each cast, by the name of its input.
    """

    def __init__(self, graph: ir.Graph, floats: set[str], low: ir.DataType) -> None:
        self.graph, self.floats, self.low = graph, floats, low
        self.runs_low: set[ir.Node] = set()
        self.casts: dict[str, ir.Value] = {}

    def run(self) -> None:
        """Choose the nodes, store their weights, and cast where types meet."""
        nodes = list(self.graph)
        self._choose(nodes)
        for weight in list(self.graph.initializers.values()):
            if self._is_float(weight) and self._is_read_low(weight):
                _store(weight, self.low)
        for node in nodes:
            for index, value in enumerate(node.inputs):
                if value is not None and self._is_float(value):
                    node.replace_input_with(index, self._as_wanted(value, node))

    def _choose(self, nodes: list[ir.Node]) -> None:
        """Fill `runs_low`: from products onwards, then from readers back to what they read."""
        end, seeing, made = self._end(), self._seeing(nodes), set[ir.Node]()
        for node in nodes:
            product = node.op_type in _PRODUCTS
            if node in end or _is_exact(node) or (product and node not in seeing):
                continue
            sources = [value.producer() for value in self._computed(node)]
            if product or not self.runs_low.isdisjoint(sources):
                self.runs_low.add(node)
            elif all(source in made for source in sources) and any(self._floats(node)):
                made.add(node)
        for node in (node for node in reversed(nodes) if node in made):
            if all(self._is_read_low(value) for value in node.outputs):
                self.runs_low.add(node)

    def _seeing(self, nodes: list[ir.Node]) -> set[ir.Node]:
        """The nodes that compute with pixels, not with their number only."""
        seeing, seen = set[ir.Node](), set(self.graph.inputs)
        for node in nodes:
            if node.op_type != "Shape" and not seen.isdisjoint(node.inputs):
                seeing.add(node)
                seen.update(node.outputs)
        return seeing

    def _end(self) -> set[ir.Node]:
        """The nodes from the final projection, or the last sum, to the outputs."""
        end, waiting = set[ir.Node](), [value.producer() for value in self.graph.outputs]
        while waiting:
            node = waiting.pop()
            if node is None or node in end or node.op_type in _NORMS:
                continue
            computed = list(self._computed(node))
            if len(computed) > 1 and node.op_type in _SUMS | _PRODUCTS:
                continue
            end.add(node)
            if node.op_type not in _PRODUCTS:
                waiting += [value.producer() for value in computed]
        return end

    def _as_wanted(self, value: ir.Value, node: ir.Node) -> ir.Value:
        """A value in the type in which a node computes."""
        source = value.producer()
        is_low = source in self.runs_low if source else value.dtype == self.low
        if is_low == (node in self.runs_low):
            return value
        assert value.name is not None
        if value.name not in self.casts:
            self.casts[value.name] = self._cast(value, ir.DataType.FLOAT if is_low else self.low)
        return self.casts[value.name]

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Insert a Cast behind the node that makes a value, or in front of all."""
        name, source = f"{value.name}.to_{_SUFFIX[dtype]}", value.producer()
        cast = ir.Node("", "Cast", [value], [ir.AttrInt64("to", dtype)], name=name)
        cast.outputs[0].name = name
        if source is None:
            self.graph.insert_before(self.graph[0], cast)
        else:
            self.graph.insert_after(source, cast)
        return cast.outputs[0]

    def _is_float(self, value: ir.Value) -> bool:
        return value.name in self.floats

    def _is_read_low(self, value: ir.Value) -> bool:
        """Whether there are readers, and all compute in the low type."""
        readers = [node for node, _ in value.uses()]
        return bool(readers) and all(node in self.runs_low for node in readers)

    def _floats(self, node: ir.Node) -> Iterator[ir.Value]:
        """The float inputs of a node."""
        return (value for value in node.inputs if value is not None and self._is_float(value))

    def _computed(self, node: ir.Node) -> Iterator[ir.Value]:
        """Those of them that are no weights."""
        return (value for value in self._floats(node) if value.producer() is not None)


def _is_exact(node: ir.Node) -> bool:
    """Whether a node computes in float32 wherever it stands."""
    if node.op_type in _EXACT or node.op_type.startswith("Reduce"):
        return True
    readers = [reader.op_type for reader, _ in node.outputs[0].uses()]
    return node.op_type == "Add" and bool(readers) and set(readers) == {"Softmax"}  # a mask's sum


def _store(weight: ir.Value, dtype: ir.DataType) -> None:
    """Store a weight in another type, in place."""
    tensor = weight.const_value
    assert tensor is not None
    assert weight.name is not None
    largest = float(np.abs(tensor.numpy()).max(initial=0))
    if dtype == ir.DataType.FLOAT16 and largest > LARGEST:
        raise ExportError(
            f"The weight {weight.name} reaches {largest:.3g}, more than float16 holds "
            f"({LARGEST:g}); export with --precision bf16."
        )
    weight.const_value = stored_as(tensor, dtype, name=weight.name)
    weight.type = ir.TensorType(dtype)
