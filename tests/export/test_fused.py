"""Attention as one operator, for ONNX Runtime on the CPU."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.core.bundle import (
    CPU_ENCODER,
    EMBEDDED,
    IMAGE_DATA,
    IMAGE_ENCODER,
    MANIFEST,
    Bundle,
)
from atas_deploy.core.errors import ParityError
from atas_deploy.export import bundle as exporter
from atas_deploy.export.bundle import export_bundle
from atas_deploy.export.fused import fuse_attention


def operators(model: ir.Model) -> Counter[str]:
    """How often each operator stands in a graph."""
    return Counter(node.op_type for node in model.graph)


def run(model: ir.Model, images: np.ndarray) -> list[np.ndarray]:
    """Both outputs of a graph."""
    proto = ir.to_proto(ir.external_data.load_to_model(model)).SerializeToString()
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(["dense", "image"], {"images": images})
    return found


def test_features_stay(float_graph: tuple[ImageGraph, ir.Model]) -> None:
    """Every family computes what PyTorch does, batches and oblong images included."""
    graph, model = float_graph
    fused = fuse_attention(model)
    assert operators(fused)["MultiHeadAttention"] >= 1
    step = graph.tower.multiple
    images = np.random.default_rng(0).integers(0, 256, (2, 3 * step, 5 * step, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = graph(torch.from_numpy(images))
    for got, wanted in zip(run(fused, images), expected, strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=2e-5)


def test_all_plain_attention_is_fused() -> None:
    """The embedded model: 11 blocks, and of its last one q q^T, k k^T and the class token's."""
    plain = ir.load(EMBEDDED / "atas-tiny" / IMAGE_ENCODER)
    fused = fuse_attention(plain)
    assert operators(plain)["Softmax"] == operators(fused)["MultiHeadAttention"] == 14
    assert operators(fused)["Softmax"] == 0
    assert operators(plain)["MultiHeadAttention"] == 0  # it stays as it was


def test_masked_attention_stays(trace: Callable[[str, str], tuple[ImageGraph, ir.Model]]) -> None:
    """The Gaussian of naclip is added to logits, which the operator would write to memory."""
    fused = fuse_attention(trace("eva", "naclip, finer")[1])
    assert operators(fused)["Softmax"] == 1


def test_both_graphs_share_weights(bundle: Bundle) -> None:
    """The second graph adds nodes, not weights."""
    proto = onnx.load(bundle.path / CPU_ENCODER, load_external_data=False)
    outside = {t.name for t in proto.graph.initializer if t.external_data}
    portable = onnx.load(bundle.path / IMAGE_ENCODER, load_external_data=False)
    assert outside
    assert outside == {t.name for t in portable.graph.initializer if t.external_data}
    entries = [entry for t in proto.graph.initializer for entry in t.external_data]
    places = {entry.value for entry in entries if entry.key == "location"}
    assert places == {"image_encoder.onnx.data"}


def test_the_cpu_runs_it(bundle: Bundle, tmp_path: Path) -> None:
    """Without its graph a bundle of an earlier release runs the portable one, to rounding."""
    older = tmp_path / "older"
    older.mkdir()
    for name in (IMAGE_ENCODER, IMAGE_DATA):
        (older / name).write_bytes((bundle.path / name).read_bytes())
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    got, expected = (
        OrtBackend(b).encode_images(images).dense for b in (bundle, Bundle(older, bundle.manifest))
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_a_graph_that_the_manifest_does_not_list_is_not_run(bundle: Bundle, tmp_path: Path) -> None:
    """A bundle of an earlier release, copied over one that had such a graph, runs its own."""
    older = tmp_path / "older"
    shutil.copytree(bundle.path, older)
    files = {n: r for n, r in bundle.manifest.files.items() if n != CPU_ENCODER}
    (older / MANIFEST).write_text(replace(bundle.manifest, files=files).to_json())
    (older / CPU_ENCODER).write_bytes(b"of another model")
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    got, expected = (
        OrtBackend(b).encode_images(images).dense for b in (Bundle.open(older), bundle)
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_a_wrong_graph_is_refused(
    model: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is proved like the portable one: an attention of another scale leaves no bundle."""
    write = exporter.write_cpu_graph

    def wrong(folder: Path) -> bool:
        written = write(folder)
        proto = onnx.load(folder / CPU_ENCODER, load_external_data=False)
        node = next(n for n in proto.graph.node if n.op_type == "MultiHeadAttention")
        next(a for a in node.attribute if a.name == "scale").f = 0.5
        onnx.save(proto, folder / CPU_ENCODER)
        return written

    monkeypatch.setattr(exporter, "write_cpu_graph", wrong)
    with pytest.raises(ParityError, match="graph for the CPU"):
        export_bundle(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
