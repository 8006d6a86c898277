"""The similarity head against numpy, in ONNX Runtime."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import IMAGE_DATA, IMAGE_ENCODER, Bundle
from atas_deploy.core.errors import ParityError
from atas_deploy.export import with_head as adding
from atas_deploy.export.lower import lower
from atas_deploy.export.similarity import head_alone, text_per_image, with_head
from atas_deploy.export.storage import save_graph
from atas_deploy.export.to_onnx import image_to_onnx
from atas_deploy.export.towers import Towers
from atas_deploy.models import open_model


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    """The embedded model, which is trained."""
    return open_model("atas-tiny")


def run(model: ir.Model, **feed: np.ndarray) -> list[np.ndarray]:
    """Logits and image logits of a graph."""
    proto = ir.to_proto(ir.external_data.load_to_model(model)).SerializeToString()
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(["logits", "image_logits"], feed)
    return found


def pictures(*shape: int) -> np.ndarray:
    """Seeded noise."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of every row of a with every row of b, in float64, one by one."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.array([[x @ y / np.sqrt((x @ x) * (y @ y)) for y in b] for x in a])


@pytest.mark.parametrize(("shape", "queries"), [((1, 32, 32, 3), 1), ((2, 48, 80, 3), 5)])
def test_logits_are_scaled_cosines(tiny: Bundle, shape: tuple[int, ...], queries: int) -> None:
    """Every patch and picture with every word, whatever the lengths of their embeddings."""
    images = pictures(*shape)
    text = np.random.default_rng(1).normal(0, 3, (queries, 256)).astype(np.float32)
    model = with_head(ir.load(tiny.path / IMAGE_ENCODER), tiny.manifest)
    logits, image_logits = run(model, images=images, text=text)
    features, scale = OrtBackend(tiny).encode_images(images), tiny.manifest.logit_scale
    batch, height, width = shape[0], shape[1] // 16, shape[2] // 16
    assert logits.shape == (batch, queries, height, width)
    expected = scale * cosines(features.dense.reshape(-1, 256), text)
    expected = expected.reshape(batch, height, width, queries).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        image_logits, scale * cosines(features.image, text), rtol=0, atol=1e-4
    )


def test_bias_is_added(bundle: Bundle) -> None:
    """SigLIP's logits have one; a row of zeros has no direction and gives just that."""
    manifest = replace(bundle.manifest, logit_scale=110.0, logit_bias=-12.5)
    feed: dict[str, Any] = {"dense": np.zeros((1, 2, 3, 24), np.float32)}
    feed["image"] = np.eye(1, 24, dtype=np.float32)
    feed["text"] = np.concatenate([np.zeros((1, 24)), 3 * np.eye(1, 24)]).astype(np.float32)
    logits, image_logits = run(head_alone(manifest), **feed)
    np.testing.assert_array_equal(logits, np.full((1, 2, 2, 3), -12.5, np.float32))
    np.testing.assert_allclose(image_logits, [[-12.5, 97.5]], rtol=1e-6)


def test_words_for_each_image(tiny: Bundle) -> None:
    """In the layout for servers each image meets its own words, as if it came alone."""
    text = np.random.default_rng(1).normal(size=(2, 3, 256)).astype(np.float32)
    images = pictures(2, 32, 48, 3)
    model = with_head(ir.load(tiny.path / IMAGE_ENCODER), tiny.manifest)
    alone = [run(model, images=images[i : i + 1], text=text[i]) for i in range(2)]
    both = run(text_per_image(model), images=images, text=text)
    for got, *expected in zip(both, *alone, strict=True):
        np.testing.assert_allclose(got, np.concatenate(expected), rtol=0, atol=1e-4)


def test_graph_is_valid_and_whole(bundle: Bundle, tmp_path: Path) -> None:
    """ONNX's checker accepts the file; its weights lie in it; every dimension is as documented."""
    copied = copy_of(bundle, tmp_path)
    alone, whole = adding.add_similarity(copied)
    proto = onnx.load(copied.path / "similarity.onnx", load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    dims = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert dims == {
        "images": ["batch", "height", "width", 3],
        "text": ["queries", 24],
        "logits": ["batch", "queries", "grid_height", "grid_width"],
        "image_logits": ["batch", "queries"],
    }
    assert 0 < alone["worst"]["logits"]["max_abs"] < 1e-6
    assert 0 < whole["worst"]["image_logits"]["max_abs"] < 1e-5


def test_large_weights_lie_beside_it(bundle: Bundle, tmp_path: Path) -> None:
    """A graph that one file cannot hold runs, too."""
    copied = copy_of(bundle, tmp_path)
    adding.add_similarity(copied, largest_file=1000)
    assert (tmp_path / "similarity.onnx.data").stat().st_size > 10_000
    path = tmp_path / "similarity.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {"images": pictures(1, 16, 16, 3), "text": np.eye(2, 24, dtype=np.float32)}
    assert session.run(["logits"], feed)[0].shape == (1, 2, 1, 1)


@pytest.mark.parametrize(("precision", "stages"), [("fp16", 2), ("bf16", 1)])
def test_reduced_precision(
    bundle: Bundle, towers: Towers, tmp_path: Path, precision: str, stages: int
) -> None:
    """The head stays in float32 behind an encoder that does not; bf16 cannot run on the CPU."""
    model = lower(image_to_onnx(towers.image), precision)
    save_graph(model, tmp_path / IMAGE_ENCODER)
    opset = model.opset_imports[""]
    manifest = replace(bundle.manifest, precision=precision, opset=opset)
    assert len(adding.add_similarity(Bundle(tmp_path, manifest))) == stages
    proto = onnx.load(tmp_path / "similarity.onnx")
    onnx.checker.check_model(proto, full_check=True)
    tensors = (*proto.graph.input, *proto.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in tensors}
    assert kinds.pop("images") == onnx.TensorProto.UINT8
    assert set(kinds.values()) == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("per_image", [False, True])
def test_tensorrt_reads_it(bundle: Bundle, per_image: bool) -> None:
    """The parser takes the head with every dimension dynamic; nothing is built or run."""
    trt = pytest.importorskip("tensorrt_rtx")
    model = with_head(ir.load(bundle.path / IMAGE_ENCODER), bundle.manifest)
    if per_image:
        text_per_image(model)
    logger = trt.Logger(trt.Logger.ERROR)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = trt.Builder(logger).create_network(typed)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(ir.to_proto(ir.external_data.load_to_model(model)).SerializeToString())
    assert parsed, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    assert {o.name: len(o.shape) for o in outputs} == {"logits": 4, "image_logits": 2}


def test_wrong_scale_fails(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of another factor is refused, and the numbers are told."""
    head = with_head

    def wrong(model: ir.Model, manifest: Any) -> ir.Model:
        return head(model, replace(manifest, logit_scale=1.001 * manifest.logit_scale))

    monkeypatch.setattr(adding, "with_head", wrong)
    with pytest.raises(ParityError, match=r"output logits .* limit 1e-05"):
        adding.add_similarity(copy_of(bundle, tmp_path))


def copy_of(bundle: Bundle, folder: Path) -> Bundle:
    """The image encoder of a bundle in a folder of its own."""
    for name in (IMAGE_ENCODER, IMAGE_DATA):
        (folder / name).write_bytes((bundle.path / name).read_bytes())
    return Bundle(folder, bundle.manifest)
