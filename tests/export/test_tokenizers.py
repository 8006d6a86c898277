"""Bundles of models whose text tower reads whole rows, with their own tokenizer or CLIP's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.clip.model import ClipModel, build_model, with_preprocessing
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import HF_SETTINGS, HF_TOKENIZER, MANIFEST, TEXT_ENCODER, Bundle
from atas_deploy.core.errors import BundleError
from atas_deploy.export.bundle import export_bundle
from atas_deploy.runtime.text import TextFeatures

SIGLIP_TEXT = {
    "context_length": 12,
    "vocab_size": 300,
    "width": 32,
    "heads": 2,
    "layers": 2,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
    "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2",
    "tokenizer_kwargs": {"clean": "canonicalize"},
}


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory,
    family_config: Callable[[str], dict[str, Any]],
    write_tokenizer: dict[str, Callable[[Path], Path]],
) -> ClipModel:
    """A narrow SigLIP 2 with a tokenizer.json."""
    config = with_preprocessing({"model_cfg": family_config("siglip") | {"text_cfg": SIGLIP_TEXT}})
    torch.manual_seed(0)
    return ClipModel(
        model=build_model(config),
        config=config,
        name="siglip",
        tokenizer_file=write_tokenizer["gemma"](tmp_path_factory.mktemp("words")),
    )


@pytest.fixture(scope="module")
def bundle(model: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle; tests must not change it."""
    return export_bundle(model, tmp_path_factory.mktemp("bundles") / "siglip", readout="vanilla")


def test_bundle_holds_the_tokenizer(bundle: Bundle) -> None:
    """tokenizer.json and its settings go along, and the manifest says that rows are full."""
    bundle.verify()
    assert {HF_TOKENIZER, HF_SETTINGS} < set(bundle.manifest.files)
    assert bundle.manifest.full_rows
    assert bundle.manifest.logit_bias == -10
    expected = [[261, 267, 1] + [0] * 9]
    assert bundle.tokenizer()(["A dog!"]).tolist() == expected


def test_graph_has_rows_of_fixed_length(bundle: Bundle) -> None:
    """A shorter row would give other features, so the graph does not take any."""
    tokens = onnx.load(bundle.path / TEXT_ENCODER).graph.input[0].type.tensor_type.shape.dim
    assert tokens[0].dim_param == "texts"
    assert tokens[1].dim_value == 12


def test_text_features_equal_open_clip(bundle: Bundle, model: ClipModel) -> None:
    """Words of different length go through the runtime as open_clip encodes them."""
    words = ["dog", "a good dog", "dogs and more dogs and dogs"]
    features = TextFeatures(OrtBackend(bundle), bundle.tokenizer(), templates=["{}"])(words)
    tokens = torch.from_numpy(model.tokenizer()(words))
    with torch.inference_mode():
        expected = model.model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)


def test_bundle_is_a_source_of_weights(bundle: Bundle, model: ClipModel) -> None:
    """The bundle loads as a model again, with the same words and weights."""
    loaded = load_model(bundle.path)
    assert loaded.tokenizer()(["dogs"]).tolist() == model.tokenizer()(["dogs"]).tolist()
    assert torch.equal(loaded.model.logit_scale, model.model.logit_scale)
    assert "text.token_embedding.weight" in load_file(bundle.path / "weights.safetensors")


def test_fingerprint_follows_the_tokenizer(bundle: Bundle, tmp_path: Path) -> None:
    """Other settings are another identity, for the caches of text features."""
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["files"][HF_SETTINGS]["sha256"] = "0" * 64
    for file in bundle.path.rglob("*"):
        target = tmp_path / file.relative_to(bundle.path)
        if file.is_dir():
            target.mkdir()
        else:
            target.write_bytes(file.read_bytes())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert Bundle.open(tmp_path).fingerprint != bundle.fingerprint
    (tmp_path / HF_SETTINGS).unlink()
    with pytest.raises(BundleError, match=HF_SETTINGS):
        Bundle.open(tmp_path)


def test_clip_words_in_full_rows(model: ClipModel, tmp_path: Path) -> None:
    """A tower that is not causal gets full rows from CLIP's tokenizer too."""
    text = SIGLIP_TEXT | {"vocab_size": 514, "hf_tokenizer_name": None, "tokenizer_kwargs": None}
    config = {**model.config, "model_cfg": model.config["model_cfg"] | {"text_cfg": text}}
    (tmp_path / "merges.txt").write_text("header")
    native = ClipModel(
        model=build_model(config),
        config=config,
        name="words",
        tokenizer_file=tmp_path / "merges.txt",
    )
    assert TextEncoder(native.model).full_rows
    rows = native.tokenizer()(["dog"])
    assert rows.shape == (1, 12)
    assert list(native.tokenizer().lengths(rows)) == [12]
