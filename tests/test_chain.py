"""The whole chain by its commands: train, export, segment."""

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from atas_deploy.cli.main import main


def run(*args: str | Path) -> str:
    """Invoke a command that must succeed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.output


def test_train_export_segment(tmp_path: Path) -> None:
    """A few contrastive steps from the embedded weights, exported with proof, label a picture."""
    photos, rng = tmp_path / "photos", np.random.default_rng(0)
    photos.mkdir()
    rows = ["image,caption"]
    for i in range(4):
        image = rng.integers(0, 256, (64, 80, 3), np.uint8)
        Image.fromarray(image).save(photos / f"{i}.png")
        rows.append(f'{i}.png,"a picture of noise, number {i}"')
    captions = tmp_path / "captions.csv"
    captions.write_text("\n".join(rows) + "\n")
    trained, bundle, out = tmp_path / "run", tmp_path / "bundle", tmp_path / "out"
    run(
        *("train", "--method", "contrastive", "--images", photos, "--captions", captions),
        *("--model", "atas-tiny", "--max-steps", "2", "--batch-size", "2", "--out", trained),
    )
    assert "onnxruntime" in run("export", "--model", trained, "--out", bundle)
    assert json.loads((bundle / "parity.json").read_text())["stages"]
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["license"] == "LicenseRef-atas-tiny-weights", "derived weights stay bound"
    assert (bundle / "LICENSE.txt").is_file()
    run(
        *("segment", photos / "0.png", "--classes", "sky,grass", "--model", bundle),
        *("--out", out, "--short-side", "64"),
    )
    with Image.open(out / "0.labels.png") as labels:
        assert labels.size == (80, 64)
        assert np.asarray(labels).max() <= 2
