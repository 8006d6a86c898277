"""`atas-deploy segment` when it is told to stop: Ctrl-C and SIGTERM at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.mark.parametrize(
    ("name", "size"), [("SIGINT", 0), ("SIGINT", 900), ("SIGINT", 4000), ("SIGTERM", 2000)]
)
def test_stopped_anywhere(
    tmp_path: Path,
    start_segment: Start,
    photos: Callable[[Path, int], Path],
    clip: Callable[..., Path],
    lines: Callable[[Path], list[dict[str, Any]]],
    name: str,
    size: int,
) -> None:
    """No traceback, no unfinished file, every line true, and the message names --resume."""
    if not hasattr(signal, name):
        pytest.skip(f"{name} is missing here")
    folder, out = photos(tmp_path / "in", 12), tmp_path / "out"
    clip(folder / "mm.mp4", 4000)
    process = start_segment(folder, "--out", out, "--save-masks", "png")
    journal = out / "results.jsonl.part"
    while not (journal.exists() and journal.stat().st_size >= size):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number := getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"Traceback" not in said
    assert b"--resume" in said
    assert not [*out.rglob("*.part"), *out.rglob(".atas-deploy.writing")]
    rows = lines(out)
    named = [row[key] for row in rows for key in ("labels", "overlay", "masks") if key in row]
    assert all((out / file).exists() for file in named)
    images = {row["labels"] for row in rows if row.get("kind") == "image"}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.labels.png")} == images
    record = json.loads((out / "run.json").read_text())
    assert record["complete"] is False
    assert record["counts"]["images"] == len(images)


def test_a_stopped_video_is_kept_so_far(
    tmp_path: Path,
    start_segment: Start,
    clip: Callable[..., Path],
    lines: Callable[[Path], list[dict[str, Any]]],
) -> None:
    """The frames before make a whole video with as many lines, and the last line says so."""
    out = tmp_path / "out"
    process = start_segment(clip(tmp_path / "clip.mp4", 4000), "--out", out)
    journal = out / "results.jsonl.part"
    while not (journal.exists() and journal.stat().st_size > 500):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    *frames, closing = lines(out)
    with av.open(str(out / "clip.overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(frames) == closing["frames"]
    assert closing["complete"] is False
    assert "was interrupted" in closing["error"]


@pytest.mark.parametrize("gap", [0, 0.05, 0.3])
def test_told_twice(
    tmp_path: Path,
    start_segment: Start,
    clip: Callable[..., Path],
    lines: Callable[[Path], list[dict[str, Any]]],
    gap: float,
) -> None:
    """An impatient second signal breaks nothing: the files of the first are finished."""
    out = tmp_path / "out"
    process = start_segment(clip(tmp_path / "clip.mp4", 4000), "--out", out)
    journal = out / "results.jsonl.part"
    while not (journal.exists() and journal.stat().st_size > 500):
        assert process.poll() is None
        time.sleep(0.005)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(gap)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert (out / lines(out)[-1]["overlay"]).exists()


def test_told_while_a_video_is_finished(
    tmp_path: Path,
    start_segment: Start,
    clip: Callable[..., Path],
    lines: Callable[[Path], list[dict[str, Any]]],
) -> None:
    """A signal after the last frame leaves a whole video under its name, as its last line says."""
    out = tmp_path / "out"
    source = clip(tmp_path / "clip.mp4", 60)
    process = start_segment(source, "--out", out, "--encoder", "av1", "--encoder-preset", "2")
    journal = out / "results.jsonl.part"
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 60):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    closing = lines(out)[-1]
    assert closing["kind"] == "video", said
    with av.open(str(out / closing["overlay"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == closing["frames"] == 60


def test_nobody_listens(tmp_path: Path, clip: Callable[..., Path]) -> None:
    """With standard error closed the run comes to its end all the same."""
    out = tmp_path / "out"
    run = [sys.executable, "-m", "atas_deploy", "segment", str(clip(tmp_path / "clip.mp4", 3))]
    run += ["--classes", "sky,tree", "--short-side", "64", "--out", str(out)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(run, check=False, stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    assert done.returncode == 0
    assert json.loads((out / "run.json").read_text())["complete"] is True
    assert not list(out.glob("*.part"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is missing here")
def test_a_summary_that_cannot_be_printed(tmp_path: Path, clip: Callable[..., Path]) -> None:
    """One sentence, and the results are there."""
    out = tmp_path / "out"
    run = [sys.executable, "-m", "atas_deploy", "segment", str(clip(tmp_path / "clip.mp4", 3))]
    run += ["--classes", "sky,tree", "--short-side", "64", "--out", str(out), "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(run, check=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"Cannot write to standard output" in done.stderr
    assert b"Traceback" not in done.stderr
    assert (out / "clip.overlay.mp4").exists()
