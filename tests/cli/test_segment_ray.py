"""`atas-deploy segment --ray`: workers on a Ray, results as of a run without it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Segment = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]
Results = Callable[[Path], dict[str, bytes]]

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is missing here")

CLUSTER = """
import sys, ray
ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=128 << 20,
         log_to_driver=False, _temp_dir=sys.argv[1])
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789" * 4}


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """A folder for Ray's sockets, whose paths may not be long."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(short_folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A Ray with room for two workers; `address` is where it listens."""
    pytest.importorskip("ray.data")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER, str(short_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"} | AUTH,
    )
    yield process
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def address(cluster: "subprocess.Popen[bytes]") -> str:
    """Where the cluster listens."""
    assert cluster.stdout is not None
    return cluster.stdout.readline().decode().strip()


@pytest.fixture
def on_cluster(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let commands use the cluster."""
    for name, value in (AUTH | {"RAY_ADDRESS": address}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, photos: Any, clip: Any) -> Path:
    """Twenty pictures, one of them damaged, and two clips."""
    folder: Path = photos(tmp_path_factory.mktemp("pictures") / "in", 19)
    (folder / "broken.png").write_bytes(b"\x89PNG")
    clip(folder / "long.mp4", 400)
    clip(folder / "sub" / "short.mp4")
    return folder


OPTIONS = ("--save-masks", "png")


@pytest.fixture(scope="module")
def whole(pictures: Path, segment: Segment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run without Ray."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert segment(pictures, *OPTIONS, "--out", out, "--format", "coco").exit_code == 1
    return out


def workers() -> list[int]:
    """The processes of Ray that segment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::MapWorker(Map(Worker))"):
            found.append(int(folder.name))
    return found


def wait_for(process: "subprocess.Popen[bytes]", event: Callable[[], object]) -> None:
    """Wait until something has happened while a run goes on."""
    while not event():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def in_the_long_video(out: Path) -> bool:
    """Whether its first frames are done, and not all."""
    return len([*out.glob("long.masks.*.part/*.png")]) > 5


def ordered(out: Path) -> list[dict[str, Any]]:
    """The lines of what was not damaged, which a run notes as soon as it reads it."""
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return [row for row in rows if "error" not in row]


def files_of(found: dict[str, bytes]) -> dict[str, bytes]:
    """Results without formats, whose pictures have the order of the lines."""
    return {name: content for name, content in found.items() if not name.startswith("coco")}


def test_a_ray_of_its_own(
    tmp_path: Path,
    start_segment: Start,
    results: Results,
    pictures: Path,
    whole: Path,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers write the same bytes and lines, in order; nothing of Ray is left or said."""
    pytest.importorskip("ray.data")
    scratch = short_folder / "own"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    out = tmp_path / "out"
    process = start_segment(
        pictures, *OPTIONS, "--out", out, "--ray", "2", "--format", "coco", "--json"
    )
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert results(out) == results(whole)
    assert ordered(out) == ordered(whole)
    assert json.loads(printed)["images"] == 19
    assert said.count(b"broken.png") == 1
    lines = [line for line in said.splitlines() if not line.startswith(b"2 workers: ")]
    assert len(lines) == 2, said  # the model, and the damaged picture
    assert not list(scratch.glob("atas-*"))
    assert not list(out.glob("*item*"))


def test_killed_workers_lose_nothing(
    tmp_path: Path,
    start_segment: Start,
    results: Results,
    pictures: Path,
    whole: Path,
    on_cluster: None,
) -> None:
    """Both are killed, one in the middle of a video; others go on where they were."""
    out = tmp_path / "out"
    process = start_segment(pictures, *OPTIONS, "--out", out, "--ray", "2", "--format", "coco")
    wait_for(process, lambda: in_the_long_video(out))
    for worker in workers():
        os.kill(worker, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert b"A worker died; its inputs are done again." in said
    assert results(out) == results(whole)
    assert ordered(out) == ordered(whole)
    assert not [*out.rglob("*.part"), *out.rglob("*item*")]


@pytest.mark.parametrize(("name", "more"), [("SIGINT", []), ("SIGTERM", ["--ray"])])
def test_stopped(
    tmp_path: Path,
    start_segment: Start,
    results: Results,
    pictures: Path,
    whole: Path,
    on_cluster: None,
    name: str,
    more: list[str],
) -> None:
    """No traceback, no unfinished file, every line true; --resume goes on, with Ray or without."""
    out = tmp_path / "out"
    process = start_segment(pictures, *OPTIONS, "--out", out, "--ray", "2")
    wait_for(process, lambda: in_the_long_video(out))
    process.send_signal(number := getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert b"Traceback" not in said
    assert b"--resume" in said
    assert not [*out.rglob("*.part"), *out.rglob("*item*")]
    rows = ordered(out)
    named = [row[key] for row in rows for key in ("labels", "overlay", "masks") if key in row]
    assert named
    assert all((out / file).exists() for file in named)
    again = start_segment(pictures, *OPTIONS, "--out", out, "--resume", *more)
    printed, said = again.communicate(timeout=120)
    assert again.returncode == 1, said
    assert f"{len([row for row in rows if row['kind'] != 'frame'])} of them before" in str(printed)
    assert files_of(results(out)) == files_of(results(whole))


def test_a_killed_run_goes_on(
    tmp_path: Path,
    segment: Segment,
    start_segment: Start,
    results: Results,
    pictures: Path,
    whole: Path,
    on_cluster: None,
) -> None:
    """What workers had done and the run had not taken over yet is not done again."""
    out = tmp_path / "out"
    process = start_segment(pictures, *OPTIONS, "--out", out, "--ray", "2")
    wait_for(process, lambda: in_the_long_video(out))
    process.kill()
    process.wait()
    again = segment(pictures, *OPTIONS, "--out", out, "--resume")
    while again.exit_code == 2:  # until its workers are gone
        assert "Another run" in again.output, again.output
        time.sleep(0.1)
        again = segment(pictures, *OPTIONS, "--out", out, "--resume")
    assert again.exit_code == 1, again.output
    assert "of them before" in again.output
    assert files_of(results(out)) == files_of(results(whole))
    assert not [*out.rglob("*.part"), *out.rglob("*item*")]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--shard", "1/2"], 2, "--ray, which divides"),
        (["camera:0"], 2, "camera:0 is live"),
        (["--device", "cuda:1"], 2, "--device cuda"),
        (["--ray", "many"], 2, "'--ray'"),
    ],
)
def test_refused(
    tmp_path: Path, segment: Segment, pictures: Path, args: list[str], code: int, message: str
) -> None:
    """What makes no sense together is refused in one sentence, and nothing is written."""
    pytest.importorskip("ray.data")
    refused = segment(pictures, "--out", tmp_path / "out", "--ray", "2", *args)
    assert refused.exit_code == code
    assert message in refused.output
    assert not (tmp_path / "out").exists()


def test_no_ray(
    tmp_path: Path, segment: Segment, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    refused = segment(pictures, "--out", tmp_path / "out", "--ray")
    assert refused.exit_code == 1
    assert 'pip install "atas-deploy[ray]"' in refused.output


def test_no_cluster(
    tmp_path: Path, start_segment: Start, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address where nobody listens: one sentence that names it."""
    pytest.importorskip("ray.data")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    process = start_segment(pictures, "--out", tmp_path / "out", "--ray")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"RAY_ADDRESS=127.0.0.1:9" in said
    assert b"Traceback" not in said
