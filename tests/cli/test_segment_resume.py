"""`atas-deploy segment --resume`: after kills, failures, and on runs that ended."""

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.run_files import RunFiles

Segment = Callable[..., Result]
Lines = Callable[[Path], list[dict[str, Any]]]


class QuietFiles(SimpleHTTPRequestHandler):
    """Serves a folder without writing a log."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve the folder `www`; the address holds a password."""
    (tmp_path / "www").mkdir()
    handler = partial(QuietFiles, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://kim:sesame@127.0.0.1:{server.server_port}"
        server.shutdown()


def kill_after(process: "subprocess.Popen[bytes]", journal: Path, size: int) -> bool:
    """Kill a run once its journal has grown to a size; False if it ended before."""
    while process.poll() is None:
        if journal.exists() and journal.stat().st_size >= size:
            process.kill()
            return process.wait() != 0
        time.sleep(0.001)
    return False


@pytest.mark.parametrize("seed", range(2))
def test_killed_runs_go_on(
    tmp_path: Path,
    segment: Segment,
    start_segment: Callable[..., "subprocess.Popen[bytes]"],
    photos: Callable[[Path, int], Path],
    clip: Callable[..., Path],
    results: Callable[[Path], dict[str, bytes]],
    seed: int,
) -> None:
    """Killed again and again, the results are byte for byte those of a run left in peace."""
    folder, out = photos(tmp_path / "in", 30), tmp_path / "out"
    clip(folder / "mm.mp4", 12)
    options = [folder, "--save-masks", "png", "--save", "npz"]
    assert segment(*options, "--out", tmp_path / "whole").exit_code == 0
    chance, kills, size = random.Random(seed), 0, 0
    for _ in range(4):
        size += chance.randrange(3000)
        process = start_segment(*options, "--out", out, "--resume", "-q")
        kills += kill_after(process, out / "results.jsonl.part", size)
    last = segment(*options, "--out", out, "--resume")
    assert last.exit_code == 0, last.output
    assert kills > 0
    assert results(out) == results(tmp_path / "whole")
    record = json.loads((out / "run.json").read_text())
    assert record["complete"] is True
    assert record["counts"]["images"] == 30
    assert not [*out.rglob("*.part"), *out.rglob(".atas-deploy.writing")]


def test_done_sources_are_not_done_again(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path], lines: Lines
) -> None:
    """Only what is missing or failed has its turn; a removed file is made again."""
    folder, out = photos(tmp_path / "in", 4), tmp_path / "out"
    broken = folder / "broken.png"
    broken.write_bytes(b"")
    assert segment(folder, "--out", out).exit_code == 1
    (out / "001.overlay.jpg").unlink()
    broken.write_bytes((folder / "002.png").read_bytes())
    before = (out / "002.labels.png").stat().st_mtime_ns
    again = segment(folder, "--out", out, "--resume")
    assert again.exit_code == 0, again.output
    assert "5 of 5 inputs" in again.output
    assert "3 of them before" in again.output
    assert (out / "002.labels.png").stat().st_mtime_ns == before
    assert (out / "001.overlay.jpg").exists()
    assert sorted(Path(line["source"]).stem for line in lines(out)) == [
        "000", "001", "002", "003", "broken",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--classes", "sky,lake"], "another classes (sky, tree there, sky, lake now)"),
        (["--classes", "@colours.json"], "another palette sky (none there, "),
        (["--threshold", "0.3"], "another threshold (none there, 0.3 now)"),
        (["--denoise", "0.3"], "another denoise (none there, 0.3 now)"),
        (["--merge", "pixels"], "another windows (none there, merge pixels now)"),
        (["--preset", "sclip"], "another preset (none there, sclip now)"),
        (["--every", "2"], "another every"),
        (["--view", "side"], "another view (overlay there, side now)"),
        (["--no-overlay"], "another overlay (on there, off now)"),
    ],
)
def test_other_settings_are_refused(
    tmp_path: Path,
    segment: Segment,
    photos: Callable[[Path, int], Path],
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    named: str,
) -> None:
    """A run that goes on with other settings would mix results; the first difference is named."""
    monkeypatch.chdir(tmp_path)
    coloured = {"classes": [{"name": "sky", "color": "#102030"}, {"name": "tree"}]}
    (tmp_path / "colours.json").write_text(json.dumps(coloured))
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    assert segment(folder, "--out", out).exit_code == 0
    before = (out / "run.json").read_bytes()
    refused = segment(folder, "--out", out, "--resume", *change)
    assert refused.exit_code == 2
    assert named in refused.output
    assert (out / "run.json").read_bytes() == before


def test_a_run_is_refused_where_results_are(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path]
) -> None:
    """Without --resume or --force nothing is mixed or replaced; the message names both."""
    folder, out = photos(tmp_path / "in", 1), tmp_path / "out"
    assert segment(folder, "--out", out).exit_code == 0
    before = (out / "results.jsonl").stat().st_mtime_ns
    refused = segment(folder, "--out", out)
    assert refused.exit_code == 2
    assert "--resume" in refused.output
    assert "--force" in refused.output
    assert (out / "results.jsonl").stat().st_mtime_ns == before
    assert segment(folder, "--out", out, "--force").exit_code == 0
    assert (out / "results.jsonl").stat().st_mtime_ns > before


