"""`atas-deploy eval coherence` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from atas_deploy.cli.main import main


@pytest.fixture
def data(write_panoptic: Callable[..., Path], tmp_path: Path) -> Path:
    """The panoptic file of three pictures of small pieces of dog and grass in two colours."""
    ids = np.kron(np.random.default_rng(0).integers(1, 3, (6, 6)), np.ones((11, 11), int))
    pictures = {name: (ids, [(1, 0, False), (2, 1, False)]) for name in "abc"}
    return write_panoptic(tmp_path, [("dog", True), ("grass", False)], pictures)


def run(file: Path, *args: object) -> Result:
    """Run the command at a small size."""
    where = ("--images", file.parent / "images", "--panoptic", file, "--short-side", 64)
    fast = ("--replicates", 100, "--quiet")
    return CliRunner().invoke(main, ["eval", "coherence", *map(str, (*where, *fast, *args))])


def test_report(data: Path) -> None:
    """Areas with intervals, and the settings given."""
    result = run(data, "--group", 2, "--patches", 4, "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report["scores"]) == ["auc", "image_auc", "across_auc"]
    assert 0 < report["scores"]["auc"]["value"] < 1
    facts = report["facts"]
    assert (facts["group"], facts["patches_an_image"], facts["drawn_with_seed"]) == (1, 4, 3)


def test_windows_merge_features(data: Path) -> None:
    """They change the features, and the facts tell."""
    plain, windows = (
        json.loads(run(data, *options, "--json").stdout)
        for options in ((), ("--window", 32, "--stride", 16))
    )
    assert plain["facts"]["windows"] is None
    assert windows["facts"]["windows"]["merge"] == "features"
    assert plain["scores"]["auc"] != windows["scores"]["auc"]


def test_page_shows_areas_as_such(data: Path) -> None:
    """Not in percent; one picture has no interval."""
    result = run(data, "--max-images", 1)
    assert "| auc | 0." in result.stdout
    assert "| across_auc | - | - |" in result.stdout


def test_pictures_without_labels_are_nothing_to_measure(
    write_panoptic: Callable[..., Path], tmp_path: Path
) -> None:
    """One sentence, and exit code 1."""
    pictures = {"a": (np.zeros((64, 64), int), [])}
    file = write_panoptic(tmp_path / "void", [("dog", True)], pictures)
    result = run(file)
    assert result.exit_code == 1
    assert "nothing to measure" in result.stderr
