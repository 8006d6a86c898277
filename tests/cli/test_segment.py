"""`atas-deploy segment` on files: outputs, bad input, odd names."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from atas_deploy.runtime.segment import Segmenter

Segment = Callable[..., Result]
Lines = Callable[[Path], list[dict[str, Any]]]


def photo(path: Path, *, size: tuple[int, int] = (60, 80)) -> Path:
    """Write a smooth gradient as PNG."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows * 2, columns * 2, rows + columns], -1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image file."""
    with Image.open(path) as image:
        return image.size


def test_image(tmp_path: Path, segment: Segment, lines: Lines) -> None:
    """A palette label map as `Segmenter` computes it, an overlay, a line of results, run.json."""
    source, out = photo(tmp_path / "photo.png"), tmp_path / "out"
    result = segment(source, "--out", out)
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
    assert (line["kind"], line["height"], line["width"]) == ("image", 60, 80)
    record = json.loads((out / "run.json").read_text())
    assert record["complete"] is True
    settings = record["settings"]
    assert settings["background"] == {"rule": "list", "words": ["road", "wall"], "removed": []}
    assert settings["queries_hash"]


def test_folder_with_bad_files(
    tmp_path: Path, segment: Segment, clip: Callable[..., Path], lines: Lines
) -> None:
    """The good ones are done, the bad ones are named at the end, exit code 1."""
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png")
    photo(folder / "sub" / "b.png")
    clip(folder / "c.mp4")
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("not an image")
    (folder / "cut.png").write_bytes(photo(folder / "z.png").read_bytes()[:100])
    (folder / "bad.mp4").write_bytes(b"\0" * 5000)
    result = segment(folder, "--out", out)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    for name in ("empty.jpg", "text.png", "cut.png", "bad.mp4"):
        assert sum(name in line for line in result.output.splitlines()) == 1
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written >= {"a.labels.png", "sub/b.overlay.jpg", "c.overlay.mp4", "z.labels.png"}
    assert not [name for name in written if name.endswith(".part")]
    record = json.loads((out / "run.json").read_text())
    assert record["complete"] is False
    assert record["counts"]["failed"] == len(record["failures"]) == 4
    assert sum("error" in line for line in lines(out)) == 4


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["missing.png"], 1, "missing.png"),
        (["photo.png", "--model", "nope"], 2, "Unknown model"),
        (["photo.png", "--device", "tpu"], 2, "Unknown device"),
        (["photo.png", "--backend", "tpu"], 2, "Unknown backend"),
        (["photo.png", "--backend", "trt"], 1, "TensorRT"),
        (["photo.png", "--backend", "trt", "--device", "cpu"], 2, "--device cuda"),
        (["photo.png", "--out", "photo.png"], 1, "photo.png"),
        (["photo.png", "--batch-size", "0"], 2, "batch-size"),
        (["photo.png", "--start", "1:xx"], 2, "hh:mm:ss"),
        (["photo.png", "--start", "0:05", "--end", "2"], 2, "before the end"),
        (["photo.png", "--format", "coco,voc"], 2, "'voc' is unknown"),
        (["photo.png", "--shard", "3"], 2, "2/8"),
        (["photo.png", "--encoder", "nope"], 2, "nope"),
        (["photo.png", "--templates", "nope"], 2, "nope"),
        (["photo.png", "--stride", "16"], 2, "window"),
        (["photo.png", "--smooth", "1"], 2, "smooth"),
        (["photo.png", "--threshold", "2"], 2, "threshold"),
        (["photo.png", "--opacity", "nan"], 2, "opacity"),
        (["photo.png", "--readout", "sharp"], 2, "'naclip'"),
        (["photo.png", "--max-frames", "0"], 2, "max-frames"),
        ([], 2, "INPUT"),
    ],
)
def test_bad_arguments(
    tmp_path: Path,
    segment: Segment,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    message: str,
) -> None:
    """One sentence, no traceback, exit code 1, or 2 for wrong usage."""
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "photo.png")
    result = segment(*args)
    assert result.exit_code == code
    assert message in result.output
    assert isinstance(result.exception, SystemExit)
    assert size_of(tmp_path / "photo.png") == (80, 60)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--stride", "16"], 2, "--window"),
        (["--window", "64", "--stride", "96"], 2, "gaps"),
        (["--merge", "pixels", "--window", "128", "--stride", "15"], 2, "1/8"),
        (["--device", "tpu"], 2, "Unknown device"),
        (["--device", "cuda"], 1, "cuda"),
        (["--encoder", "nope"], 2, "encoder"),
        (["--out", "photo.png/below"], 1, "photo.png/below"),
        (["--out", "old", "--format", "coco"], 2, "coco.json exists already"),
        (["--out", "parts", "--shard", "1/3"], 2, "divided otherwise"),
    ],
)
def test_refused_before_the_model(
    tmp_path: Path,
    segment: Segment,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    message: str,
) -> None:
    """What needs no model is told first, as one may have to be exported; nothing is written."""
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "photo.png")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "coco.json").touch()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "run.1-of-2.json").touch()
    before = sorted(tmp_path.rglob("*"))
    result = segment("photo.png", "--model", "no-such-model", *args)
    assert (result.exit_code, message in result.output) == (code, True), result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_odd_names(tmp_path: Path, segment: Segment, lines: Lines) -> None:
    """Bytes that are no UTF-8, very long names and line breaks: all are done, one line each."""
    folder, out = tmp_path / "in", tmp_path / "out"
    source = photo(tmp_path / "photo.png").read_bytes()
    folder.mkdir()
    names = [b"bad\xff.png", b"x" * 245 + b".png", b"a\nb\x1b[31m.png"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(source)
    (folder / "e\nvil.png").touch()
    result = segment(folder, "--out", out)
    assert result.exit_code == 1, result.output
    assert sum("error" not in line for line in lines(out)) == 3
    assert len(list(out.glob("*.labels.png"))) == 3
    assert "\nvil" not in result.output
    assert segment(folder, "--out", out, "--resume").exit_code == 1
    assert json.loads((out / "run.json").read_text())["counts"]["resumed"] == 3


def test_an_input_is_never_replaced(
    tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with --force, a picture that is read may not be a file that is written."""
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "p.png")
    before = photo(tmp_path / "p.labels.png").read_bytes()
    result = segment("p.png", "p.labels.png", "--out", ".", "--force")
    assert result.exit_code == 1
    assert "is an input" in result.output
    assert (tmp_path / "p.labels.png").read_bytes() == before


@pytest.mark.parametrize("named", ["plain.masks/000001.png", "plain.masks", "plain.masks/*.png"])
def test_inputs_in_a_folder_of_masks_are_kept(
    tmp_path: Path,
    segment: Segment,
    clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    named: str,
) -> None:
    """However they were named, outright, by a folder or by a glob; the video fails."""
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "plain.mp4", 3)
    mask = photo(tmp_path / "mf" / "plain.masks" / "000001.png")
    before = mask.read_bytes()
    done = segment(f"mf/{named}", "plain.mp4", "--out", "mf", "--force", "--save-masks", "png")
    assert done.exit_code == 1
    assert "plain.masks holds inputs" in done.output
    assert mask.read_bytes() == before
    assert not (mask.parent / "000000.png").exists()


@pytest.mark.parametrize("named", ["link", "link/*.png", "l*/*.png"])
def test_inputs_among_results_are_kept(
    tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """A folder or glob elsewhere may hold links to what would be replaced."""
    monkeypatch.chdir(tmp_path)
    before = photo(tmp_path / "out" / "p.labels.png").read_bytes()
    photo(tmp_path / "p.png")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "linked.png").symlink_to(tmp_path / "out" / "p.labels.png")
    done = segment("p.png", named, "--out", "out", "--force")
    assert done.exit_code == 1, done.output
    assert "p.labels.png is an input" in done.output
    assert (tmp_path / "out" / "p.labels.png").read_bytes() == before


@pytest.mark.parametrize(
    ("size", "options"), [((4, 70_000), []), ((40_000, 4), ["--view", "side"])]
)
def test_a_picture_too_long_for_jpeg(
    tmp_path: Path, segment: Segment, lines: Lines, size: tuple[int, int], options: list[str]
) -> None:
    """Its overlay is a PNG where JPEG cannot hold it; the line names the file that is there."""
    source, out = photo(tmp_path / "long.png", size=size), tmp_path / "out"
    done = segment(source, "--out", out, "--short-side", "64", *options)
    assert done.exit_code == 0, done.output
    (line,) = lines(out)
    overlay = "long.overlay.png" if not options else "long.overlay.jpg"
    assert (line["labels"], line["overlay"]) == ("long.labels.png", overlay)
    assert size_of(out / "long.labels.png") == size[::-1]
    assert size_of(out / overlay)[1] == size[0]
    again = segment(source, "--out", out, "--short-side", "64", "--resume", *options)
    assert "1 of them before" in again.output


def test_a_file_as_output_folder(tmp_path: Path, segment: Segment) -> None:
    """The message names what the user named, not a file inside it."""
    source = photo(tmp_path / "p.png")
    done = segment(source, "--out", source)
    assert done.exit_code == 1
    assert "p.png" in done.output
    assert ".lock" not in done.output


def test_a_picture_that_cannot_be_written_is_skipped(
    tmp_path: Path, segment: Segment, lines: Lines
) -> None:
    """One output in the way does not stop the others."""
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png")
    photo(folder / "b.png")
    (out / "a.labels.png").mkdir(parents=True)
    result = segment(folder, "--out", out, "--force")
    assert result.exit_code == 1
    assert result.output.count("a.labels.png") == 1
    done = [Path(line["source"]).name for line in lines(out) if "error" not in line]
    assert done == ["b.png"]


def test_json_summary(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path], clip: Callable[..., Path]
) -> None:
    """With --json standard output is one object: counts, failures and the share of each class."""
    folder, out = photos(tmp_path / "in", 3), tmp_path / "out"
    clip(folder / "clip.mp4")
    (folder / "broken.png").touch()
    result = segment(folder, "--out", out, "--json", "--background", "none")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    counts = {key: summary[key] for key in ("images", "videos", "frames", "failed", "resumed")}
    assert counts == {"images": 3, "videos": 1, "frames": 5, "failed": 1, "resumed": 0}
    assert [Path(entry["source"]).name for entry in summary["failures"]] == ["broken.png"]
    assert [entry["name"] for entry in summary["classes"]] == ["sky", "tree"]
    assert sum(entry["mean_area"] for entry in summary["classes"]) == pytest.approx(1, abs=1e-5)
    assert (summary["out"], summary["complete"]) == (str(out), False)


def test_many_failures(tmp_path: Path, segment: Segment, lines: Lines) -> None:
    """Each has its line; run.json and the screen show the first hundred."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(105):
        (folder / f"{i:03d}.png").touch()
    result = segment(folder, "--out", out)
    assert result.exit_code == 1
    assert len(lines(out)) == 105
    assert len(json.loads((out / "run.json").read_text())["failures"]) == 100
    assert "5 more; see" in result.output


def test_arrays_and_side_by_side(tmp_path: Path, segment: Segment, lines: Lines) -> None:
    """--save npz holds labels and probabilities, --view side shows picture and overlay."""
    source, out = photo(tmp_path / "photo.png"), tmp_path / "out"
    assert segment(source, "--out", out, "--save", "npz", "--view", "side").exit_code == 0
    (line,) = lines(out)
    with np.load(out / line["npz"]) as arrays, Image.open(out / line["labels"]) as labels:
        np.testing.assert_array_equal(arrays["labels"], np.asarray(labels))
        assert arrays["probability"].shape == (60, 80)
        assert 0 < arrays["probability"].min() <= arrays["probability"].max() <= 1
    width, height = size_of(out / line["overlay"])
    assert (height, width > 160) == (60, True)


def test_no_overlay(tmp_path: Path, segment: Segment, lines: Lines) -> None:
    """Label maps and lines only."""
    source, out = photo(tmp_path / "photo.png"), tmp_path / "out"
    assert segment(source, "--out", out, "--no-overlay").exit_code == 0
    assert "overlay" not in lines(out)[0]
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        "photo.labels.png", "results.jsonl", "run.json",
    ]  # fmt: skip


def test_help_is_sorted_by_subject_and_quick() -> None:
    """Every option stands under a heading; asking loads neither numpy nor the engine."""
    code = (
        "import sys; from atas_deploy.cli.main import main; main(['segment', '--help'], "
        "standalone_mode=False); print(sorted({'numpy', 'onnxruntime', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    headings = [line for line in done.stdout.splitlines() if re.fullmatch(r"\w+:", line)]
    assert headings == ["Words:", "Model:", "Masks:", "Video:", "Output:", "Run:"]
    assert done.stdout.endswith("[]\n")
