"""Every family of image towers as a graph: ONNX Runtime against PyTorch, seeded narrow models."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from atas_deploy.clip.model import build_model
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.vit import DenseViT
from atas_deploy.export.to_onnx import image_to_onnx

SETTINGS: dict[str, dict[str, Any]] = {
    "sclip": {"readout": "sclip"},
    "naclip, finer": {"readout": "naclip", "stride": 6},
    "vanilla in windows": {"readout": "vanilla", "attention_window": 2},
}
GRIDS = [(1, 1, 5), (3, 4, 1), (1, 4, 4), (3, 2, 7)]  # batch, rows, columns; of steps


def make_graph(model_cfg: dict[str, Any], settings: dict[str, Any]) -> ImageGraph:
    """A seeded tower whose norms and biases are not the ones and zeros of a new one."""
    torch.manual_seed(0)
    model = build_model({"model_cfg": model_cfg})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tower = DenseViT(model.visual, **settings)
    return ImageGraph(tower, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)).eval()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_graph_equals_pytorch(
    family_config: Callable[[str], dict[str, Any]], family: str, setting: str
) -> None:
    """One graph serves every batch, height and width of each family and option."""
    graph = make_graph(family_config(family), SETTINGS[setting])
    proto = ir.to_proto(image_to_onnx(graph)).SerializeToString()
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    rng, step = np.random.default_rng(0), graph.tower.multiple
    for batch, rows, columns in GRIDS:
        images = rng.integers(0, 256, (batch, rows * step, columns * step, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = graph(torch.from_numpy(images))
        for got, wanted in zip(session.run(None, {"images": images}), expected, strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=1e-5)


def test_weights_are_stored_once(family_config: Callable[[str], dict[str, Any]]) -> None:
    """Patches and image embedding pass the same weights, so the graph holds them once."""
    for family in ("native", "eva", "siglip"):
        graph = make_graph(family_config(family), {"readout": "naclip"})
        stored = image_to_onnx(graph).graph.initializers.values()
        numbers = sum(int(np.prod(tensor.shape.numpy())) for tensor in stored if tensor.shape)
        assert numbers < sum(p.numel() for p in graph.tower.visual.parameters()) + 100
