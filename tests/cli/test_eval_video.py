"""`atas-deploy eval video` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main

FAST = ("--short-side", 64, "--replicates", 100, "--quiet", "--no-cache")
WORDS = ("--background", "road,wall")


def run(*args: object) -> Result:
    """Run the command at a small size."""
    return CliRunner().invoke(main, ["eval", "video", *map(str, (*args, *WORDS, *FAST))])


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of three frames with one object."""
    for name in ("bear", "cow"):
        for i in range(3):
            for kind in ("JPEGImages", "Annotations"):
                (tmp_path / kind / "480p" / name).mkdir(parents=True, exist_ok=True)
            image = np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)
            labels = np.zeros((48, 64), np.uint8)
            labels[10:30, 10 + i : 40 + i] = 255
            Image.fromarray(image).save(tmp_path / f"JPEGImages/480p/{name}/{i:05d}.jpg")
            Image.fromarray(labels).save(tmp_path / f"Annotations/480p/{name}/{i:05d}.png")
    (tmp_path / "words.json").write_text('{"bear": "bear", "cow": "cow|calf"}')
    return tmp_path


def test_davis_with_words(davis: Path) -> None:
    """J of each word, flicker, and a row for each sequence."""
    result = run("--davis", davis, "--words", davis / "words.json", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report["scores"]) == ["j", "flicker", "still"]
    assert [(row["class"], row["videos"]) for row in report["classes"]] == [
        ("bear", 1),
        ("cow|calf", 1),
    ]
    assert (report["unit"], report["units"]) == ("video", 2)
    assert report["facts"]["class_count"] == 2


def test_davis_with_classes(davis: Path) -> None:
    """Object 1 is the first class in every sequence."""
    report = json.loads(run("--davis", davis, "--classes", "animal,sky", "--json").stdout)
    assert [(row["class"], row["videos"]) for row in report["classes"]] == [("animal", 2)]


def test_video_files(clip: Callable[..., Path], tmp_path: Path) -> None:
    """Flicker without truth, with the settings of videos."""
    files = [clip(tmp_path / name, frames=4) for name in ("a.mp4", "b.mp4")]
    options = ("--classes", "sky,tree", "--every", 2, "--smooth", 0.5, "--max-frames", 3)
    result = run("--video", files[0], "--video", files[1], *options, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report["scores"]) == ["flicker", "still"]
    assert report["scores"]["still"]["value"] is not None
    assert (report["facts"]["every"], report["facts"]["smooth"]) == (2, 0.5)
    assert report["units"] == 2


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--classes", "sky,tree"), 2, "either --davis or --video"),
        (("--davis", ".", "--video", "x.mp4", "--classes", "a,b"), 2, "either --davis or --video"),
        (("--davis", "."), 2, "Got no words; give either --classes or"),
        (
            ("--davis", ".", "--words", "words.json", "--classes", "a"),
            2,
            "Got both --classes and --words",
        ),
        (("--video", "x.mp4", "--words", "words.json"), 2, "--words, which belongs to --davis;"),
        (("--video", "x.mp4", "--classes", "sky,tree"), 1, "x.mp4 does not exist"),
        (("--davis", "JPEGImages", "--classes", "sky,tree"), 1, "expected JPEGImages and"),
        (("--davis", ".", "--words", "none.json"), 1, "none.json cannot be read"),
        (("--davis", ".", "--words", "words.csv"), 1, "has no column sequence"),
    ],
)
def test_refusals_are_one_sentence(
    davis: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    code: int,
    sentence: str,
) -> None:
    """What cannot be used ends with 2, what cannot be read with 1; never a traceback."""
    monkeypatch.chdir(davis)
    Path("words.csv").write_text("object,words\n1,bear\n")
    result = run(*options)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (code, True)
    assert sentence in result.stderr
