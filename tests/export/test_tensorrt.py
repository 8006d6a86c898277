"""TensorRT-RTX reads the graphs and builds engines from them, on a machine without a GPU.

Nothing is executed: that the engines compute the right thing is not shown here.
"""

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import open_clip
import pytest
import torch

from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.bundle import EMBEDDED, IMAGE_DATA, IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.export.lower import lower
from atas_deploy.export.storage import store_weights
from atas_deploy.export.to_onnx import image_to_onnx

trt = pytest.importorskip("tensorrt_rtx")

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
IMAGES: Shapes = ((1, 64, 64, 3), (2, 336, 448, 3), (8, 672, 896, 3))
FAMILY_IMAGES: Shapes = ((1, 96, 96, 3), (2, 288, 480, 3), (8, 672, 960, 3))


def parse(graph: Path | bytes) -> tuple[Any, Any]:
    """A builder and the strongly typed network of an ONNX graph."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    whole = isinstance(graph, bytes)
    parsed = parser.parse(graph) if whole else parser.parse_from_file(str(graph))
    assert parsed, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    return builder, network


def build(builder: Any, network: Any, shapes: Shapes) -> int:
    """Build for one profile and one capability; return the engine's size in bytes."""
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, *shapes)
    assert config.add_optimization_profile(profile) == 0
    config.num_compute_capabilities = 1  # without one, TensorRT looks for a GPU
    assert config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    return int(engine.nbytes)


def bindings(network: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape (-1 is dynamic) and type of every input and output."""
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    return {tensor.name: (tuple(tensor.shape), tensor.dtype) for tensor in tensors}


def test_bundle_builds(bundle: Bundle) -> None:
    """Both graphs as they lie in a bundle, weights stored as float16."""
    builder, network = parse(bundle.path / IMAGE_ENCODER)
    assert bindings(network) == {
        "images": ((-1, -1, -1, 3), trt.uint8),
        "dense": ((-1, -1, -1, 24), trt.float32),
        "image": ((-1, 24), trt.float32),
    }
    assert build(builder, network, IMAGES) > 10_000
    builder, network = parse(bundle.path / TEXT_ENCODER)
    assert bindings(network)["tokens"] == ((-1, -1), trt.int64)
    assert build(builder, network, ((1, 2), (32, 8), (512, 16))) > 10_000


def test_the_embedded_model_builds() -> None:
    """The image encoder that ships inside the package."""
    folder = EMBEDDED / "atas-tiny"
    builder, network = parse(folder / IMAGE_ENCODER)
    assert bindings(network)["dense"] == ((-1, -1, -1, 256), trt.float32)
    assert build(builder, network, IMAGES) > (folder / IMAGE_DATA).stat().st_size


def test_a_tower_of_real_size_builds() -> None:
    """A seeded ViT-B-16, float16 weights, with dynamic batch, height and width."""
    vision = open_clip.get_model_config("ViT-B-16")["vision_cfg"]
    text = {"context_length": 8, "vocab_size": 514, "width": 8, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    model = open_clip.CLIP(512, vision, text, quick_gelu=True).half().float()
    half = (0.5, 0.5, 0.5)
    graph = image_to_onnx(ImageGraph(DenseViT(model.visual, "sclip"), mean=half, std=half))
    assert store_weights(graph) > 4 * 12
    builder, network = parse(ir.to_proto(graph).SerializeToString())
    assert bindings(network)["dense"] == ((-1, -1, -1, 512), trt.float32)
    weights = 4 * sum(p.numel() for p in model.visual.parameters())
    assert build(builder, network, IMAGES) > 0.9 * weights


def test_every_family_builds(float_graph: tuple[ImageGraph, ir.Model]) -> None:
    """Rotary positions, attention pools, read-outs, overlapping patches and windows build."""
    builder, network = parse(ir.to_proto(float_graph[1]).SerializeToString())
    assert build(builder, network, FAMILY_IMAGES) > 10_000


@pytest.mark.parametrize(
    ("family", "precision"), [("native", "fp16"), ("eva", "bf16"), ("siglip", "fp16")]
)
def test_lowered_graphs_build(
    float_graphs: dict[str, tuple[ImageGraph, ir.Model]], family: str, precision: str
) -> None:
    """TensorRT, which checks types strictly, takes lowered graphs and keeps their types."""
    lowered = lower(float_graphs[family][1], precision)
    builder, network = parse(ir.to_proto(lowered).SerializeToString())
    assert {dtype for _, dtype in bindings(network).values()} == {trt.uint8, trt.float32}
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = {
        kind: [layer.get_output(0).dtype for layer in layers if layer.type == kind]
        for kind in (trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.SOFTMAX)
    }
    low = trt.float16 if precision == "fp16" else trt.bfloat16
    assert types[trt.LayerType.MATRIX_MULTIPLY].count(low) > 4 * 3
    assert set(types[trt.LayerType.SOFTMAX]) == {trt.float32}
    assert build(builder, network, FAMILY_IMAGES) > 10_000


def test_antialias_is_refused(bundle: Bundle) -> None:
    """Why positions are resized without it; if this fails, TensorRT has learned it."""
    proto = onnx.load(bundle.path / IMAGE_ENCODER)
    resize = next(node for node in proto.graph.node if node.op_type == "Resize")
    (antialias,) = (a for a in resize.attribute if a.name == "antialias")
    antialias.i = 1
    with pytest.raises(AssertionError, match=r"[Aa]ntialias"):
        parse(proto.SerializeToString())
