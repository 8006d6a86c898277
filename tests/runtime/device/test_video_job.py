"""A video of a job, segmented on the GPU: its overlay comes from there."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.cli.progress import Lines, Silent
from atas_deploy.media.formats.items import read_label_png
from atas_deploy.media.overlay import blend
from atas_deploy.media.sources import find_sources
from atas_deploy.media.video import VideoReader, VideoWriter, reader
from atas_deploy.runtime import outputs
from atas_deploy.runtime.job import SegmentJob
from atas_deploy.runtime.options import JobOptions

Make = Callable[..., Segmenter]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Seven frames of coarse noise."""
    path = tmp_path / "clip.mp4"
    rng = np.random.default_rng(0)
    with VideoWriter(path, size=(32, 48), rate=Fraction(10)) as writer:
        for _ in range(7):
            small = rng.integers(0, 256, (4, 6, 3), np.uint8)
            writer.write(small.repeat(8, axis=0).repeat(8, axis=1))
    return path


def run(segmenter: Segmenter, clip: Path, **options: Any) -> Path:
    """Segment it."""
    out = clip.parent / "out"
    job = SegmentJob(segmenter, out, progress=Silent(), options=JobOptions(masks="png", **options))
    assert job.run(find_sources([str(clip)])).failed == 0
    return out


def test_the_host_neither_converts_nor_blends(
    make: Make, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks are the stream's, and the overlay shows them."""
    segmenter, done = make(), []
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "blend", lambda *_, **__: done.append(1))
        patch.setattr(reader, "ToRgb", lambda *_, **__: lambda _: done.append(1))
        out = run(segmenter, clip, opacity=0.5)
    assert not done
    palette = outputs.OutputFolder(
        out, classes=segmenter.vocabulary.classes, options=JobOptions()
    ).palette
    with VideoReader(clip, planes=True) as frames:
        given = list(frames)
    with VideoReader(out / "clip.overlay.mp4") as overlays:
        shown = [frame.image for frame in overlays]
    for index, (result, _) in enumerate(segmenter.tinted_stream(given, tint=None)):
        labels = read_label_png(out / "clip.masks" / f"{index:06d}.png")
        np.testing.assert_array_equal(labels, result.labels)
        wanted = blend(given[index].image, labels, palette, opacity=0.5)
        assert np.abs(shown[index].astype(int) - wanted).mean() < 12  # the encoder's losses


def test_held_frames_are_blended_on_the_host(
    make: Make, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the labels that hold."""
    blended: list[Any] = []

    def note(image: np.ndarray, labels: np.ndarray, *rest: Any, **more: Any) -> np.ndarray:
        blended.append(labels)
        return blend(image, labels, *rest, **more)

    monkeypatch.setattr(outputs, "blend", note)
    out = run(make(), clip, every=3)
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows if row.get("held")] == [1, 2, 4, 5]
    assert len(blended) == 4
    labels = read_label_png(out / "clip.masks" / "000003.png")
    np.testing.assert_array_equal(blended[2], labels)


def test_pictures_beside_their_overlays(make: Make, clip: Path) -> None:
    """They are converted on the host, which shows them."""
    out = run(make(), clip, view="side")
    with VideoReader(clip) as frames, VideoReader(out / "clip.overlay.mp4") as overlays:
        for frame, shown in zip(frames, overlays, strict=True):
            left = shown.image[:, : frame.image.shape[1]]
            assert np.abs(left.astype(int) - frame.image).mean() < 12  # the encoder's losses


def test_a_run_tells_what_slowed_the_gpu_down(
    make: Make, clip: Path, gpu: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames without CUDA graphs: one line, once."""
    gpu.refuse_capture = True
    job = SegmentJob(make(), clip.parent / "out", progress=Lines(), options=JobOptions())
    assert job.run(find_sources([str(clip)])).failed == 0
    said = capsys.readouterr().err.splitlines()
    assert sum("CUDA graphs of whole frames are not used" in line for line in said) == 1
