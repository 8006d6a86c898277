"""Sessions: other people's graphs, damaged files and lost providers are one sentence each."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from atas_deploy.backends.ort_session import TEXT_INPUTS, TEXT_OUTPUTS, load_session
from atas_deploy.core.bundle import TEXT_ENCODER
from atas_deploy.core.errors import BackendError, BackendUnavailableError
from atas_deploy.models import open_model

CPU: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})


def load(path: Path, provider: tuple[str, dict[str, str]] = CPU) -> object:
    """A session of a text encoder."""
    return load_session(
        path, inputs=TEXT_INPUTS, outputs=TEXT_OUTPUTS, providers=[provider], threads=1
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a graph that casts its input: name, type and rank of input and output."""

    def write(
        *,
        name: str = "tokens",
        kind: int = TensorProto.INT64,
        rank: int = 2,
        out: str = "text",
        opset: int = 20,
        ir_version: int = 10,
    ) -> Path:
        shape = [f"axis{i}" for i in range(rank)]
        node = helper.make_node("Cast", [name], [out], to=TensorProto.FLOAT)
        graph = helper.make_graph(
            [node],
            "graph",
            [helper.make_tensor_value_info(name, kind, shape)],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, shape)],
        )
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        onnx.save(model, tmp_path / "graph.onnx")
        return tmp_path / "graph.onnx"

    return write


def test_names_types_and_ranks_are_all_that_is_checked(write: Callable[..., Path]) -> None:
    """A graph with the right ones loads."""
    load(write())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "input_ids"}, "inputs input_ids tensor"),
        ({"kind": TensorProto.INT32}, r"inputs tokens tensor\(int32\) of rank 2"),
        ({"rank": 3}, r"inputs tokens tensor\(int64\) of rank 3"),
        ({"out": "logits"}, r"outputs logits .* expected text tensor\(float\) of rank 2"),
    ],
)
def test_foreign_graphs_are_refused(
    write: Callable[..., Path], change: dict[str, str | int], told: str
) -> None:
    """What it has, what was expected, and the cure."""
    with pytest.raises(BackendError, match=rf"{told}.*atas-deploy export"):
        load(write(**change))


@pytest.mark.parametrize("length", [0, 1_000, 100_000])
def test_truncated_files_are_one_sentence(tmp_path: Path, length: int) -> None:
    """Empty, or cut in the graph or in the weights: the reason and the cure, no error code."""
    path = tmp_path / "text_encoder.onnx"
    path.write_bytes((open_model("atas-tiny").path / TEXT_ENCODER).read_bytes()[:length])
    with pytest.raises(BackendError, match=r"could not load .*models .* --verify") as caught:
        load(path)
    assert "ONNXRuntimeError" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"opset": 999}, {"ir_version": 999}])
def test_graphs_of_the_future_name_the_cure(
    write: Callable[..., Path], change: dict[str, int]
) -> None:
    """The file is all right, ONNX Runtime is too old; where in its source is nobody's business."""
    with pytest.raises(BackendError, match="install a newer release of ONNX Runtime") as caught:
        load(write(**change))
    assert "::" not in str(caught.value)


def test_a_provider_that_did_not_start_is_an_error(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime goes on without it, as here, where the session has only the CPU."""
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, **_: real(path, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(BackendUnavailableError, match=r'"cuda:1" .* could not start its CUDA'):
        load(write(), ("CUDAExecutionProvider", {"device_id": "1"}))


def test_no_session_may_change_its_provider(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own fallback, which prints and goes on with the CPU, is off."""
    given = {}

    def create(*_: object, **options: object) -> object:
        given.update(options)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", create)
    with pytest.raises(BackendUnavailableError):
        load(write(), ("CUDAExecutionProvider", {"device_id": "0"}))
    assert given["enable_fallback"] == 0
