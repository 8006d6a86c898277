"""`atas-deploy eval segmentation` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main

FAST = ("--short-side", 64, "--replicates", 100, "--quiet", "--no-cache")


def run(*args: object) -> Result:
    """Run the command at a small size."""
    return CliRunner().invoke(main, ["eval", "segmentation", *map(str, (*args, *FAST))])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures of noise with labels 0, 1, 2 and 255."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for name in "ab":
        generator = np.random.default_rng(ord(name))
        image = generator.integers(0, 256, (48, 64, 3), np.uint8)
        labels = generator.choice(np.array([0, 1, 2, 255], np.uint8), (48, 64))
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
    return tmp_path


def folders(data: Path) -> tuple[object, ...]:
    """The options that name the folders."""
    return ("--images", data / "images", "--labels", data / "labels")


def test_report_of_folders(data: Path) -> None:
    """JSON has all scores, the classes, and what they depend on; a report goes to a folder."""
    out = data / "out"
    result = run(*folders(data), "--classes", "sky,tree|bush", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    scores = ["miou", "miou_in_truth", "macc", "aacc"]
    assert list(report["scores"]) == [*scores, *(f"present_{name}" for name in scores)]
    assert [row["class"] for row in report["classes"]] == ["sky", "tree"]
    assert report["facts"]["background"] == "none"
    assert report["facts"]["short_side"] == 64
    assert json.loads((out / "report.json").read_text()) == report


def test_background_of_the_list_counts(data: Path) -> None:
    """A list that brings one makes 0 a class."""
    result = run(*folders(data), "--classes", "@voc21", "--json")
    report = json.loads(result.stdout)
    assert report["classes"][0]["class"] == "background"
    assert report["facts"]["background"] == "voc21"
    assert len(report["classes"]) == 21


def test_words_of_ones_own_as_background(data: Path) -> None:
    """They make 0 a class, too, unless it is ignored."""
    words = ("--classes", "sky,tree", "--background", "road,wall")
    counted = json.loads(run(*folders(data), *words, "--json").stdout)
    ignored = (*words, "--ignore", 0, "--ignore", 255)
    left_out = json.loads(run(*folders(data), *ignored, "--json").stdout)
    assert [len(report["classes"]) for report in (counted, left_out)] == [3, 2]


def test_presets_keep_their_background(data: Path) -> None:
    """A row of a data set has its own; a list of none gets none."""
    light = ("--templates", "none", "--refine", "none", "--json")
    row = run(*folders(data), "--classes", "@voc21", "--preset", "sclip", *light)
    other = run(*folders(data), "--classes", "sky,tree", "--preset", "sclip", *light)
    facts = [json.loads(result.stdout)["facts"] for result in (row, other)]
    assert [fact["preset_row"] for fact in facts] == ["voc21", ""]
    assert [fact["background"] for fact in facts] == ["voc21:expanded", "none"]


def test_panoptic_file_brings_its_classes(
    write_panoptic: Callable[..., Path], tmp_path: Path
) -> None:
    """Its categories as words; Markdown shows them."""
    ids = np.ones((64, 64), int)
    ids[:30] = 2
    categories = [("dog", True), ("wall-other-merged", False)]
    pictures = {"a": (ids, [(1, 0, False), (2, 1, False)])}
    file = write_panoptic(tmp_path, categories, pictures)
    result = run("--images", tmp_path / "images", "--panoptic", file)
    assert result.exit_code == 0, result.output
    assert "| wall |" in result.stdout
    assert "| dog |" in result.stdout


def test_values_of_a_file_bring_classes(data: Path) -> None:
    """COCO's ids and Cityscapes' labelIds are sparse; the names of the file are the classes."""
    (data / "values.csv").write_text("value,class\n1,sky\n255,tree\n")
    values = ("--label-values", data / "values.csv", "--json")
    own = json.loads(run(*folders(data), *values).stdout)
    assert [row["class"] for row in own["classes"]] == ["sky", "tree"]
    listed = json.loads(run(*folders(data), *values, "--classes", "tree,road,sky").stdout)
    pixels = [{row["class"]: row["pixels"] for row in r["classes"]} for r in (own, listed)]
    assert pixels[1] == {**pixels[0], "road": 0}


def test_classes_in_no_truth_are_counted_below_the_table(data: Path) -> None:
    """Markdown shows the others, in their order."""
    result = run(*folders(data), "--classes", "sky,tree,road,sea")
    assert "\n| sky |" in result.stdout
    assert "\n| road |" not in result.stdout
    assert "in no truth, in the JSON report only: 2." in result.stdout


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--labels", "labels"), 2, "give --classes"),
        ((), 2, "Got no labels; give either --labels or --panoptic"),
        (
            ("--labels", "labels", "--panoptic", "p.json"),
            2,
            "Got both --labels and --panoptic; give",
        ),
        (
            ("--labels", "labels", "-c", "a,b", "--label-values", "x", "--ignore", 0),
            2,
            "Got --ignore",
        ),
        (("--panoptic", "p.json", "--label-values", "x"), 2, "--label-values belongs to --labels"),
        (("--panoptic", "p.json", "--first-label", 0), 2, "--first-label belongs to --labels"),
        (("--labels", "labels", "--pngs", "x", "-c", "a,b"), 2, "--pngs belongs to --panoptic"),
        (("--labels", "labels", "-c", "sky,tree", "--first-label", 2), 2, "not in the range"),
        (("--labels", "labels", "-c", "sky", "--background", "road"), 1, "has the value 2"),
        (("--labels", "nowhere", "-c", "sky,tree"), 1, "is no folder"),
        (("--panoptic", "labels/a.png"), 1, "a.png"),
    ],
)
def test_refusals_are_one_sentence(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    code: int,
    sentence: str,
) -> None:
    """What cannot be used ends with 2, what cannot be read with 1; never a traceback."""
    monkeypatch.chdir(data)
    result = run("--images", "images", *options)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (code, True)
    assert sentence in result.stderr
