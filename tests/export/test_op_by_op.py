"""Graphs run operator by operator: as ONNX Runtime in float32, in true types below, in range."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.core.errors import ExportError, ParityError
from atas_deploy.export.lower import lower
from atas_deploy.export.op_by_op import RANGE, OpByOp, check_range
from atas_deploy.export.operators import OPERATORS, find_operator
from atas_deploy.export.to_onnx import image_to_onnx

FloatGraph = tuple[ImageGraph, ir.Model]
Images = npt.NDArray[np.uint8]


def noise(batch: int, rows: int, columns: int, *, step: int) -> Images:
    """Seeded images of so many steps."""
    shape = batch, rows * step, columns * step, 3
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def onnxruntime_of(model: ir.Model, images: Images) -> list[npt.NDArray[np.float32]]:
    """What ONNX Runtime computes on the CPU: dense and image."""
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs: list[npt.NDArray[np.float32]] = session.run(None, {"images": images})
    return outputs


def smallest_cosine(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Of any two features of unit length."""
    return float((got.astype(np.float64) * expected).sum(axis=-1).min())


@pytest.mark.parametrize("grid", [(1, 1, 5), (2, 4, 3)])
def test_float32_equals_onnxruntime(float_graph: FloatGraph, grid: tuple[int, int, int]) -> None:
    """Every operator does what ONNX says, on images of several sizes."""
    graph, model = float_graph
    images = noise(*grid, step=graph.tower.multiple)
    got, expected = OpByOp(model).run(images), onnxruntime_of(model, images)
    np.testing.assert_allclose(got.dense, expected[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(got.image, expected[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_values_have_the_types_of_the_graph(float_graph: FloatGraph, precision: str) -> None:
    """As ONNX infers them: nothing is computed in float32 that the graph has in another type."""
    graph, model = float_graph
    lowered = lower(model, precision)
    runner = OpByOp(lowered)
    runner.run(noise(1, 2, 2, step=graph.tower.multiple))
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(lowered), strict_mode=True)
    values = (*proto.graph.value_info, *proto.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    names = {torch.float32: 1, torch.float16: 10, torch.bfloat16: 16}
    made = {name for node in proto.graph.node for name in node.output}
    assert {name: names[seen.dtype] for name, seen in runner.seen.items()} == {
        name: types[name] for name in made if types[name] in names.values()
    }


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.99999), ("bf16", 0.9995)])
def test_reduced_precision_is_near(float_graph: FloatGraph, precision: str, least: float) -> None:
    """Features of lowered graphs are near PyTorch's, and rounding is seen in them."""
    graph, model = float_graph
    images = noise(2, 4, 3, step=graph.tower.multiple)
    got = OpByOp(lower(model, precision)).run(images)
    with torch.inference_mode():
        dense, image = (features.numpy() for features in graph(torch.from_numpy(images)))
    assert least < smallest_cosine(got.dense, dense) < 1 - 1e-9
    assert least < smallest_cosine(got.image, image)
    assert np.abs(got.dense - dense).max() > 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_are_rounded_once(dtype: torch.dtype) -> None:
    """They equal the product in float64, rounded; beyond the largest number they are infinite."""
    torch.manual_seed(0)
    a, b = torch.randn(7, 500).to(dtype), torch.randn(500, 5).to(dtype)
    got = find_operator("MatMul")(a, b)
    assert isinstance(got, torch.Tensor)
    expected = (a.double() @ b.double()).to(dtype)
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected, rtol=torch.finfo(dtype).eps, atol=0)
    assert (got == expected).float().mean() > 0.9
    large = torch.full((1, 500), 200.0, dtype=dtype)
    product = find_operator("MatMul")(large, large.T)
    assert isinstance(product, torch.Tensor)
    assert product.isinf().item() == (dtype == torch.float16)


@pytest.fixture(scope="module")
def loud(make_graph: Callable[..., ImageGraph]) -> FloatGraph:
    """A tower whose first MLP reaches 100,000 inside and gives ordinary features nevertheless."""
    graph: Any = make_graph("native", {"readout": "vanilla"})
    mlp = graph.tower.visual.transformer.resblocks[0].mlp
    with torch.no_grad():
        mlp.c_fc.weight.mul_(1e5)
        mlp.c_proj.weight.mul_(1e-5)
    return graph, image_to_onnx(graph)


