"""The wheel: what is in it, and that it runs the main job without torch."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from an sdist built from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_contents(wheel: Path) -> None:
    """One top-level package that holds training, export, the bundle and its licences."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"atas_deploy"}
    for name in (
        "training/contrastive.py",
        "export/to_onnx.py",
        "backends/kernels/masks.cu",
        "bundles/atas-tiny/manifest.json",
        "bundles/atas-tiny/MODEL_CARD.md",
        "runtime/visual/page.css",
        "runtime/visual/page.html",
        "runtime/visual/page.js",
        "py.typed",
    ):
        assert f"atas_deploy/{name}" in names
    assert "License-Expression: Apache-2.0 AND MIT AND LicenseRef-atas-tiny-weights" in text
    assert any(name.endswith("LicenseRef-atas-tiny-weights.txt") for name in names)


def test_main_job_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """`pip install atas_deploy.whl[cpu]` is enough to segment a picture."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    subprocess.run([*install, f"{wheel}[cpu]"], check=True)
    without_torch = "import importlib.util as u; assert not u.find_spec('torch')"
    subprocess.run([python, "-c", without_torch], check=True)
    Image.fromarray(np.full((90, 120, 3), 127, np.uint8)).save(tmp_path / "grey.png")
    command = [python.with_name("atas-deploy"), "segment", "grey.png", "--classes", "sky,tree"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "atas-out" / "grey.labels.png").is_file()
