"""`atas-deploy classify` on videos: tracks, held frames, spans, stops."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from atas_deploy.cli.main import main
from atas_deploy.media.video import VideoWriter

FAST = ("--short-side", "64", "--classes", "sky,tree,dog", "--no-cache")
SIDE, HEIGHT, WIDTH = 24, 96, 128


def classify(*args: object) -> Result:
    """Run the command with a small encoder input."""
    return CliRunner().invoke(main, ["classify", *FAST, *map(str, args)])


def corner(track: int, frame: int) -> tuple[int, int]:
    """Left and top of a square: one goes right, the other left, below it."""
    return (4 + 3 * frame, 8) if track == 1 else (96 - 3 * frame, 60)


def squares(path: Path, frames: int = 12) -> Path:
    """A clip of two squares that move over noise and flicker, at 10 frames a second."""
    rng = np.random.default_rng(0)
    with VideoWriter(path, size=(HEIGHT, WIDTH), rate=Fraction(10)) as writer:
        for i in range(frames):
            image = rng.integers(90, 130, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            for track, color in ((1, (200, 40, 40)), (2, (40, 60, 200))):
                x, y = corner(track, i)
                noise = rng.integers(0, 50, (SIDE, SIDE, 3))
                image[y : y + SIDE, x : x + SIDE] = (np.array(color) + noise).clip(0, 255)
            writer.write(image)
    return path


def mot(path: Path, frames: int = 12) -> Path:
    """MOT tracks of the squares: frames and pixels count from 1."""
    lines = []
    for i in range(frames):
        for track in (1, 2):
            x, y = corner(track, i)
            lines.append(f"{i + 1},{track},{x + 1},{y + 1},{SIDE},{SIDE},1,-1,-1,-1")
    path.write_text("\n".join(lines) + "\n")
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    """The lines of regions.csv."""
    with (out / "regions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def frames_of(path: Path) -> int:
    """How many frames a video has."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def names_by_track(out: Path) -> dict[str, list[str]]:
    """The best names along each track, in the order of the frames."""
    names: dict[str, list[str]] = defaultdict(list)
    for row in rows_of(out):
        names[row["track"]].append(row["name"])
    return names


def test_mot_tracks(tmp_path: Path) -> None:
    """Boxes lie where the squares are; each frame has a number, a time, and its two tracks."""
    video, out = squares(tmp_path / "clip.mp4"), tmp_path / "out"
    result = classify(video, "--boxes", mot(tmp_path / "gt.txt"), "--out", out)
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    assert len(rows) == 24
    for row in rows:
        x, y = corner(int(row["track"]), int(row["frame"]))
        edges = tuple(float(row[key]) for key in ("x0", "y0", "x1", "y1"))
        assert edges == (x, y, x + SIDE, y + SIDE)
        assert float(row["time"]) == pytest.approx(int(row["frame"]) / 10)
    assert len({row["image_id"] for row in rows}) == 12
    assert frames_of(out / "clip.overlay.mp4") == 12


def test_names_stay_on_a_track(tmp_path: Path) -> None:
    """What was seen of a track settles its scores: they change less and less."""
    video = squares(tmp_path / "clip.mp4", 20)
    tracks = mot(tmp_path / "gt.txt", 20)
    loose = tmp_path / "loose.csv"  # the same boxes frame by frame, each frame a picture
    assert classify(video, "--boxes", tracks, "--out", tmp_path / "a").exit_code == 0
    loose.write_text(
        "image,frame,track,x0,y0,x1,y1\n"
        + "".join(
            f"clip.mp4,{row['frame']},{i},{row['x0']},{row['y0']},{row['x1']},{row['y1']}\n"
            for i, row in enumerate(rows_of(tmp_path / "a"))
        )
    )
    assert classify(video, "--boxes", loose, "--out", tmp_path / "b").exit_code == 0

    def unrest(out: Path, offset: int) -> float:
        scores = [float(row["score"]) for row in rows_of(out)][offset::2]
        return float(np.abs(np.diff(scores[10:])).mean())

    for offset in (0, 1):
        assert unrest(tmp_path / "a", offset) < 0.5 * unrest(tmp_path / "b", offset)
    assert all(len(set(names[10:])) == 1 for names in names_by_track(tmp_path / "a").values())


def test_boxes_without_tracks_are_linked(tmp_path: Path) -> None:
    """Boxes that overlap from frame to frame become tracks."""
    video = squares(tmp_path / "clip.mp4")
    table = ["image,frame,x0,y0,x1,y1"]
    for i in range(12):
        for track in (1, 2):
            x, y = corner(track, i)
            table.append(f"clip.mp4,{i},{x},{y},{x + SIDE},{y + SIDE}")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(table) + "\n")
    result = classify(video, "--boxes", boxes, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "out")
    assert len({row["track"] for row in rows[::2]}) == 1
    assert len({row["track"] for row in rows[1::2]}) == 1
    assert rows[0]["track"] != rows[1]["track"]


@pytest.mark.parametrize("kind", [["--grid", "3"], ["--proposals", "auto"]])
def test_regions_without_a_file(tmp_path: Path, kind: list[str]) -> None:
    """A grid has no tracks, proposals are linked; both have rows of each frame and an overlay."""
    video, out = squares(tmp_path / "clip.mp4", 4), tmp_path / "out"
    result = classify(video, *kind, "--background", "none", "--out", out)
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    assert {row["frame"] for row in rows} == {"0", "1", "2", "3"}
    assert all((row["track"] == "") == ("--grid" in kind) for row in rows)
    assert frames_of(out / "clip.overlay.mp4") == 4