def test_overflow_is_found(loud: FloatGraph) -> None:
    """ONNX Runtime hides that fp16 overflows; the range of the float32 twin does not."""
    graph, model = loud
    images = noise(2, 3, 4, step=graph.tower.multiple)
    lowered, twin = OpByOp(lower(model, "fp16")), OpByOp(model)
    twin.run(images)
    assert not np.isfinite(lowered.run(images).dense).all()
    assert all(np.isfinite(output).all() for output in onnxruntime_of(model, images))
    assert max(seen.largest for seen in twin.seen.values()) > 65504
    with pytest.raises(
        ParityError,
        match=r"result of node_\w+ \((MatMul|Add)\) reaches .* limit 16376 .*--precision bf16",
    ):
        check_range(lowered, twin)


def test_bf16_takes_what_overflows_fp16(loud: FloatGraph) -> None:
    """The same model passes, and its features are right."""
    graph, model = loud
    images = noise(2, 3, 4, step=graph.tower.multiple)
    lowered, twin = OpByOp(lower(model, "bf16")), OpByOp(model)
    expected, got = twin.run(images), lowered.run(images)
    assert check_range(lowered, twin) is None
    assert smallest_cosine(got.dense, expected.dense) > 0.999


def test_range_is_told_and_limited(float_graph: FloatGraph) -> None:
    """The largest value bound for float16 is in the twin, below the limit, and NaN is not."""
    graph, model = float_graph
    images = noise(1, 2, 2, step=graph.tower.multiple)
    lowered, twin = OpByOp(lower(model, "fp16")), OpByOp(model)
    for runner in (lowered, twin):
        runner.run(images)
    largest = check_range(lowered, twin)
    assert largest is not None
    assert largest in twin.seen.values()
    assert 1 < largest.largest < RANGE
    with pytest.raises(ParityError, match="limit 1 "):
        check_range(lowered, twin, limit=1)
    name = next(name for name, seen in twin.seen.items() if seen == largest)
    twin.seen[name] = largest._replace(largest=math.nan)
    with pytest.raises(ParityError, match="reaches nan"):
        check_range(lowered, twin)


def test_largest_of_all_runs_is_kept(float_graph: FloatGraph) -> None:
    """A quiet image after a loud one does not lower what was seen."""
    graph, model = float_graph
    runner, step = OpByOp(model), graph.tower.multiple
    runner.run(noise(1, 2, 2, step=step))
    first = dict(runner.seen)
    runner.run(np.full((1, step, step, 3), 128, np.uint8))
    assert runner.seen.keys() == first.keys()
    assert all(seen.largest >= first[name].largest for name, seen in runner.seen.items())


def test_table_holds_what_our_graphs_use(float_graphs: dict[str, FloatGraph]) -> None:
    """No operator is missing and none is there for nothing."""
    used = {node.op_type for _, model in float_graphs.values() for node in model.graph}
    assert used == set(OPERATORS)


def test_unknown_operator_is_one_sentence(float_graphs: dict[str, FloatGraph]) -> None:
    """It is named before anything runs."""
    model = float_graphs["eva"][1].clone()
    next(node for node in model.graph if node.op_type == "Exp").op_type = "Sinh"
    with pytest.raises(ExportError, match="operator Sinh, which the proof of fp16 and bf16"):
        OpByOp(model)


@pytest.mark.parametrize(
    ("operator", "attribute", "value"),
    [("Resize", "antialias", 1), ("Conv", "pads", [1, 1, 1, 1]), ("Cast", "to", 11)],
)
def test_other_uses_are_one_sentence(
    float_graphs: dict[str, FloatGraph], operator: str, attribute: str, value: Any
) -> None:
    """An operator that is used in a way that ours are not is refused, not guessed."""
    model = float_graphs["native"][1].clone()
    node = next(node for node in model.graph if node.op_type == operator)
    make = ir.AttrInt64s if isinstance(value, list) else ir.AttrInt64
    node.attributes[attribute] = make(attribute, value)
    with pytest.raises(ExportError, match=f"operator {operator} with .* does not know"):
        OpByOp(model).run(noise(1, 2, 2, step=32))
