"""Lowered graphs have one type a value, the right islands in float32, and weights stored once."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.core.errors import ConfigError, ExportError
from atas_deploy.export.lower import OPSETS, lower
from atas_deploy.export.storage import store_weights, weight_storage

LOW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
FloatGraph = tuple[ImageGraph, ir.Model]


@pytest.fixture(params=LOW)
def precision(request: pytest.FixtureRequest) -> str:
    """Each precision to lower to."""
    name: str = request.param
    return name


@pytest.fixture
def proto(float_graph: FloatGraph, precision: str) -> onnx.ModelProto:
    """Each family's graph in each precision, with the type of every value as ONNX infers it."""
    lowered = ir.to_proto(lower(float_graph[1], precision))
    return onnx.shape_inference.infer_shapes(lowered, check_type=True, strict_mode=True)


def types_of(proto: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value of a graph."""
    graph = proto.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        weight.name: weight.data_type for weight in graph.initializer
    }


def nodes_of(proto: onnx.ModelProto, *operators: str) -> Iterator[onnx.NodeProto]:
    """The nodes of some operators."""
    return (node for node in proto.graph.node if node.op_type in operators)


def producers_of(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each value."""
    return {name: node for node in proto.graph.node for name in node.output}


def test_graph_is_strongly_typed(proto: onnx.ModelProto, precision: str) -> None:
    """ONNX's checker finds one type for every value; inputs, outputs and names stay."""
    onnx.checker.check_model(proto, full_check=True)
    types = types_of(proto)
    assert set(types) >= {name for node in proto.graph.node for name in node.output}
    assert [types[name] for name in ("images", "dense", "image")] == [TensorProto.UINT8, 1, 1]
    assert [(s.domain, s.version) for s in proto.opset_import] == [("", OPSETS[precision])]
    dims = proto.graph.output[0].type.tensor_type.shape.dim
    assert [axis.dim_param for axis in dims[:3]] == ["batch", "grid_height", "grid_width"]


def test_islands_are_float32(proto: onnx.ModelProto) -> None:
    """Norms, softmax, unit length, pixels, positions and what follows them."""
    types, producers = types_of(proto), producers_of(proto)
    islands = ("LayerNormalization", "Softmax", "ReduceL2", "Clip", "Resize", "Cos", "Sin", "Exp")
    found = Counter(node.op_type for node in nodes_of(proto, *islands))
    assert set(islands[:5]) <= set(found)
    for node in nodes_of(proto, *islands):
        assert {types[name] for name in (*node.input[:1], *node.output)} == {TensorProto.FLOAT}
    (conv,) = nodes_of(proto, "Conv")
    pixels = producers[conv.input[0]]
    assert (pixels.op_type, producers[pixels.input[0]].op_type in ("Div", "Pad")) == ("Cast", True)


def test_products_are_low(proto: onnx.ModelProto, precision: str, float_graph: FloatGraph) -> None:
    """All but the two that resize positions and the final projection, which SigLIP has not."""
    types, producers = types_of(proto), producers_of(proto)
    by_type = Counter(types[node.output[0]] for node in nodes_of(proto, "MatMul", "Conv"))
    projections = 0 if float_graph[0].tower.tower.pools_patches else 1
    assert by_type[LOW[precision]] > 4 * 3
    products = nodes_of(proto, "MatMul")
    exact = [node for node in products if types[node.output[0]] == TensorProto.FLOAT]
    assert by_type[TensorProto.FLOAT] == len(exact) == projections + 2
    made_of = Counter(producers[node.input[0]].op_type for node in exact)
    assert made_of["LayerNormalization"] == projections


def test_residuals_are_low(proto: onnx.ModelProto, precision: str) -> None:
    """What flows from block to block takes half the memory."""
    types, producers = types_of(proto), producers_of(proto)
    readers = {name: node.op_type for node in proto.graph.node for name in node.input}
    sums = [
        types[node.output[0]]
        for node in nodes_of(proto, "Add")
        if all(name in producers for name in node.input) and readers[node.output[0]] != "Softmax"
    ]
    assert Counter(sums)[LOW[precision]] >= 2 * 3
    assert set(sums) <= {LOW[precision], TensorProto.INT64}


def test_attention_keeps_its_pattern(proto: onnx.ModelProto, precision: str) -> None:
    """Scaled q, product, cast, the mask's sum if any, softmax, cast, product."""
    types, producers = types_of(proto), producers_of(proto)
    readers = {name: node for node in proto.graph.node for name in node.input}
    for softmax in nodes_of(proto, "Softmax"):
        up = producers[softmax.input[0]]
        if up.op_type == "Add":
            up = producers[up.input[0]]
        logits = producers[up.input[0]]
        assert (up.op_type, logits.op_type) == ("Cast", "MatMul")
        assert types[logits.output[0]] == LOW[precision]
        assert producers[logits.input[0]].op_type == "Mul"
        down = readers[softmax.output[0]]
        assert (down.op_type, readers[down.output[0]].op_type) == ("Cast", "MatMul")


def test_no_cast_is_redundant(proto: onnx.ModelProto) -> None:
    """No cast of a weight or of a cast, none to the type that is there, none twice, none unread."""
    types, producers = types_of(proto), producers_of(proto)
    weights = {weight.name for weight in proto.graph.initializer}
    read = {name for node in proto.graph.node for name in node.input}
    casts = list(nodes_of(proto, "Cast"))
    assert len({cast.input[0] for cast in casts}) == len(casts)
    for cast in casts:
        (source,), (result,) = cast.input, cast.output
        assert source not in weights
        assert result in read
        assert types[source] != types[result]
        assert producers[source].op_type != "Cast" if source in producers else source == "images"


def test_weights_are_stored_once(
    proto: onnx.ModelProto, precision: str, float_graph: FloatGraph
) -> None:
    """Every matrix but the final projection in the low type, rounded as PyTorch rounds it."""
    before = {name: value.const_value for name, value in float_graph[1].graph.initializers.items()}
    assert {weight.name for weight in proto.graph.initializer} == set(before)
    low, exact = 0, 0
    for weight in proto.graph.initializer:
        tensor = before[weight.name]
        assert tensor is not None
        if weight.data_type in (TensorProto.FLOAT, TensorProto.INT64):
            exact += tensor.size
            continue
        low += tensor.size
        expected = torch.tensor(tensor.numpy())
        expected = expected.half() if precision == "fp16" else expected.bfloat16()
        got = onnx.numpy_helper.to_array(weight).astype(np.float32)
        np.testing.assert_array_equal(got, expected.float().numpy())
    assert low > 6 * exact


def test_storage_is_told_truly(float_graph: FloatGraph, precision: str) -> None:
    """Lowered weights stay as they are when graphs are stored; islands may still be halved."""
    lowered = lower(float_graph[1], precision)
    casts = Counter(node.op_type for node in lowered.graph)["Cast"]
    assert weight_storage(lowered) == precision
    assert store_weights(lowered) == 0
    assert Counter(node.op_type for node in lowered.graph)["Cast"] == casts


def test_large_islands_are_stored_as_any_weight() -> None:
    """A projection that float16 holds exactly is stored so, with a cast: it runs in float32."""
    lowered = lower(projection(np.full((64, 64), 0.5, np.float32)), "bf16")
    assert weight_storage(lowered) == "bf16+fp32"
    assert store_weights(lowered) == 1
    assert weight_storage(lowered) == "bf16+fp16"
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)


