"""`atas-deploy eval retrieval` as a user runs it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main
from atas_deploy.runtime.embed import FITS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, and captions as Karpathy's files have them."""
    (tmp_path / "images").mkdir()
    images = []
    for name, split in (("red", "test"), ("green", "test"), ("blue", "val")):
        Image.new("RGB", (40, 30), name).save(tmp_path / "images" / f"{name}.png")
        sentences = [{"raw": f"a {name} wall"}, {"raw": f"all is {name}"}]
        images.append({"filename": f"{name}.png", "split": split, "sentences": sentences})
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    return tmp_path


def run(folder: Path, *args: object) -> Result:
    """Run the command on a folder."""
    where = ("--images", folder / "images", "--captions", folder / "dataset.json")
    fast = ("--replicates", "100", "--quiet", "--json")
    return CliRunner().invoke(main, ["eval", "retrieval", *map(str, (*where, *fast, *args))])


def test_a_split_is_measured(folder: Path) -> None:
    """Two pictures with two captions each."""
    result = run(folder, "--split", "test", "--fit", "longest")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["units"] == 2
    assert report["facts"]["captions_in_all"] == 4
    assert report["facts"]["fit"] == "longest"
    assert list(report["scores"]) == ["text_to_image_R@1", "image_to_text_R@1"]


def test_every_way_to_fit_can_be_chosen(folder: Path) -> None:
    """Those of the runtime, and no other."""
    assert f"[{'|'.join(FITS)}]" in CliRunner().invoke(main, ["eval", "retrieval", "--help"]).output
    assert run(folder, "--fit", "stretch").exit_code == 2


def test_captions_and_prompts_can_be_chosen(folder: Path) -> None:
    """They stand in the facts."""
    few = ("--captions-per-image", 1, "--templates", "a photo of {}")
    facts = json.loads(run(folder, "--split", "test", *few).stdout)["facts"]
    assert facts["captions_in_all"] == 2
    assert facts["prompts"] == ["a photo of {}"]


def test_the_splits_are_named(folder: Path) -> None:
    """None is taken for granted."""
    result = run(folder)
    assert result.exit_code == 1
    assert "has the splits test, val and no split was chosen" in result.stderr
