"""`atas-deploy segment --preset` and the options that belong to it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main
from atas_deploy.core.presets import PRESETS
from atas_deploy.runtime.segment import Segmenter

Photos = Callable[[Path, int], Path]


def segment(*args: object) -> Result:
    """Run `atas-deploy segment` without the settings that other tests give."""
    return CliRunner().invoke(main, ["segment", *map(str, args), "--no-cache"])


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_are_printed_and_recorded(preset: str, tmp_path: Path, photos: Photos) -> None:
    """One line before the run; run.json has what decides the masks."""
    out, expected = tmp_path / "out", PRESETS[preset]["context60"]
    given = ("--readout", "sclip", "--templates", "none", "--refine", "none")
    result = segment(
        photos(tmp_path / "in", 1), "-c", "@context60", "--preset", preset, *given, "-o", out
    )
    assert result.exit_code == 0, result.output
    (line,) = [row for row in result.output.splitlines() if row.startswith("preset ")]
    for part in (
        f"preset {preset} for @context60",
        f"short side {expected.short_side}",
        f"scale {expected.logit_scale:g}",
        f"threshold {expected.threshold:g}",
        f"windows of {expected.window} every {expected.stride} pixels merged as pixels",
        "templates none",
    ):
        assert part in line
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["preset"] == {"name": preset, "row": "context60"}
    assert settings["logit_scale"] == expected.logit_scale
    assert settings["windows"] == {
        "merge": "pixels",
        "side": expected.window,
        "stride": expected.stride,
    }


def test_masks_are_those_of_the_segmenter(tmp_path: Path, photos: Photos) -> None:
    """The options reach it, probabilities included."""
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    options = {"preset": "clearclip", "readout": "sclip", "templates": "none", "short_side": 96}
    options |= {"window": 64, "denoise": 0.01, "merge": "pixels"}
    flags = [text for name, value in options.items() for text in (_flag(name), value)]
    result = segment(folder, "-c", "sky,tree", *flags, "-o", out, "--save", "npz", "-q")
    assert (result.exit_code, result.output) == (0, "")
    own = Segmenter(classes="sky,tree", **options, probability=True)
    for path in sorted(folder.rglob("*.png")):
        place = out / path.relative_to(folder)
        expected = own(path)
        with Image.open(place.with_suffix(".labels.png")) as labels:
            np.testing.assert_array_equal(np.asarray(labels), expected.labels)
        with np.load(place.with_suffix(".npz")) as saved:
            np.testing.assert_allclose(saved["probability"], expected.probability, atol=2e-3)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_no_class_is_remarked(tmp_path: Path, photos: Photos) -> None:
    """Where denoising leaves none, in one line at the end; not without denoising, nor quietly."""
    folder = photos(tmp_path / "in", 2)
    words = ("-c", "sky,tree", "--background", "none", "--templates", "none", "--short-side", 64)
    line = "no class in 2 pictures; a --denoise below 1 keeps more classes"
    denoised = segment(folder, *words, "-o", tmp_path / "a", "--denoise", 1)
    assert line in denoised.stderr.splitlines()
    quiet = segment(folder, *words, "-o", tmp_path / "b", "--denoise", 1, "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")
    certain = segment(folder, *words, "-o", tmp_path / "c", "--denoise", 0.01)
    assert "no class" not in certain.output


def test_presets_of_encoders_are_another_option(tmp_path: Path, photos: Photos) -> None:
    """A speed of the video encoder is no preset, and is told which there are."""
    result = segment(photos(tmp_path / "in", 1), "-c", "sky,tree", "--preset", "veryfast")
    assert result.exit_code == 2
    assert "'naclip'" in result.output
