"""`atas-deploy segment` on files: outputs, bad input, interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main
from atas_deploy.media.video import VideoWriter
from atas_deploy.runtime.segment import Segmenter

FAST = ["--short-side", "64", "--background", "road,wall", "--classes", "sky,tree"]


def run(*args: str | Path) -> Result:
    """Invoke `atas-deploy segment` with a small encoder input."""
    return CliRunner().invoke(main, ["segment", *map(str, args), *FAST])


def photo(path: Path, *, size: tuple[int, int] = (60, 80)) -> Path:
    """Write a smooth gradient as PNG."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows * 2, columns * 2, rows + columns], -1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def clip(path: Path, *, frames: int = 5) -> Path:
    """Write a short clip, 48 x 64 at 10 frames a second."""
    with VideoWriter(path, size=(48, 64), rate=Fraction(10)) as writer:
        for i in range(frames):
            writer.write(np.full((48, 64, 3), 40 * i % 256, np.uint8))
    return path


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image file."""
    with Image.open(path) as image:
        return image.size


def lines(out: Path) -> list[dict[str, object]]:
    """The objects of results.jsonl."""
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_image(tmp_path: Path) -> None:
    """A palette label map as `Segmenter` computes it, an overlay, a line of results, run.json."""
    source, out = photo(tmp_path / "photo.png"), tmp_path / "out"
    result = run(source, "--out", out)
    assert result.exit_code == 0, result.output
    with Image.open(out / "photo.labels.png") as labels:
        mode, values = labels.mode, np.asarray(labels)
    expected = Segmenter(classes="sky,tree", background="road,wall", short_side=64)(source)
    assert mode == "P"
    np.testing.assert_array_equal(values, expected.labels)
    assert size_of(out / "photo.overlay.jpg") == (80, 60)
    (line,) = lines(out)
    assert line["source"] == str(source)
    assert line["classes"] == expected.summary()
    settings = json.loads((out / "run.json").read_text())
    assert settings["complete"] is True
    assert settings["background"] == {"rule": "list", "words": ["road", "wall"], "removed": []}
    assert settings["queries_hash"]


def test_video(tmp_path: Path) -> None:
    """One H.264 overlay of equal length, a line of results for every frame."""
    out = tmp_path / "out"
    result = run(clip(tmp_path / "clip.mp4"), "--out", out, "--batch-size", "2")
    assert result.exit_code == 0, result.output
    with av.open(str(out / "clip.overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert sum(1 for _ in container.decode(stream)) == 5
    assert [line["frame"] for line in lines(out)] == [0, 1, 2, 3, 4]
    assert [line["time"] for line in lines(out)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_max_frames(tmp_path: Path) -> None:
    """A video is cut after the number of frames asked for."""
    run(clip(tmp_path / "clip.mp4"), "--out", tmp_path / "out", "--max-frames", "2")
    assert len(lines(tmp_path / "out")) == 2


def test_folder_with_bad_files(tmp_path: Path) -> None:
    """The good ones are done, the bad ones are named at the end, exit code 1."""
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png")
    photo(folder / "sub" / "b.png")
    clip(folder / "c.mp4")
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("not an image")
    (folder / "cut.png").write_bytes(photo(folder / "z.png").read_bytes()[:100])
    (folder / "bad.mp4").write_bytes(b"\0" * 5000)
    result = run(folder, "--out", out)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    for name in ("empty.jpg", "text.png", "cut.png", "bad.mp4"):
        assert sum(name in line for line in result.output.splitlines()) == 1
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written >= {"a.labels.png", "sub/b.overlay.jpg", "c.overlay.mp4", "z.labels.png"}
    assert not [name for name in written if name.endswith(".part")]
    settings = json.loads((out / "run.json").read_text())
    assert settings["complete"] is False
    assert sum("error" in entry for entry in settings["inputs"]) == 4


def test_results_are_not_overwritten_unasked(tmp_path: Path) -> None:
    """A second run into the same folder needs --force."""
    source, out = photo(tmp_path / "photo.png"), tmp_path / "out"
    run(source, "--out", out)
    before = (out / "photo.labels.png").stat().st_mtime_ns
    refused = run(source, "--out", out)
    assert refused.exit_code == 1
    assert "--force" in refused.output
    assert (out / "photo.labels.png").stat().st_mtime_ns == before
    assert run(source, "--out", out, "--force").exit_code == 0
    assert (out / "photo.labels.png").stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["missing.png"], 1, "missing.png"),
        (["photo.png", "--model", "nope"], 1, "Unknown model"),
        (["photo.png", "--device", "tpu"], 1, "Unknown device"),
        (["photo.png", "--backend", "tpu"], 1, "Unknown backend"),
        (["photo.png", "--out", "photo.png"], 1, "photo.png"),
        (["photo.png", "--batch-size", "0"], 2, "batch-size"),
        (["photo.png", "--threshold", "2"], 2, "threshold"),
        (["photo.png", "--opacity", "nan"], 1, "opacity"),
        (["photo.png", "--max-frames", "0"], 2, "max-frames"),
        ([], 2, "INPUT"),
    ],
)
def test_bad_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, message: str
) -> None:
    """One sentence, no traceback, exit code 1, or 2 for wrong usage."""
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "photo.png")
    result = run(*args)
    assert result.exit_code == code
    assert message in result.output
    assert isinstance(result.exception, SystemExit)
    assert size_of(tmp_path / "photo.png") == (80, 60)


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Press Ctrl-C, as it were, while picture `count` + 1 is labelled."""
    label, calls = Segmenter._label, []

    def stop(self: Segmenter, *args: object) -> object:
        calls.append(1)
        if len(calls) > count:
            raise KeyboardInterrupt
        return label(self, *args)

    monkeypatch.setattr(Segmenter, "_label", stop)


