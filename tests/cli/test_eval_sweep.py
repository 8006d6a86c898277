"""`atas-deploy eval sweep` as a user runs it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main


@pytest.fixture
def folder(write_panoptic: Callable[..., Path], tmp_path: Path) -> Path:
    """A picture of a dog beside a car."""
    ids = np.ones((64, 96), int)
    ids[:, 50:] = 2
    segments = [(1, 0, False), (2, 1, False)]
    write_panoptic(tmp_path, [("dog", True), ("car", True)], {"a": (ids, segments)})
    return tmp_path


def run(folder: Path, *args: object) -> Result:
    """Run the command on a folder."""
    where = ("--images", folder / "images", "--panoptic", folder / "panoptic.json")
    fast = ("--replicates", 100, "--quiet", "--no-cache")
    return CliRunner().invoke(main, ["eval", "sweep", *map(str, (*where, *fast, *args))])


def test_json_page_and_plot_are_written(folder: Path) -> None:
    """What is printed as JSON is in the folder."""
    out = folder / "out"
    result = run(folder, "--short-sides", "96,64", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads((out / "sweep.json").read_text())
    (curve,) = found["curves"]
    assert [point["short_side"] for point in curve["dense"]] == [64, 96]
    assert (out / "sweep.md").read_text().startswith("# Sweep\n")
    with Image.open(out / "sweep.png") as plot:
        assert plot.format == "PNG"
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {"sweep.json", "sweep.md", "sweep.png"}
    assert run(folder, "--out", out).exit_code == 2


def test_a_page_is_printed_without_out(folder: Path) -> None:
    """And nothing is written; a plot is not needed then."""
    before = sorted(folder.rglob("*"))
    result = run(folder, "--short-sides", "64")
    assert result.exit_code == 0, result.output
    assert "| atas-tiny | dense, 64 px |" in result.stdout
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("sizes", ["64,wide", "0", ","])
def test_what_is_no_size_is_refused(folder: Path, sizes: str) -> None:
    """With exit code 2."""
    result = run(folder, "--short-sides", sizes)
    assert result.exit_code == 2
    assert "write 224,448" in result.stderr


def test_a_missing_matplotlib_is_told_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(folder, "--out", folder / "out")
    assert result.exit_code == 1
    assert 'pip install "atas-deploy[plot]"' in result.stderr
