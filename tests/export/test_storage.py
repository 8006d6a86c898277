"""Weights stored as float16 give the very same float32 numbers."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from atas_deploy.core.errors import ExportError
from atas_deploy.export.storage import (
    compact_state,
    fits_fp16,
    round_weights,
    save_graph,
    store_weights,
    weight_storage,
)

SHAPE = (64, 128)


def graph_of(weights: np.ndarray) -> ir.Model:
    """A graph that multiplies its input by a weight matrix."""
    shapes = {"x": ("n", SHAPE[0]), "y": ("n", weights.shape[1])}
    x, y = (helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items())
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    initializer = numpy_helper.from_array(weights, "w")
    graph = helper.make_graph([node], "g", [x], [y], initializer=[initializer])
    opsets = [helper.make_opsetid("", 20)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def run(path: Path) -> np.ndarray:
    """The weights as the graph sees them: its output for a unit matrix."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": np.eye(SHAPE[0], dtype=np.float32)})[0]
    return result


@pytest.fixture
def half() -> np.ndarray:
    """Float32 weights that float16 holds exactly, the smallest and largest among them."""
    weights = np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)
    weights[0, :4] = [6e-8, 65504, -65504, 6.1e-5]
    return weights.astype(np.float32)


@pytest.mark.parametrize(("largest", "files"), [(10**6, 1), (16_000, 2)])
def test_exact_weights_are_halved_bit_by_bit(
    half: np.ndarray, tmp_path: Path, largest: int, files: int
) -> None:
    """The file shrinks and the arithmetic sees the same bits, in one file or in two."""
    graph, path = graph_of(half), tmp_path / "g.onnx"
    assert store_weights(graph) == 1
    assert weight_storage(graph) == "fp16"
    save_graph(graph, path, largest=largest)
    assert len(list(tmp_path.iterdir())) == files
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 0.6 * half.nbytes
    onnx.checker.check_model(path, full_check=True)
    np.testing.assert_array_equal(run(path).view(np.uint32), half.view(np.uint32))


def test_data_file_can_move_with_its_graph(half: np.ndarray, tmp_path: Path) -> None:
    """The graph names its data file alone, not the folder; large weights lie there only."""
    (tmp_path / "a").mkdir()
    half[5, 5] = 1 / 3
    save_graph(graph_of(half), tmp_path / "a/g.onnx", largest=0)
    assert (tmp_path / "a/g.onnx").stat().st_size < 1000
    (tmp_path / "a").rename(tmp_path / "b")
    np.testing.assert_array_equal(run(tmp_path / "b/g.onnx"), half)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["g.onnx", "g.onnx.data"]


@pytest.mark.parametrize("value", [1 / 3, 1e-9, 65505, 1e9])
def test_one_inexact_weight_keeps_the_tensor(
    half: np.ndarray, tmp_path: Path, value: float
) -> None:
    """Too fine, too small or too large: the whole tensor stays float32."""
    half[5, 5] = value
    graph = graph_of(half)
    assert store_weights(graph) == 0
    assert weight_storage(graph) == "fp32"
    save_graph(graph, tmp_path / "g.onnx")
    np.testing.assert_array_equal(run(tmp_path / "g.onnx"), half)


def test_small_tensors_stay() -> None:
    """A cast for every bias would cost more than it saves."""
    assert store_weights(graph_of(np.zeros((64, 63), np.float32))) == 0


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32)))
def test_fits_means_the_same_bits(values: np.ndarray) -> None:
    """The test accepts exactly the arrays that survive the way there and back, NaN included."""
    with np.errstate(over="ignore", invalid="ignore"):
        back = values.astype(np.float16).astype(np.float32)
    assert fits_fp16(values) == (back.tobytes() == values.tobytes())


@given(hnp.arrays(np.float16, st.integers(1, 20), elements=st.floats(width=16, allow_nan=False)))
def test_every_float16_fits(values: np.ndarray) -> None:
    """Anything that was float16 is recognised."""
    assert fits_fp16(values.astype(np.float32))


def test_state_dict_is_compact_and_exact(half: np.ndarray) -> None:
    """Each tensor of a state dict is halved on its own merit; integers and scalars survive."""
    state = {
        "exact": torch.from_numpy(half),
        "inexact": torch.tensor([0.1, 0.2]),
        "scale": torch.tensor(4.6052),
        "count": torch.tensor([3]),
    }
    compact = compact_state(state)
    dtypes = {name: tensor.dtype for name, tensor in compact.items()}
    assert dtypes["exact"] == torch.float16
    assert (dtypes["inexact"], dtypes["scale"]) == (torch.float32, torch.float32)
    for name, tensor in state.items():
        assert torch.equal(compact[name].to(tensor.dtype), tensor)
        assert compact[name].shape == tensor.shape


def test_rounded_weights_fit_float16() -> None:
    """After rounding every tensor is exact in float16, masks with infinities included."""
    model = torch.nn.Linear(3, 5)
    model.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    before = model.weight.detach().clone()
    round_weights(model)
    assert all(fits_fp16(tensor.detach().numpy()) for tensor in model.state_dict().values())
    torch.testing.assert_close(model.weight, before, rtol=1e-3, atol=1e-6)


def test_weights_beyond_float16_are_refused() -> None:
    """A weight that would become infinite is named."""
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.bias, 1e6)
    with pytest.raises(ExportError, match="bias reaches 1e"):
        round_weights(model)