def test_every(tmp_path: Path) -> None:
    """Frames that are not encoded have their own boxes and keep the overlay whole."""
    video, out = squares(tmp_path / "clip.mp4"), tmp_path / "out"
    result = classify(video, "--boxes", mot(tmp_path / "gt.txt"), "--out", out, "--every", "5")
    assert result.exit_code == 0, result.output
    assert [int(row["frame"]) for row in rows_of(out)][::2] == list(range(12))
    assert frames_of(out / "clip.overlay.mp4") == 12


def test_spans_keep_the_numbers_of_the_file(tmp_path: Path) -> None:
    """With --start frames still count from the first one of the video, as the tracks do."""
    video, out = squares(tmp_path / "clip.mp4"), tmp_path / "out"
    span = ["--start", "0.5", "--end", "0.9", "--max-frames", "3"]
    result = classify(video, "--boxes", mot(tmp_path / "gt.txt"), "--out", out, *span)
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    assert [int(row["frame"]) for row in rows][::2] == [5, 6, 7]
    assert [int(row["x0"]) for row in rows][::2] == [corner(1, frame)[0] for frame in (5, 6, 7)]
    assert frames_of(out / "clip.overlay.mp4") == 3


def test_boxes_outside_are_left_out(tmp_path: Path) -> None:
    """A box outside of the picture is told once; the others of its frame and video are named."""
    video, out = squares(tmp_path / "clip.mp4"), tmp_path / "out"
    tracks = mot(tmp_path / "gt.txt", 6)
    with tracks.open("a") as file:
        file.write("6,9,500,500,24,24,1,-1,-1,-1\n")
    result = classify(video, "--boxes", tracks, "--out", out, "--max-frames", "6")
    assert result.exit_code == 1
    (error,) = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert "line 13 has the box (499, 499) to (523, 523), which lies outside" in error
    assert len(rows_of(out)) == 12
    assert frames_of(out / "clip.overlay.mp4") == 6


def damaged(path: Path, frame: int) -> Path:
    """Results with a box for each frame before one whose mask is of another size."""
    known = {"category_id": 1, "score": 1}
    rows = [{"image_id": i, **known, "bbox": [5, 5, 20, 20]} for i in range(frame)]
    mask = {"size": [3, 3], "counts": [0, 9]}
    path.write_text(json.dumps([*rows, {"image_id": frame, **known, "segmentation": mask}]))
    return path


def test_a_bad_frame_ends_the_video(tmp_path: Path) -> None:
    """A mask of another size is named; the frames before it are kept."""
    video, out = squares(tmp_path / "clip.mp4"), tmp_path / "out"
    found = damaged(tmp_path / "found.json", 6)
    result = classify(video, "--boxes", found, "--out", out)
    assert result.exit_code == 1
    (error,) = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert "found.json: result number 7 has a mask of the size" in error
    assert "(the 6 frames before it are kept)" in error
    assert len(rows_of(out)) == 6
    assert frames_of(out / "clip.overlay.mp4") == 6


def test_a_bad_first_frame(tmp_path: Path) -> None:
    """A video whose first frame has a damaged mask gets no overlay, and one sentence."""
    video, out = squares(tmp_path / "clip.mp4"), tmp_path / "out"
    result = classify(video, "--boxes", damaged(tmp_path / "found.json", 0), "--out", out)
    assert result.exit_code == 1
    (error,) = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert "result number 1" in error
    assert not list(out.glob("*.mp4*"))


def test_a_broken_video_is_kept_so_far(tmp_path: Path) -> None:
    """Cut off in the middle: rows and overlay of the frames before stay, exit code 1."""
    video, out = squares(tmp_path / "clip.mp4", 30), tmp_path / "out"
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    result = classify(video, "--grid", "2", "--out", out)
    assert result.exit_code == 1
    frames = len({row["frame"] for row in rows_of(out)})
    assert 0 < frames == frames_of(out / "clip.overlay.mp4")
    assert f"(the {frames} frames before it are kept)" in result.output


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start the command as a process of its own; killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*args: object) -> "subprocess.Popen[bytes]":
        heed = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); "
        run = heed + "from atas_deploy.cli.main import main; main()"
        command = [sys.executable, "-c", run, "classify", *FAST, *map(str, args)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stopped(
    tmp_path: Path, start: Callable[..., "subprocess.Popen[bytes]"], name: str
) -> None:
    """Both tables and the overlay of the frames so far are whole, and nothing unfinished stays."""
    if not hasattr(signal, name):
        pytest.skip(f"{name} is missing here")
    video, out = squares(tmp_path / "clip.mp4", 31), tmp_path / "out"
    many = tmp_path / "many.mp4"
    with av.open(str(video)) as source:
        images = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    with VideoWriter(many, size=(HEIGHT, WIDTH), rate=Fraction(10)) as writer:
        for i in range(3000):
            writer.write(images[i % len(images)])
    process = start(many, "--grid", "2", "--background", "none", "--out", out)
    while not any(part.stat().st_size > 2000 for part in out.glob("regions.csv.*.part")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number := getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert b"Traceback" not in said
    assert not list(out.rglob("*.part"))
    rows = rows_of(out)
    frames = {row["frame"] for row in rows}
    assert len(rows) == 4 * len(frames) == 4 * frames_of(out / "many.overlay.mp4")
    assert len(json.loads((out / "coco_results.json").read_text())) == len(rows)
    record = json.loads((out / "run.json").read_text())
    assert record["complete"] is False
    assert "was interrupted" in record["failures"][0]["error"]
