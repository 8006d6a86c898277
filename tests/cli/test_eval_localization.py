"""`atas-deploy eval localization` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from atas_deploy.cli.main import main
from atas_deploy.evaluation import localization

WRITE = Callable[..., Path]


def run(write: WRITE, folder: Path, *args: object) -> Result:
    """Run the command on three pictures of a dog."""
    pictures = {}
    for name in "abc":
        ids = np.ones((64, 64), int)
        ids[10:50, 10:50] = ord(name)
        pictures[name] = ids, [(1, 1, False), (ord(name), 0, False)]
    file = write(folder, [("dog", True), ("grass", False)], pictures)
    where = ("--images", folder / "images", "--panoptic", file, "--short-side", 64)
    fast = ("--replicates", 100, "--quiet", "--json")
    return CliRunner().invoke(main, ["eval", "localization", *map(str, (*where, *fast, *args))])


def test_patches_are_asked(
    write_panoptic: WRITE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds of recall, by the settings given."""
    monkeypatch.setattr(localization, "CANDIDATES", 3)
    result = run(write_panoptic, tmp_path, "--patches", 2, "--seed", 5)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report["scores"]) == [
        f"patch_to_{kind}_R@{k}" for kind in ("image", "region") for k in (1, 5, 10)
    ]
    assert report["scores"]["patch_to_region_R@5"]["value"] == 1
    assert report["facts"]["patches_an_image"] == 2
    assert report["facts"]["drawn_with_seed"] == report["bootstrap"]["seed"] == 5


def test_three_pictures_are_too_few(write_panoptic: WRITE, tmp_path: Path) -> None:
    """One sentence says how many it takes."""
    result = run(write_panoptic, tmp_path)
    assert result.exit_code == 1
    assert "needs 50 of each" in result.stderr


def test_targets_are_another_model(
    write_panoptic: WRITE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own read-out; the facts name both, and the scale of the crops."""
    monkeypatch.setattr(localization, "CANDIDATES", 3)
    result = run(write_panoptic, tmp_path, "--targets", "atas-tiny", "--readout", "vanilla")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["facts"]
    assert (facts["targets"], facts["readout"]) == ("atas-tiny", "vanilla")
    assert facts["crop_scale"] == 1.5
    assert facts["patches_an_image"] is facts["drawn_with_seed"] is None
