"""The graphs: any size, readable by engines, free of traces of the exporting machine."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.core.errors import ExportError
from atas_deploy.export import to_onnx
from atas_deploy.export.parity import TorchReference
from atas_deploy.export.towers import Towers, build_towers

_OPENED: list[tuple[OrtBackend, TorchReference]] = []


@pytest.fixture(scope="module", autouse=True)
def _open(bundle: Bundle, towers: Towers) -> None:
    _OPENED[:] = [(OrtBackend(bundle), TorchReference(towers.image, towers.text))]


@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 4), rows=st.integers(1, 7), columns=st.integers(1, 7))
def test_image_graph_equals_pytorch_at_any_size(batch: int, rows: int, columns: int) -> None:
    """One graph serves every batch, height and width."""
    ort, reference = _OPENED[0]
    rng = np.random.default_rng(rows * 10 + columns)
    images = rng.integers(0, 256, (batch, 16 * rows, 16 * columns, 3), dtype=np.uint8)
    got, expected = ort.encode_images(images), reference.encode_images(images)
    assert got.dense.shape == (batch, rows, columns, 24)
    np.testing.assert_allclose(got.dense, expected.dense, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got.image, expected.image, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(texts=st.integers(1, 5), length=st.integers(2, 16))
def test_text_graph_equals_pytorch_at_any_length(texts: int, length: int) -> None:
    """One graph serves every number of texts and every length up to the context."""
    ort, reference = _OPENED[0]
    tokens = np.random.default_rng(length).integers(0, 814, (texts, length))
    np.testing.assert_allclose(
        ort.encode_texts(tokens), reference.encode_texts(tokens), rtol=0, atol=1e-5
    )


@pytest.fixture(params=[IMAGE_ENCODER, TEXT_ENCODER])
def proto(bundle: Bundle, request: pytest.FixtureRequest) -> onnx.ModelProto:
    """Each graph of the bundle."""
    return onnx.load(bundle.path / request.param)


def test_graph_is_valid(proto: onnx.ModelProto) -> None:
    """ONNX's own checker accepts the graph with inferred shapes, at the opset recorded."""
    onnx.checker.check_model(proto, full_check=True)
    assert [(s.domain, s.version) for s in proto.opset_import] == [("", to_onnx.OPSET)]


def test_dimensions_have_names(bundle: Bundle) -> None:
    """Inputs and outputs carry the dimension names that the module documents."""
    for name, dims in ((IMAGE_ENCODER, to_onnx.IMAGE_DIMS), (TEXT_ENCODER, to_onnx.TEXT_DIMS)):
        graph = onnx.load(bundle.path / name).graph
        for value in (*graph.input, *graph.output):
            axes = value.type.tensor_type.shape.dim
            named = tuple(axis.dim_param or axis.dim_value for axis in axes)
            assert named == tuple(24 if dim is None else dim for dim in dims[value.name])


def test_graph_holds_no_paths(proto: onnx.ModelProto) -> None:
    """The exporter's notes, such as file names of this machine, are gone."""
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert b".py" not in proto.SerializeToString()


def test_cast_follows_the_uint8_input(bundle: Bundle) -> None:
    """TensorRT takes no other operation on uint8; shapes may be read from it."""
    graph = onnx.load(bundle.path / IMAGE_ENCODER).graph
    users = {node.op_type for node in graph.node if "images" in node.input}
    assert users == {"Cast", "Shape"}


def test_engines_find_their_patterns(bundle: Bundle) -> None:
    """Norms and softmax are single operators, and nothing stands between q k^T and softmax."""
    graph = onnx.load(bundle.path / IMAGE_ENCODER).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    count = Counter(node.op_type for node in graph.node)
    assert count["LayerNormalization"] == 2 * 2 + 1
    softmaxes = [node for node in graph.node if node.op_type == "Softmax"]
    assert len(softmaxes) == 1 + 3  # first block; class token, queries and keys of the last
    assert {producers[node.input[0]] for node in softmaxes} == {"MatMul"}


def test_positions_are_resized_without_antialias(bundle: Bundle) -> None:
    """TensorRT refuses antialias, and training resizes without it."""
    graph = onnx.load(bundle.path / IMAGE_ENCODER).graph
    resizes = [node for node in graph.node if node.op_type == "Resize"]
    assert len(resizes) == 2  # one of each axis
    for resize in resizes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in resize.attribute}
        assert attributes["mode"] == b"cubic"
        assert attributes.get("antialias", 0) == 0


def test_weights_are_stored_once(model: ClipModel, bundle: Bundle) -> None:
    """Both graphs together hold hardly more numbers than the model."""
    stored = sum(
        int(np.prod(tensor.dims))
        for name in (IMAGE_ENCODER, TEXT_ENCODER)
        for tensor in onnx.load(bundle.path / name).graph.initializer
    )
    parameters = sum(p.numel() for p in model.model.parameters())
    assert stored < parameters + 1000


def test_untraceable_model_is_one_sentence(model: ClipModel) -> None:
    """A failure inside the exporter becomes an ExportError."""
    graph = build_towers(model, "sclip").image

    def branch(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (images, images) if images.sum() > 3 else (images + 1, images)

    graph.forward = branch  # type: ignore[method-assign]
    with pytest.raises(ExportError, match="PyTorch cannot turn this model into ONNX"):
        to_onnx.image_to_onnx(graph)