def test_the_other_graph_stays(float_graph: FloatGraph, precision: str) -> None:
    """Lowering changes no byte of the float32 graph, and does the same twice."""
    before = ir.to_proto(float_graph[1]).SerializeToString(deterministic=True)
    first, second = (ir.to_proto(lower(float_graph[1], precision)) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    assert ir.to_proto(float_graph[1]).SerializeToString(deterministic=True) == before


def test_onnxruntime_runs_fp16(float_graph: FloatGraph) -> None:
    """Its CPU provider computes much of it in float32, so this shows types, not precision."""
    graph, model = float_graph
    images = np.random.default_rng(0).integers(
        0, 256, (3, 2 * graph.tower.multiple, 4 * graph.tower.multiple, 3), dtype=np.uint8
    )
    got = run(lower(model, "fp16"), images)
    with torch.inference_mode():
        expected = graph(torch.from_numpy(images))
    for features, wanted in zip(got, expected, strict=True):
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, wanted.numpy(), rtol=0, atol=5e-3)


def test_operators_mean_the_same_in_both_operator_sets(float_graph: FloatGraph) -> None:
    """From 20 to 22 the operators that our graphs use gain types only."""
    for name in {node.op_type for node in float_graph[1].graph}:
        old, new = (onnx.defs.get_schema(name, OPSETS[p]) for p in ("fp16", "bf16"))
        for part in ("inputs", "outputs"):
            mine = [[(f.name, f.option) for f in getattr(s, part)] for s in (old, new)]
            assert mine[0] == mine[1], name
        defaults = [
            {k: (a.type, a.required, str(a.default_value)) for k, a in schema.attributes.items()}
            for schema in (old, new)
        ]
        assert defaults[0].items() <= defaults[1].items(), name
        types = [
            {c.type_param_str: set(c.allowed_type_strs) for c in s.type_constraints}
            for s in (old, new)
        ]
        assert all(allowed <= types[1][letter] for letter, allowed in types[0].items()), name


def test_other_precisions_are_refused(float_graph: FloatGraph) -> None:
    """Those that can be had are named."""
    with pytest.raises(ConfigError, match="'int8'; expected fp32, fp16 or bf16"):
        lower(float_graph[1], "int8")


def test_weights_beyond_float16_are_refused() -> None:
    """The weight is named; bfloat16 holds it."""
    model = projection(np.full((64, 64), 0.5, np.float32), scale=1e5)
    with pytest.raises(ExportError, match=r"weight first reaches 1e.*--precision bf16"):
        lower(model, "fp16")
    onnx.checker.check_model(ir.to_proto(lower(model, "bf16")), full_check=True)


def projection(weight: npt.NDArray[np.float32], *, scale: float = 1.0) -> ir.Model:
    """A product, a norm and a final projection, as small as it gets."""
    text = """<ir_version: 10, opset_import: ["": 20]>
    g (uint8[n, 64] images) => (float[n, 64] dense) {
        pixels = Cast<to: int = 1>(images)
        tokens = MatMul(pixels, first)
        normed = LayerNormalization<axis: int = -1>(tokens, ones)
        dense = MatMul(normed, last)
    }"""
    proto = onnx.parser.parse_model(text)
    first = np.random.default_rng(0).normal(size=(64, 64)).clip(-1, 1).astype(np.float32) * scale
    for name, array in (("first", first), ("ones", np.ones(64, np.float32)), ("last", weight)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(proto)


def run(model: ir.Model, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """The outputs of a graph in ONNX Runtime on the CPU."""
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs: list[npt.NDArray[np.float32]] = session.run(None, {"images": images})
    return outputs
