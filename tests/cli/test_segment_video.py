"""`atas-deploy segment` on videos: overlays, masks, held frames, spans, broken input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from pycocotools import mask as rle

from atas_deploy.backends.trt.cards import find_card

Segment = Callable[..., Result]
Clip = Callable[..., Path]
Lines = Callable[[Path], list[dict[str, Any]]]


def times(path: Path) -> list[float]:
    """The time stamps of a video in seconds."""
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def test_video(tmp_path: Path, segment: Segment, clip: Clip, lines: Lines) -> None:
    """One H.264 overlay of equal length, a line for every frame and one at the end."""
    out = tmp_path / "out"
    result = segment(clip(tmp_path / "clip.mp4"), "--out", out, "--batch-size", "2")
    assert result.exit_code == 0, result.output
    with av.open(str(out / "clip.overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    *frames, closing = lines(out)
    assert [line["frame"] for line in frames] == [0, 1, 2, 3, 4]
    assert [line["time"] for line in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert times(out / "clip.overlay.mp4") == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert closing == {
        "source": str(tmp_path / "clip.mp4"),
        "kind": "video",
        "frames": 5,
        "complete": True,
        "overlay": "clip.overlay.mp4",
    }


def test_held_frames(tmp_path: Path, segment: Segment, clip: Clip, lines: Lines) -> None:
    """With --every 3 the masks of frames 0, 3, 6 hold; all frames stay, held ones say so."""
    out = tmp_path / "out"
    options = ["--every", "3", "--save-masks", "png"]
    assert segment(clip(tmp_path / "clip.mp4", 8), "--out", out, *options).exit_code == 0
    *frames, closing = lines(out)
    assert [row["frame"] for row in frames if "held" not in row] == [0, 3, 6]
    assert [row["classes"] for row in frames[:3]] == [frames[0]["classes"]] * 3
    assert (closing["frames"], len(times(out / "clip.overlay.mp4"))) == (8, 8)
    written = sorted(path.name for path in (out / "clip.masks").iterdir())
    assert written == ["000000.png", "000003.png", "000006.png"]
    assert [row.get("labels") for row in frames[:2]] == ["clip.masks/000000.png", None]


def test_saved_masks_agree(tmp_path: Path, segment: Segment, clip: Clip, lines: Lines) -> None:
    """Label maps and RLE hold the same masks, and the lines tell their areas."""
    video = clip(tmp_path / "clip.mp4", 3)
    for kind in ("png", "rle"):
        options = ["--save-masks", kind, "--no-overlay", "--background", "none"]
        assert segment(video, "--out", tmp_path / kind, *options).exit_code == 0
    codes = lines(tmp_path / "rle" / "clip.masks.jsonl")
    rows = [row for row in lines(tmp_path / "png") if row["kind"] == "frame"]
    assert not list((tmp_path / "png").rglob("*.mp4"))
    for row, code in zip(rows, codes, strict=True):
        with Image.open(tmp_path / "png" / row["labels"]) as image:
            labels = np.asarray(image)
        assert labels.shape == (row["height"], row["width"])
        for entry in row["classes"]:
            mask = labels == entry["id"]
            np.testing.assert_array_equal(rle.decode(code["rle"][str(entry["id"])]), mask)
            assert entry["area"] == pytest.approx(mask.mean(), abs=1e-6)


def test_span(tmp_path: Path, segment: Segment, clip: Clip, lines: Lines) -> None:
    """--start and --end choose frames by time, --max-frames by number."""
    video = clip(tmp_path / "clip.mp4", 30)
    assert segment(video, "--out", tmp_path / "a", "--start", "1", "--end", "0:02").exit_code == 0
    found = [row["time"] for row in lines(tmp_path / "a") if row["kind"] == "frame"]
    assert found == pytest.approx([1 + i / 10 for i in range(10)])
    assert segment(video, "--out", tmp_path / "b", "--max-frames", "2").exit_code == 0
    assert lines(tmp_path / "b")[-1]["frames"] == 2
    late = segment(video, "--out", tmp_path / "c", "--start", "1:00")
    assert late.exit_code == 1
    assert "Traceback" not in late.output


def test_side_by_side(tmp_path: Path, segment: Segment, clip: Clip) -> None:
    """The picture on the left, its overlay on the right."""
    out = tmp_path / "out"
    assert segment(clip(tmp_path / "clip.mp4"), "--out", out, "--view", "side").exit_code == 0
    with av.open(str(out / "clip.overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width > 128) == (48, True)


def test_a_broken_video_is_kept_so_far(
    tmp_path: Path, segment: Segment, clip: Clip, lines: Lines
) -> None:
    """Cut off in the middle: the frames before stay, complete is false, exit code 1."""
    video, out = clip(tmp_path / "clip.mp4", 60), tmp_path / "out"
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    result = segment(video, "--out", out, "--save-masks", "png")
    assert result.exit_code == 1
    *frames, closing = lines(out)
    assert closing["complete"] is False
    assert f"(the {len(frames)} frames before it are kept)" in closing["error"]
    assert 0 < len(frames) == len(times(out / "clip.overlay.mp4"))
    assert len(list((out / "clip.masks").iterdir())) == len(frames)


def test_order_of_the_inputs(
    tmp_path: Path, segment: Segment, clip: Clip, photos: Callable[[Path, int], Path], lines: Lines
) -> None:
    """Images and videos have their turns as they were named."""
    folder = photos(tmp_path / "in", 3)
    inputs = [folder / "001.png", clip(folder / "clip.mp4"), folder / "002.png"]
    assert segment(*inputs, "--out", tmp_path / "out").exit_code == 0
    kinds = [row["kind"] for row in lines(tmp_path / "out")]
    assert kinds == ["image", *["frame"] * 5, "video", "image"]


def test_a_gpu_that_should_decode_is_missing(tmp_path: Path, segment: Segment, clip: Clip) -> None:
    """One sentence with the option that helps; nothing is decoded on the CPU instead."""
    if find_card(0) is not None:
        pytest.skip("there is a GPU here")
    video = clip(tmp_path / "clip.mp4")
    result = segment(video, "--out", tmp_path / "out", "--decoder", "nvdec")
    assert result.exit_code == 1
    assert "--decoder cpu" in result.output
    assert not (tmp_path / "out" / "clip.overlay.mp4").exists()
