"""TensorRT-RTX reads the graphs and builds engines from them, on a machine without a GPU.

Nothing is executed: that the engines compute the right thing is not shown here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import open_clip
import pytest
import torch

from atas_deploy.clip.model import build_model
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.bundle import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.export.storage import store_weights
from atas_deploy.export.to_onnx import image_to_onnx

trt = pytest.importorskip("tensorrt_rtx")

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
IMAGES: Shapes = ((1, 64, 64, 3), (2, 336, 448, 3), (8, 672, 896, 3))


def parse(graph: Path | bytes) -> tuple[Any, Any]:
    """A builder and the strongly typed network of an ONNX graph."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    data = graph if isinstance(graph, bytes) else graph.read_bytes()
    parsed = parser.parse(data)
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


VIT_TINY = {"image_size": 224, "patch_size": 16, "width": 192, "head_width": 64, "layers": 12}
REAL_TOWERS = {
    "atas-tiny": (256, VIT_TINY | {"no_ln_pre": True, "norm_kwargs": {"eps": 1e-6}}, False),
    "ViT-B-16": (512, open_clip.get_model_config("ViT-B-16")["vision_cfg"], True),
}


@pytest.mark.parametrize("name", REAL_TOWERS)
def test_real_towers_build(name: str) -> None:
    """Seeded towers of real size, float16 weights, with dynamic batch, height and width."""
    embed_dim, vision, quick_gelu = REAL_TOWERS[name]
    text = {"context_length": 8, "vocab_size": 514, "width": 8, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim, vision, text, quick_gelu=quick_gelu).half().float()
    half = (0.5, 0.5, 0.5)
    graph = image_to_onnx(ImageGraph(DenseViT(model.visual, "sclip"), mean=half, std=half))
    assert store_weights(graph) > 4 * 12
    builder, network = parse(ir.to_proto(graph).SerializeToString())
    assert bindings(network)["dense"] == ((-1, -1, -1, embed_dim), trt.float32)
    weights = 4 * sum(p.numel() for p in model.visual.parameters())
    assert build(builder, network, IMAGES) > 0.9 * weights


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("native", {"readout": "naclip", "attention_window": 2}),
        ("eva", {"readout": "sclip", "stride": 8}),
        ("siglip", {"readout": "naclip"}),
    ],
)
def test_every_family_builds(
    family_config: Callable[[str], dict[str, Any]], family: str, settings: dict[str, Any]
) -> None:
    """Rotary positions, attention pools, read-outs, overlapping patches and windows build."""
    visual = build_model({"model_cfg": family_config(family)}).visual
    graph = image_to_onnx(
        ImageGraph(DenseViT(visual, **settings), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    )
    builder, network = parse(ir.to_proto(graph).SerializeToString())
    shapes = (1, 64, 64, 3), (2, 320, 448, 3), (8, 640, 896, 3)
    assert build(builder, network, shapes) > 10_000


def test_antialias_is_refused(bundle: Bundle) -> None:
    """Why positions are resized without it; if this fails, TensorRT has learned it."""
    proto = onnx.load(bundle.path / IMAGE_ENCODER)
    (resize,) = (node for node in proto.graph.node if node.op_type == "Resize")
    (antialias,) = (a for a in resize.attribute if a.name == "antialias")
    antialias.i = 1
    with pytest.raises(AssertionError, match=r"[Aa]ntialias"):
        parse(proto.SerializeToString())
