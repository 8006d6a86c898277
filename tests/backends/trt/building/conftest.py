"""Bundles with a real, narrow image graph in each precision; the other files are stand-ins."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch

from atas_deploy.backends.trt.flavour import RTX, load_flavour
from atas_deploy.backends.trt.machine import Machine
from atas_deploy.clip.model import build_model
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.bundle import (
    IMAGE_ENCODER,
    MANIFEST,
    MERGES,
    PARITY,
    TEXT_ENCODER,
    Bundle,
    Manifest,
    record_files,
)
from atas_deploy.export.lower import OPSETS, lower
from atas_deploy.export.storage import save_graph
from atas_deploy.export.to_onnx import image_to_onnx

HALF = (0.5, 0.5, 0.5)
CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 16,
        "width": 32,
        "head_width": 16,
        "layers": 2,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 514, "width": 8, "heads": 1, "layers": 1},
}


def write_bundle(folder: Path, graph: ir.Model, precision: str) -> None:
    """A bundle that opens; its tokenizer, text encoder and proof are empty."""
    for name in (TEXT_ENCODER, MERGES, PARITY):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"stand-in")
    save_graph(graph, folder / IMAGE_ENCODER)
    manifest = Manifest(
        name="narrow",
        architecture="ViT",
        readout="sclip",
        patch_size=16,
        embed_dim=24,
        context_length=8,
        logit_scale=100.0,
        mean=HALF,
        std=HALF,
        opset=OPSETS[precision],
        license="CC0-1.0",
        short_side=64,
        precision=precision,
    )
    complete = replace(manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(complete.to_json())


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of each precision, named after it."""
    torch.manual_seed(0)
    visual = build_model({"model_cfg": CONFIG}).visual
    folder = tmp_path_factory.mktemp("narrow")
    graph = image_to_onnx(ImageGraph(DenseViT(visual, "sclip"), mean=HALF, std=HALF))
    for precision in OPSETS:
        lowered = graph if precision == "fp32" else lower(graph, precision)
        write_bundle(folder / precision, lowered, precision)
    return folder


@pytest.fixture
def make_bundle(bundles: Path, tmp_path: Path) -> Callable[..., Bundle]:
    """A bundle of one's own, of a precision."""

    def make(precision: str = "fp32") -> Bundle:
        return Bundle.open(shutil.copytree(bundles / precision, tmp_path / precision))

    return make


@pytest.fixture
def machine() -> Machine:
    """TensorRT-RTX, building for one card that is not here."""
    pytest.importorskip("tensorrt_rtx")
    return Machine(load_flavour(RTX), None, ("8.9",))
