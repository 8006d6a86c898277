"""`atas-deploy segment` when it is told to stop: Ctrl-C and SIGTERM at any moment."""

import json
import signal
import subprocess
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