def test_interruption_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two images: the first stays, results and settings are written."""
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    stop_after(monkeypatch, 1)
    result = run(tmp_path / "in", "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert [Path(line["source"]).name for line in lines(tmp_path / "out")] == ["a.png"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["complete"] is False


def test_interruption_finishes_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a video: the frames so far make a whole file and as many lines of results."""
    stop_after(monkeypatch, 3)
    result = run(clip(tmp_path / "clip.mp4"), "--out", tmp_path / "out")
    assert result.exit_code == 130
    with av.open(str(tmp_path / "out" / "clip.overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
    assert len(lines(tmp_path / "out")) == 3
    (entry,) = json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]
    assert (entry["frames"], "interrupted" in entry["error"]) == (3, True)


def test_sigterm_leaves_no_half_files(tmp_path: Path) -> None:
    """The real process, terminated in the middle of a video, cleans up and says so."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from atas_deploy.cli.main import main; main()", "segment"]
    command += [str(clip(tmp_path / "clip.mp4", frames=3000)), "--out", str(out), *FAST]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not any(part.stat().st_size for part in out.glob("results.jsonl.*.part")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert sorted(path.name for path in out.iterdir()) == [
        "clip.overlay.mp4",
        "results.jsonl",
        "run.json",
    ]


def test_odd_names(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, very long names and line breaks: all are done, one line each."""
    folder, out = tmp_path / "in", tmp_path / "out"
    source = photo(tmp_path / "photo.png").read_bytes()
    folder.mkdir()
    names = [b"bad\xff.png", b"x" * 245 + b".png", b"a\nb\x1b[31m.png"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(source)
    (folder / "e\nvil.png").touch()
    result = run(folder, "--out", out)
    assert result.exit_code == 1, result.output
    assert len(lines(out)) == 3
    assert len(list(out.glob("*.labels.png"))) == 3
    assert "\nvil" not in result.output


def test_an_input_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with --force, a picture that is read may not be a file that is written."""
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "p.png")
    before = photo(tmp_path / "p.labels.png").read_bytes()
    result = run("p.png", "p.labels.png", "--out", ".", "--force")
    assert result.exit_code == 1
    assert "is an input" in result.output
    assert (tmp_path / "p.labels.png").read_bytes() == before


def test_a_picture_that_cannot_be_written_is_skipped(tmp_path: Path) -> None:
    """One output in the way does not stop the others."""
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png")
    photo(folder / "b.png")
    (out / "a.labels.png").mkdir(parents=True)
    result = run(folder, "--out", out, "--force")
    assert result.exit_code == 1
    assert result.output.count("a.labels.png") == 1
    assert [Path(str(line["source"])).name for line in lines(out)] == ["b.png"]
