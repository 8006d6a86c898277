"""Every family of image towers as a graph: ONNX Runtime against PyTorch, seeded narrow models."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from atas_deploy.clip.pixels import ImageGraph

FloatGraph = tuple[ImageGraph, ir.Model]
GRIDS = [(1, 1, 5), (3, 4, 1), (1, 4, 4), (3, 2, 7)]  # batch, rows, columns; of steps


@pytest.mark.parametrize("setting", ["sclip", "naclip, finer", "vanilla in windows"])
@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_graph_equals_pytorch(
    trace: Callable[[str, str], FloatGraph], family: str, setting: str
) -> None:
    """One graph serves every batch, height and width of each family and option."""
    graph, model = trace(family, setting)
    proto = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    rng, step = np.random.default_rng(0), graph.tower.multiple
    for batch, rows, columns in GRIDS:
        images = rng.integers(0, 256, (batch, rows * step, columns * step, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = graph(torch.from_numpy(images))
        for got, wanted in zip(session.run(None, {"images": images}), expected, strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=1e-5)


def test_weights_are_stored_once(float_graph: FloatGraph) -> None:
    """Patches and image embedding pass the same weights, so the graph holds them once."""
    graph, model = float_graph
    stored = model.graph.initializers.values()
    numbers = sum(int(np.prod(tensor.shape.numpy())) for tensor in stored if tensor.shape)
    assert numbers < sum(p.numel() for p in graph.tower.visual.parameters()) + 100
