"""A small seeded model folder and its bundle, made once."""

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from open_clip.tokenizer import default_bpe
from safetensors.torch import save_file

from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.vit import DenseViT
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import Bundle
from atas_deploy.export.bundle import export_bundle
from atas_deploy.export.to_onnx import image_to_onnx
from atas_deploy.export.towers import Towers, build_towers

torch.set_num_threads(1)

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 64,
            "patch_size": 16,
            "width": 32,
            "head_width": 16,
            "layers": 2,
            "no_ln_pre": True,
        },
        "text_cfg": {"context_length": 16, "vocab_size": 814, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ClipModel:
    """A model with float16 weights, norms and biases that are not trivial, and a record."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    (folder / "tokenizer").mkdir(parents=True)
    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[:301]
    (folder / "tokenizer/merges.txt.gz").write_bytes(gzip.compress("\n".join(merges).encode()))
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    (folder / "training.json").write_text(json.dumps({"license": "CC0-1.0", "images": 7}))
    (folder / "LICENSE-weights.txt").write_text("Free.")
    torch.manual_seed(0)
    state = build_model(CONFIG).state_dict()
    state = {name: (t + 0.1 * torch.randn_like(t)).half() for name, t in state.items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return load_model(folder)


@pytest.fixture(scope="session")
def towers(model: ClipModel) -> Towers:
    """The modules to export, read-out sclip."""
    return build_towers(model, "sclip")


@pytest.fixture(scope="session")
def bundle(model: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model's bundle; tests must not change it."""
    return export_bundle(model, tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def make_graph(
    family_config: Callable[[str], dict[str, Any]],
) -> Callable[[str, dict[str, Any]], ImageGraph]:
    """Make a seeded tower of a family, its norms and biases not the ones and zeros of a new one."""

    def make(family: str, settings: dict[str, Any]) -> ImageGraph:
        torch.manual_seed(0)
        model = build_model({"model_cfg": family_config(family)})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        tower = DenseViT(model.visual, **settings)
        return ImageGraph(tower, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)).eval()

    return make


SETTINGS: dict[str, dict[str, Any]] = {
    "sclip": {"readout": "sclip"},
    "naclip, finer": {"readout": "naclip", "stride": 6},
    "vanilla in windows": {"readout": "vanilla", "attention_window": 2},
}
LOWERED = {"native": "vanilla in windows", "eva": "naclip, finer", "siglip": "sclip"}
FloatGraph = tuple[ImageGraph, ir.Model]


@pytest.fixture(scope="session")
def trace(make_graph: Callable[..., ImageGraph]) -> Callable[[str, str], FloatGraph]:
    """Make a tower of a family with one of SETTINGS, and its float32 graph, once."""

    @cache
    def traced(family: str, setting: str) -> FloatGraph:
        graph = make_graph(family, SETTINGS[setting])
        return graph, image_to_onnx(graph)

    return traced


@pytest.fixture(scope="session")
def float_graphs(trace: Callable[[str, str], FloatGraph]) -> dict[str, FloatGraph]:
    """A tower of each family, read and cut up in another way, and its float32 graph."""
    return {family: trace(family, setting) for family, setting in LOWERED.items()}


@pytest.fixture(params=LOWERED)
def float_graph(request: pytest.FixtureRequest, float_graphs: dict[str, FloatGraph]) -> FloatGraph:
    """Each of them."""
    return float_graphs[request.param]
