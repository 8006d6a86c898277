"""The demo, as `make demo` runs it."""

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from atas_deploy.cli.main import main


def test_demo_cuts_the_photo_sensibly(tmp_path: Path) -> None:
    """Sky above, building in the middle, trees at the bottom right: the model sees, not guesses."""
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "china.labels.png") as image:
        labels = np.asarray(image)
    for (top, bottom, left, right), label in {
        (30, 150, 380, 560): 1,
        (150, 330, 110, 310): 2,
        (320, 400, 430, 560): 3,
    }.items():
        assert (labels[top:bottom, left:right] == label).mean() > 0.8
    assert json.loads((tmp_path / "run.json").read_text())["complete"] is True
    assert (tmp_path / "china-pan.overlay.mp4").stat().st_size > 50_000
