"""`atas-deploy eval regions` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from atas_deploy.cli.main import main

SCORES = ("top1", "top5", "accuracy")
FAST = ("--short-side", "64", "--no-cache", "--replicates", "100")


@pytest.fixture
def folder(write_panoptic: Callable[..., Path], tmp_path: Path) -> Path:
    """Two pictures of a dog on grass."""
    ids = np.ones((64, 96), int)
    ids[10:50, 20:70] = 2
    segments = [(1, 1, False), (2, 0, False)]
    categories = [("dog", True), ("grass-merged", False), ("car", True)]
    write_panoptic(tmp_path, categories, {"a": (ids, segments), "b": (ids[::-1], segments)})
    return tmp_path


def run(folder: Path, *args: object) -> Result:
    """Run the command on a folder."""
    where = ("--images", folder / "images", "--panoptic", folder / "panoptic.json")
    return CliRunner().invoke(main, ["eval", "regions", *map(str, (*where, *FAST, *args))])


def read(result: Result) -> dict[str, Any]:
    """What the command printed as JSON."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_all_kinds_are_measured_and_written(folder: Path) -> None:
    """JSON on standard output is that of the folder."""
    result = run(folder, "--json", "--quiet", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    report = read(result)
    assert report == json.loads((folder / "run" / "report.json").read_text())
    kinds = ("boxes", "thing_masks", "stuff_masks", "crops", "both")
    assert list(report["scores"]) == [f"{kind}_{score}" for kind in kinds for score in SCORES]
    assert report["units"] == 2
    assert report["facts"]["crop_scale"] == 1.5
    assert [line["class"] for line in report["classes"]] == ["dog", "grass"]


def test_settings_reach_the_classifier(folder: Path) -> None:
    """They stand in the facts."""
    words = ("--classes", "dog|puppy,grass|lawn,car", "--templates", "simple")
    regions = ("--kinds", "both,crops", "--crop-weight", "0.75", "--crop-scale", "1.5")
    report = read(run(folder, "--json", "--quiet", "--max-images", 1, *words, *regions))
    facts = report["facts"]
    assert report["units"] == 1
    assert list(report["scores"]) == [
        f"{kind}_{score}" for kind in ("crops", "both") for score in SCORES
    ]
    assert (facts["crop_weight"], facts["crop_scale"]) == (0.75, 1.5)
    assert facts["templates"] == "simple"
    assert facts["short_side"] == 64


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--kinds", "boxes,circles"), "expected some of boxes"),
        (("--classes", "dog,cat"), "2 classes for the 3 categories"),
        (("--instances", "a.json"), "Got both --panoptic and --instances; give either"),
    ],
)
def test_wrong_usage_is_one_sentence(folder: Path, args: tuple[str, ...], message: str) -> None:
    """With exit code 2."""
    result = run(folder, *args)
    assert result.exit_code == 2
    assert message in result.stderr


def test_missing_pictures_are_left_out(folder: Path) -> None:
    """And counted; if none is there, the run ends with one sentence and no report."""
    (folder / "images" / "a.png").unlink()
    report = read(run(folder, "--kinds", "boxes", "--json", "--quiet", "--max-images", 1))
    assert (report["units"], report["facts"]["images_missing"]) == (1, 1)
    (folder / "images" / "b.png").unlink()
    result = run(folder, "--out", folder / "run", "--quiet")
    assert result.exit_code == 1
    assert f"panoptic.json is in {folder / 'images'}; give" in result.stderr
    assert not (folder / "run" / "report.json").exists()


def test_the_two_kinds_of_annotations_are_told_apart(folder: Path) -> None:
    """By the option that each belongs to."""
    known = {"image_id": 0, "category_id": 0, "bbox": [1, 1, 9, 9], "id": 1}
    content = json.loads((folder / "panoptic.json").read_text()) | {"annotations": [known]}
    (folder / "instances.json").write_text(json.dumps(content))
    sentences = {
        ("--instances", "panoptic.json"): "is a panoptic file: give it with --panoptic.",
        ("--panoptic", "instances.json"): "is no panoptic file",
    }
    for (option, name), sentence in sentences.items():
        where = ("--images", str(folder / "images"), option, str(folder / name))
        result = CliRunner().invoke(main, ["eval", "regions", *where, *FAST])
        assert (result.exit_code, sentence in result.stderr) == (1, True), result.output


def test_one_category_is_refused(folder: Path) -> None:
    """In the words of this task."""
    known = {"image_id": 0, "category_id": 0, "bbox": [1, 1, 9, 9], "id": 1}
    content = json.loads((folder / "panoptic.json").read_text()) | {"annotations": [known]}
    content["categories"] = content["categories"][:1]
    (folder / "one.json").write_text(json.dumps(content))
    where = ("--images", str(folder / "images"), "--instances", str(folder / "one.json"))
    result = CliRunner().invoke(main, ["eval", "regions", *where, *FAST])
    assert result.exit_code == 2
    assert "has 1 category, and a region can only be named" in result.stderr


def test_annotations_without_area_are_told(folder: Path) -> None:
    """They are left out and counted in the facts, as COCO has some; a line says so."""
    known = {"image_id": 1, "category_id": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 96}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 5, **known, "bbox": [20, 10, 50, 40]},
            {"id": 6, **known, "bbox": [20.5, 10.5, 1.03, 0.0]},
        ],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    where = ("--images", str(folder / "images"), "--instances", str(path), "--kinds", "boxes")
    result = CliRunner().invoke(main, ["eval", "regions", *where, *FAST, "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    facts = read(result)["facts"]
    assert facts["annotations_left_out"] == 1
    assert f"1 annotations left out, such as: {path}: annotation 6 has a box" in result.stderr
