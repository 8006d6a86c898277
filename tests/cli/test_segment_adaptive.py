"""`atas-deploy segment --adaptive`: what is encoded, what moves along, what is held."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result

from atas_deploy.media.video import VideoReader, VideoWriter

Segment = Callable[..., Result]
Lines = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of a view, six of a pan over it, two of another scene; 96 x 128."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (2, 6, 12, 3), np.uint8)
    view, other = (cv2.resize(each, (240, 120), interpolation=cv2.INTER_CUBIC) for each in noise)
    frames = [view] * 4 + [view[:, 2 * i :] for i in range(1, 7)] + [other] * 2
    with VideoWriter(path, size=(96, 128), rate=Fraction(10), crf=10) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[:96, :128]))
    return path


def test_frames_say_what_became_of_them(
    tmp_path: Path, video: Path, segment: Segment, lines: Lines
) -> None:
    """Held frames have no masks of their own, carried ones do; the summary counts the encoded."""
    out = tmp_path / "out"
    result = segment(video, "--out", out, "--adaptive", "0.5", "--save-masks", "png")
    assert result.exit_code == 0, result.output
    assert "; 2 of 12 frames encoded" in result.output
    *frames, closing = lines(out)
    assert closing["frames"] == 12
    assert [row["frame"] for row in frames if "held" in row] == [1, 2, 3, 11]
    assert [row["frame"] for row in frames if "carried" in row] == [4, 5, 6, 7, 8, 9]
    assert [row["frame"] for row in frames if "labels" in row] == [0, 4, 5, 6, 7, 8, 9, 10]
    with VideoReader(out / "clip.overlay.mp4") as reader:
        assert len(list(reader)) == 12


def test_settings_and_counts_are_recorded(tmp_path: Path, video: Path, segment: Segment) -> None:
    """Without a number the level is 0.1; a run goes on with its own level only."""
    out = tmp_path / "out"
    result = segment(video, "--adaptive", "--json", "--no-overlay", "--out", out)
    assert result.exit_code == 0, result.output
    summary, record = json.loads(result.stdout), json.loads((out / "run.json").read_text())
    assert record["settings"]["adaptive"] == 0.1
    assert summary["frames"] == record["counts"]["frames"] == 12
    assert 2 <= summary["encoded"] == record["counts"]["encoded"] < 8
    again = segment(video, "--no-overlay", "--out", out, "--resume", "--adaptive")
    assert again.exit_code == 0, again.output
    assert json.loads((out / "run.json").read_text())["counts"]["encoded"] == summary["encoded"]
    other = segment(video, "--no-overlay", "--out", out, "--resume", "--adaptive", "0.2")
    assert other.exit_code == 2
    assert "another adaptive (0.1 there, 0.2 now)" in other.output


def test_a_full_run_says_nothing_of_it(
    tmp_path: Path, video: Path, segment: Segment, lines: Lines
) -> None:
    """Every frame is encoded, and its line is as ever."""
    result = segment(video, "--out", tmp_path / "out", "--no-overlay")
    assert "encoded" not in result.output
    assert not any({"held", "carried"} & set(row) for row in lines(tmp_path / "out"))


@pytest.mark.parametrize("level", ["clip.mp4", "1", "nan"])
def test_what_is_no_level(video: Path, segment: Segment, level: str) -> None:
    """An input behind the option is taken for its number: the error says what to do."""
    result = segment(video, "--adaptive", level)
    assert result.exit_code == 2
    assert "name the inputs before --adaptive" in result.output
