"""A turn of our runtime and of the plain baseline, on the same small clip."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atas_deploy import Segmenter
from atas_deploy.bench import turn
from atas_deploy.bench.ours import Ours
from atas_deploy.bench.plain import Plain
from atas_deploy.bench.plan import Contender
from atas_deploy.bench.stopwatch import STAGES, Stopwatch
from atas_deploy.bench.turn import take_turn
from atas_deploy.bench.words import lvis
from atas_deploy.core.bundle import MANIFEST, WEIGHTS
from atas_deploy.core.errors import (
    BackendUnavailableError,
    CheckpointError,
    ConfigError,
    InputError,
)
from atas_deploy.media.video import VideoReader

Image = np.ndarray
ON_THE_CPU = [stage for stage in STAGES if stage != "transfer"]


@pytest.fixture(scope="module")
def ours(contender: Contender) -> Ours:
    """Our runtime, two frames at a time."""
    return Ours(contender)


@pytest.fixture(scope="module")
def plain(contender: Contender) -> Plain:
    """The baseline."""
    return Plain(contender.plain())


def test_a_turn_measures_every_stage_and_the_whole_way(
    ours: Ours, pan: Path, tmp_path: Path
) -> None:
    """Seven frames in batches of two: all are counted, three batches end, two steps lie between."""
    found = take_turn(ours, pan, frames=7, labels=tmp_path / "labels.npz")
    assert found["frames"] == 7
    assert found["run_s"] > 0
    assert len(found["steps"]) == 2
    assert sorted(found["stages"]) == sorted(ON_THE_CPU)
    counts = {stage: len(times) for stage, times in found["stages"].items()}
    assert counts == dict.fromkeys(ON_THE_CPU, 2 * 16) | {"decode": 2 * 7}
    assert min(min(times) for times in found["stages"].values()) >= 0
    assert found["size"] == (80, 112)
    assert found["input"] == (64, 96)
    assert found["peak_bytes"] >= found["resident_bytes"] > 0
    assert found["device_bytes"] is None


def test_kept_labels_are_those_of_the_segmenter(
    ours: Ours, contender: Contender, pan: Path, tmp_path: Path
) -> None:
    """Of frames 0, 1, 2 and 3, as four are spread over seven."""
    take_turn(ours, pan, frames=7, labels=tmp_path / "labels.npz")
    segmenter = Segmenter(classes=lvis(5), background="none", short_side=64, cache=False)
    with VideoReader(pan, max_frames=4) as reader:
        expected = [segmenter(frame.image).labels for frame in reader]
    found = np.load(tmp_path / "labels.npz")["labels"]
    assert np.array_equal(found, np.stack(expected))
    assert len(np.unique(found)) > 1


def test_the_baseline_labels_the_same_pixels(ours: Ours, plain: Plain, pan: Path) -> None:
    """Another engine and another way, but the same definition: all pixels but near-ties."""
    with VideoReader(pan, max_frames=1) as reader:
        image = next(iter(reader)).image
    (mine, tinted), (theirs, drawn) = (label(each, image) for each in (ours, plain))
    assert mine.dtype == theirs.dtype == np.uint8
    assert (mine == theirs).mean() > 0.999
    assert (tinted == drawn).mean() > 0.99


def label(runner: Any, image: Image) -> tuple[Image, Image]:
    """Labels and overlay of a picture."""
    return runner.label(image, runner.encode([image], Stopwatch())[0], Stopwatch())


def test_the_baseline_enlarges_and_compares_as_numpy_does(plain: Plain) -> None:
    """Labels from logits, against the formula written out in float64."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 5)).astype(np.float32)
    found = plain._label(torch.from_numpy(logits), (13, 22))
    maps = np.stack([enlarge(logits[..., q].astype(np.float64), (13, 22)) for q in range(5)])
    assert np.array_equal(found, maps.argmax(axis=0) + 1)


def enlarge(grid: Image, size: tuple[int, int]) -> Image:
    """Bilinear, half-pixel centres, clamped edges."""
    weights = []
    for nodes, pixels in zip(grid.shape, size, strict=True):
        place = np.clip((np.arange(pixels) + 0.5) * nodes / pixels - 0.5, 0, nodes - 1)
        weights.append(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(nodes))))
    return weights[0] @ grid @ weights[1].T


def test_a_turn_of_the_baseline_is_like_ours(plain: Plain, pan: Path) -> None:
    """It has the same stages, a frame at a time, and says what its words took."""
    found = take_turn(plain, pan, frames=5, labels=None)
    assert sorted(found["stages"]) == sorted(ON_THE_CPU)
    assert len(found["steps"]) == 4
    assert found["input"] == (64, 96)
    assert found["text_s"] > 0


def test_maps_that_do_not_fit_are_refused(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are made: the sentence says how large they are."""
    monkeypatch.setattr("atas_deploy.bench.plain.available", lambda: 5 * 10**7)
    image = np.zeros((3_000, 2_000, 3), np.uint8)
    with pytest.raises(BackendUnavailableError, match=r"take 0\.1 GB for the maps of 5 words"):
        label(plain, image)


def test_a_bundle_without_weights_is_refused(contender: Contender, tmp_path: Path) -> None:
    """Many are exported so; the sentence says it."""
    folder = tmp_path / "bare"
    shutil.copytree(contender.model, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][WEIGHTS]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="holds graphs only, no weights"):
        Plain(replace(contender.plain(), model=str(folder)))


def test_a_gpu_that_pytorch_has_not_is_refused(contender: Contender) -> None:
    """One sentence, before anything is loaded."""
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BackendUnavailableError, match="this PyTorch has no GPU"):
        Plain(replace(contender.plain(), device="cuda"))


def test_words_beyond_the_list_are_refused(contender: Contender) -> None:
    """LVIS has 1,203."""
    with pytest.raises(ConfigError, match="Got 2000 words; expected 2 to 1203"):
        Ours(replace(contender, words=2_000))


def test_a_video_that_breaks_is_an_error(ours: Ours, pan: Path, tmp_path: Path) -> None:
    """The job notes it and goes on; a measurement must not."""
    torn = tmp_path / "torn.mkv"
    torn.write_bytes(pan.read_bytes()[:-2_000])
    with pytest.raises(InputError, match=r"torn\.mkv"):
        ours.run(torn, tmp_path / "out", frames=7, tick=lambda: None)


def test_ticks_are_frames(ours: Ours, pan: Path, tmp_path: Path) -> None:
    """One behind each, no more than asked for, and the overlay is a whole video."""
    ticks: list[int] = []
    ours.run(pan, tmp_path / "out", frames=3, tick=lambda: ticks.append(1))
    assert len(ticks) == 3
    with VideoReader(tmp_path / "out" / "pan.overlay.mp4") as reader:
        assert len(list(reader)) == 3


def test_slow_contenders_go_through_the_stages_less_often(
    ours: Ours, pan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice three batches of two at least, and three frames, when the time is up at once."""
    monkeypatch.setattr(turn, "_SECONDS", 0.0)
    found = take_turn(ours, pan, frames=7, labels=None)
    counts = {stage: len(times) for stage, times in found["stages"].items()}
    assert (counts["encoder"], counts["masks"], counts["encode"]) == (12, 6, 32)
