"""The clip that is made."""

import sys
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.bench.clip import make_clip
from atas_deploy.media.video import VideoReader


def frames(path: Path) -> list[np.ndarray]:
    """All frames."""
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


@pytest.mark.parametrize("installed", [True, False], ids=["photo", "synthetic"])
def test_a_clip_has_structure_and_moves(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without scikit-learn; the size may be odd."""
    if not installed:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    what = make_clip(tmp_path / "clip.mp4", size=(91, 128), frames=6)
    found = frames(tmp_path / "clip.mp4")
    assert ("photo" in what) == installed
    assert len(found) == 6
    assert {frame.shape[1] for frame in found} == {128}
    assert np.mean([frame.std() for frame in found]) > 20
    first, last = (found[i].astype(float) for i in (0, -1))
    assert np.abs(first - last).mean() > 4


def test_a_clip_is_the_same_each_time(tmp_path: Path) -> None:
    """Two runs measure on the same pictures."""
    for name in ("a.mp4", "b.mp4"):
        make_clip(tmp_path / name, size=(64, 96), frames=3)
    assert np.array_equal(frames(tmp_path / "a.mp4"), frames(tmp_path / "b.mp4"))


def test_a_pan_comes_back_at_its_speed(tmp_path: Path) -> None:
    """After 60 frames it turns: 50 and 70 show the same place, as 10 and 130 would."""
    make_clip(tmp_path / "clip.mp4", size=(64, 96), frames=71)
    found = [frame.astype(float) for frame in frames(tmp_path / "clip.mp4")]
    same, other = (np.abs(found[50] - found[i]).mean() for i in (70, 20))
    assert same < 8
    assert other > 2 * same