def test_a_file_in_the_way_is_kept(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path], lines: Lines
) -> None:
    """A foreign file that has the name of a result fails its source only; --force replaces it."""
    folder, out = photos(tmp_path / "in", 3), tmp_path / "out"
    out.mkdir()
    foreign = out / "001.labels.png"
    foreign.write_text("mine")
    first = segment(folder, "--out", out)
    assert first.exit_code == 1
    assert foreign.read_text() == "mine"
    (failed,) = [line for line in lines(out) if "error" in line]
    assert "001.labels.png is in the way" in failed["error"]
    assert segment(folder, "--out", out, "--resume").exit_code == 1
    assert foreign.read_text() == "mine"
    assert segment(folder, "--out", out, "--resume", "--force").exit_code == 0
    assert foreign.read_bytes()[1:4] == b"PNG"


def test_an_unfinished_video_is_done_anew(
    tmp_path: Path, segment: Segment, clip: Callable[..., Path], lines: Lines
) -> None:
    """A video that broke off leaves one line a frame and one at its end, once each."""
    video, out = clip(tmp_path / "clip.mp4", 40), tmp_path / "out"
    whole = video.read_bytes()
    video.write_bytes(whole.replace(b"moov", b"m00v"))
    assert segment(video, "--out", out).exit_code == 1
    video.write_bytes(whole)
    assert segment(video, "--out", out, "--resume").exit_code == 0
    assert [line["kind"] for line in lines(out)] == ["frame"] * 40 + ["video"]
    assert lines(out)[-1]["complete"] is True
    assert segment(video, "--out", out, "--resume").exit_code == 0
    assert len(lines(out)) == 41


def test_formats_of_a_run_that_ended(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path]
) -> None:
    """--resume --format on a complete run makes just the formats."""
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    assert segment(folder, "--out", out).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    done = segment(folder, "--out", out, "--resume", "--format", "coco, cvat")
    assert done.exit_code == 0, done.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 2
    assert (out / "cvat.zip").exists()
    record = json.loads((out / "run.json").read_text())
    assert record["formats"]["coco"] == ["coco.json", "coco_results.json"]


def test_inputs_named_otherwise(
    tmp_path: Path,
    segment: Segment,
    photos: Callable[[Path, int], Path],
    clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each clash names the input as it was named before, which shows how to go on."""
    monkeypatch.chdir(tmp_path)
    clip(photos(tmp_path / "in", 3) / "clip.mp4")
    options = ("--out", "out", "--save-masks", "png")
    assert segment("in", *options).exit_code == 0
    (tmp_path / "in" / "new.png").write_bytes((tmp_path / "in" / "001.png").read_bytes())
    (tmp_path / "out" / "new.labels.png").touch()
    again = segment(tmp_path / "in", *options, "--resume")
    assert again.exit_code == 1
    for name in ("001.png", "002.png", "sub/000.png", "clip.mp4"):
        assert f"is the result of in/{name};" in again.output
    assert "new.labels.png is in the way and no result" in again.output
    assert again.output.count("name inputs in the same way") == 4
    assert "4 of them before" in segment("in", *options, "--resume").output


def test_a_run_without_its_settings_is_refused(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path]
) -> None:
    """Lines without run.json cannot be gone on with: nobody knows how they were made."""
    folder, out = photos(tmp_path / "in", 1), tmp_path / "out"
    assert segment(folder, "--out", out).exit_code == 0
    (out / "run.json").write_text("{")
    refused = segment(folder, "--out", out, "--resume")
    assert refused.exit_code == 2
    assert "run.json" in refused.output


def test_recordings_are_never_made_anew(
    tmp_path: Path, segment: Segment, clip: Callable[..., Path], lines: Lines, server: str
) -> None:
    """What a stream gave until it broke off is kept, and formats are made of it later."""
    clip(tmp_path / "www" / "live.mp4", 4)
    out = tmp_path / "out"
    options = (f"{server}/live.mp4?key=1", "--save-masks", "png", "--out", out)
    assert segment(*options).exit_code == 0
    *frames, closing = lines(out)
    assert closing["live"] is True
    assert "sesame" not in json.dumps(closing)
    broken = [*frames, closing | {"complete": False, "error": "the camera was unplugged"}]
    (out / "results.jsonl").write_text("\n".join(map(json.dumps, broken)) + "\n")
    (tmp_path / "www" / "live.mp4").unlink()
    assert segment(*options, "--resume", "--format", "coco").exit_code == 1
    assert lines(out) == broken
    assert (out / closing["overlay"]).exists()
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 4


def test_addresses_that_differ_in_what_is_hidden_stay_apart(
    tmp_path: Path, segment: Segment, clip: Callable[..., Path], lines: Lines, server: str
) -> None:
    """Two channels of one camera are two inputs, also for --resume."""
    clip(tmp_path / "www" / "cam.mp4", 3)
    both = f"{server}/cam.mp4?channel=1", f"{server}/cam.mp4?channel=2"
    assert segment(both[0], "--out", tmp_path / "out").exit_code == 0
    again = segment(*both, "--out", tmp_path / "out", "--resume")
    assert again.exit_code == 0, again.output
    sources = [row["source"] for row in lines(tmp_path / "out") if row["kind"] == "video"]
    assert len(set(sources)) == 2


def test_videos_without_masks_are_in_no_format(
    tmp_path: Path, segment: Segment, clip: Callable[..., Path]
) -> None:
    """The command says so rather than write an empty file without a word."""
    said = segment(clip(tmp_path / "a.mp4"), "--out", tmp_path / "out", "--format", "coco")
    assert said.exit_code == 0
    assert "--save-masks png" in said.output


def test_a_second_run_is_told_who_is_at_work(tmp_path: Path, segment: Segment) -> None:
    """Also without --resume, and before any word is encoded."""
    out = tmp_path / "out"
    files = RunFiles(out)
    with locked(files):
        files.journal.touch()
        refused = segment(tmp_path, "--out", out)
    assert refused.exit_code == 2
    assert "Another run" in refused.output
