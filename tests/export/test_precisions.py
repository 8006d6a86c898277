"""Bundles of fp16 and bf16: proved after every conversion, refused where float16 ends."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import load

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.core.bundle import REFERENCE, Bundle
from atas_deploy.core.comparison import LIMITS
from atas_deploy.core.errors import ConfigError, ParityError
from atas_deploy.core.proof import prove_backend, read_reference
from atas_deploy.export.bundle import export_bundle

SIZES = [(2, 48, 80)]
STAGES = {
    "fp16": ["modules against", "float32 graphs", "image graph as written", "files as written"],
    "bf16": ["modules against", "float32 graphs", "image graph as written"],
}


@pytest.fixture(scope="module", params=STAGES)
def low(
    request: pytest.FixtureRequest, model: ClipModel, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The model's bundle in a low precision."""
    folder = tmp_path_factory.mktemp("low") / "bundle"
    return export_bundle(model, folder, precision=request.param, reference_sizes=SIZES)


def test_every_conversion_is_a_stage(low: Bundle) -> None:
    """In their order, with the limits of the precision for images and of float32 for texts."""
    stages = json.loads((low.path / "parity.json").read_text())["stages"]
    precision = low.manifest.precision
    for stage, name in zip(stages, STAGES[precision], strict=True):
        assert stage["stage"].startswith(name)
    assert stages[1]["limits"]["dense"]["cosine_min"] == LIMITS["fp32"].cosine_min
    assert stages[2]["limits"]["dense"]["cosine_min"] == LIMITS[precision].cosine_min
    assert set(stages[2]["worst"]) == {"dense", "image"}
    assert stages[2]["worst"]["dense"]["max_abs"] > stages[1]["worst"]["dense"]["max_abs"]
    assert ("range" in stages[2]) == (precision == "fp16")


def test_manifest_and_graph_agree(low: Bundle, bundle: Bundle) -> None:
    """Precision, operator set and storage; the text encoder is that of the float32 bundle."""
    low.verify()
    manifest, precision = low.manifest, low.manifest.precision
    assert manifest.opset == {"fp16": 20, "bf16": 22}[precision]
    assert load(low.path / "image_encoder.onnx").opset_import[0].version == manifest.opset
    assert precision in manifest.weight_storage.split("+")
    assert low.text_fingerprint == bundle.text_fingerprint
    assert low.fingerprint != bundle.fingerprint


def test_reference_is_float32_pytorch(low: Bundle, bundle: Bundle) -> None:
    """The same features as in the float32 bundle but for their storage as float16."""
    got, expected = read_reference(low), read_reference(bundle)
    assert len(got.dense) == len(expected.dense) + len(SIZES)
    for mine, theirs in zip(got.dense, expected.dense, strict=False):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2.0**-11)
    with np.load(low.path / REFERENCE) as half, np.load(bundle.path / REFERENCE) as full:
        assert (half["dense_0"].dtype, full["dense_0"].dtype) == (np.float16, np.float32)


@pytest.mark.parametrize("low", ["fp16"], indirect=True)
def test_a_backend_is_proved_by_what_was_written(low: Bundle) -> None:
    """The written bundle passes its own reference, with the sizes that were asked for."""
    found = prove_backend(OrtBackend(low), read_reference(low), limits=LIMITS["fp16"])
    assert {(*size, 3) for size in SIZES} <= {comparison.shape for comparison in found}


def overflowing(model: ClipModel) -> ClipModel:
    """A model that is sound in float32, but whose hidden values pass what float16 holds."""
    built = build_model(model.config)
    built.load_state_dict(model.model.state_dict())
    block = built.visual.transformer.resblocks[0].mlp
    with torch.no_grad():
        block.c_fc.bias.fill_(3e4)
        block.c_proj.weight.mul_(1e-5)
    return replace(model, model=built)


def test_a_model_that_overflows_leaves_nothing(model: ClipModel, tmp_path: Path) -> None:
    """Refused in fp16 with the cure."""
    hot = overflowing(model)
    with pytest.raises(ParityError, match=r"not fit for fp16.*--precision bf16"):
        export_bundle(hot, tmp_path / "a", precision="fp16")
    assert not list(tmp_path.iterdir())


def test_other_precisions_are_refused(model: ClipModel, tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(ConfigError, match="'int8'; expected fp32, fp16, bf16"):
        export_bundle(model, tmp_path / "a", precision="int8")
    assert not list(tmp_path.iterdir())
