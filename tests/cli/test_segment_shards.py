"""`atas-deploy segment --shard`: several processes, one folder."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from atas_deploy.media.shards import in_shard

Segment = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]
Photos = Callable[[Path, int], Path]


def test_two_shards_make_the_whole(
    tmp_path: Path,
    segment: Segment,
    start_segment: Start,
    photos: Photos,
    clip: Callable[..., Path],
    results: Callable[[Path], dict[str, bytes]],
) -> None:
    """Two at once do each source once; a run without --shard joins their records."""
    folder, out = photos(tmp_path / "in", 12), tmp_path / "out"
    clip(folder / "clip.mp4")
    (folder / "broken.png").touch()
    assert segment(folder, "--out", tmp_path / "whole").exit_code == 1
    running = [start_segment(folder, "--out", out, "--shard", f"{i}/2") for i in (1, 2)]
    assert sorted(process.wait(timeout=120) for process in running) == [0, 1]
    assert results(out) == results(tmp_path / "whole")
    assert {path.name for path in out.glob("*.json*")} == {
        "results.1-of-2.jsonl", "results.2-of-2.jsonl", "run.1-of-2.json", "run.2-of-2.json",
    }  # fmt: skip
    joined = segment(folder, "--out", out, "--resume", "--format", "coco")
    assert joined.exit_code == 1, joined.output
    assert results(out).pop("results") == results(tmp_path / "whole")["results"]
    assert {path.name for path in out.glob("*.json*")} == {
        "results.jsonl", "run.json", "coco.json", "coco_results.json",
    }  # fmt: skip
    counts = json.loads((out / "run.json").read_text())["counts"]
    assert counts == {
        "images": 12, "videos": 1, "frames": 5, "encoded": 5, "failed": 1, "resumed": 13,
    }  # fmt: skip
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 12


def test_a_killed_shard_loses_nothing(
    tmp_path: Path,
    segment: Segment,
    start_segment: Start,
    photos: Photos,
    clip: Callable[..., Path],
    results: Callable[[Path], dict[str, bytes]],
    lines: Callable[[Path], list[dict[str, Any]]],
) -> None:
    """Of three at once one is killed in its video: resumed and joined, all is as undivided.

    Every source is done once: the other shards finish while the folder holds half of a video, and
    joining does nothing again.
    """
    folder, out = photos(tmp_path / "in", 18), tmp_path / "out"
    clip(folder / "long.mp4", 300)
    clip(folder / "short.mp4")
    options = (folder, "--save-masks", "png", "--save", "npz")
    assert segment(*options, "--out", tmp_path / "whole").exit_code == 0
    i = next(i for i in (1, 2, 3) if in_shard("long", (i, 3)))
    shards = [(*options, "--out", out, "--shard", f"{j}/3") for j in (1, 2, 3)]
    running = [start_segment(*shard) for shard in shards]
    killed = running.pop(i - 1)
    while len([*out.glob("long.masks.*.part/*.png")]) < 5:
        assert killed.poll() is None
        time.sleep(0.002)
    killed.kill()
    killed.wait()
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert (out / f"results.{i}-of-3.jsonl.part").exists()
    assert segment(*shards[i - 1], "--resume").exit_code == 0
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    joined = segment(*options, "--out", out, "--resume")
    assert joined.exit_code == 0, joined.output
    assert "20 of them before" in joined.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == written
    assert results(out) == results(tmp_path / "whole")
    sources = [row["source"] for row in lines(out) if row["kind"] != "frame"]
    assert len(sources) == len(set(sources)) == 20
    assert not [*out.rglob("*.part"), *out.rglob("*.writing")]


def test_shards_resume(tmp_path: Path, segment: Segment, photos: Photos) -> None:
    """A shard goes on with its own journal and leaves that of the other alone."""
    folder, out = photos(tmp_path / "in", 8), tmp_path / "out"
    assert segment(folder, "--out", out, "--shard", "1/2").exit_code == 0
    other = (out / "results.1-of-2.jsonl").read_bytes()
    assert segment(folder, "--out", out, "--shard", "2/2", "--resume").exit_code == 0
    assert segment(folder, "--out", out, "--shard", "2/2").exit_code == 2
    assert segment(folder, "--out", out, "--shard", "2/2", "--force").exit_code == 0
    assert (out / "results.1-of-2.jsonl").read_bytes() == other


def test_mixtures_are_refused(tmp_path: Path, segment: Segment, photos: Photos) -> None:
    """Thirds beside halves, a shard beside a whole run, a whole run over shards: one sentence."""
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    assert segment(folder, "--out", out, "--shard", "1/2").exit_code == 0
    for options in (["--shard", "1/3"], ["--shard", "1/3", "--resume"], []):
        refused = segment(folder, "--out", out, *options)
        assert refused.exit_code == 2, refused.output
        assert "--resume" in refused.output
    whole = tmp_path / "whole"
    assert segment(folder, "--out", whole).exit_code == 0
    before = (whole / "results.jsonl").read_bytes()
    refused = segment(folder, "--out", whole, "--shard", "1/2", "--force")
    assert refused.exit_code == 2
    assert "not divided, and --force of a shard does not replace it" in refused.output
    assert "remove that run" in refused.output
    assert (whole / "results.jsonl").read_bytes() == before
    assert segment(folder, "--out", out, "--shard", "1/2", "--format", "coco").exit_code == 2
    assert segment(folder, "--out", out, "--shard", "3/2").exit_code == 2


def test_a_folder_has_one_run_at_a_time(
    tmp_path: Path, segment: Segment, start_segment: Start, clip: Callable[..., Path]
) -> None:
    """The second is told which process is at work; after a kill the folder is free."""
    video, out = clip(tmp_path / "clip.mp4", 3000), tmp_path / "out"
    running = start_segment(video, "--out", out)
    while not (out / "results.jsonl.part").exists():
        assert running.poll() is None
    refused = segment(video, "--out", out, "--resume")
    assert refused.exit_code == 2
    assert f"process {running.pid} on " in refused.output
    running.kill()
    running.wait()
    assert segment(video, "--out", out, "--resume", "--max-frames", "2").exit_code == 2
    done = segment(video, "--out", out, "--force", "--max-frames", "2")
    assert done.exit_code == 0, done.output
