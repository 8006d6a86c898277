"""`atas-deploy export --trt` as a user types it, with TensorRT-RTX and no GPU."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from atas_deploy.backends.trt import machine
from atas_deploy.backends.trt.builder import check_provable
from atas_deploy.backends.trt.engines import list_engines
from atas_deploy.cli.main import main
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.proof import read_reference

pytest.importorskip("tensorrt_rtx")


def test_export_builds_an_engine_that_can_be_proved(
    model: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp16, for the cards of the flavour, not proven, with features of every profile's sizes."""
    monkeypatch.setattr(machine, "find_card", lambda: None)
    shapes = "1x32x48:1x32x48:2x48x48"
    arguments = ["export", "--trt", "--model", str(model.folder), "--out", str(tmp_path / "b")]
    result = CliRunner().invoke(main, [*arguments, "--profile", shapes])
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.precision == "fp16"
    assert not any(name.startswith("engines") for name in bundle.manifest.files)
    bundle.verify()
    (record,) = list_engines(bundle)
    assert not record.proven
    assert {"8.6", "8.9", "12.0"} <= set(record.key.targets)
    check_provable(bundle, record.key.profiles)
    assert (1, 32, 48, 3) in {images.shape for images in read_reference(bundle).images}
    *_, plan, cards, proof = result.output.splitlines()
    assert plan.startswith(f"{tmp_path}/b/engines/tensorrt-rtx-fp16-")
    assert cards == f"For {record.key.cards}; sizes {shapes}."
    assert "it has not been run" in proof
    content = json.loads((tmp_path / "b/engines" / f"{record.name}.json").read_text())
    assert content["proven"] is False
