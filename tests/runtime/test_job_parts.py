"""Signals, locks, counts and settings of a job."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.record import check_same
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.stops import Stops
from atas_deploy.runtime.tally import Tally


def test_a_signal_waits_for_the_files() -> None:
    """Ctrl-C takes effect behind the block that writes; a second one is passed over."""
    before, written = signal.getsignal(signal.SIGINT), []

    def write(stops: Stops) -> None:
        with stops.hold():
            with stops.hold():
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # it has come by now
            written.append("whole")
        written.append("never")

    with Stops() as stops:
        with pytest.raises(KeyboardInterrupt):
            write(stops)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    assert written == ["whole"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_takes_effect_at_once_outside() -> None:
    """Where nothing is written."""

    def wait() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    with Stops(), pytest.raises(KeyboardInterrupt):
        wait()


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    """A second run is refused while the first is at work, not after it; shards are apart."""
    files = RunFiles(tmp_path / "out")
    with locked(files):
        files.run.write_text('{"process": {"pid": 12, "host": "here"}}')
        with (
            pytest.raises(ConfigError, match=r"process 12 on here.*--out"),
            locked(RunFiles(tmp_path / "out")),
        ):
            pass
        with locked(RunFiles(tmp_path / "out", (1, 2))):
            pass
    with locked(files):
        pass


def test_counts() -> None:
    """A line counts by its kind, a failure in any case; only the first hundred are kept."""
    tally = Tally()
    area = [{"id": 2, "area": 0.5}]
    tally.add({"source": "a", "kind": "image", "classes": area})
    tally.add({"source": "v", "kind": "frame", "classes": []})
    tally.add({"source": "v", "kind": "frame", "held": True, "classes": []})
    tally.add({"source": "v", "kind": "frame", "carried": True, "classes": area})
    tally.add({"source": "v", "kind": "video", "complete": True})
    for i in range(101):
        tally.add({"source": str(i), "kind": "video", "complete": False, "error": "cut off"})
    counts = {"images": 1, "videos": 1, "frames": 3, "encoded": 1, "failed": 101, "resumed": 0}
    assert tally.counts() == counts
    assert tally.failures[-1] == {"source": "99", "error": "cut off"}
    assert tally.inputs == 103
    assert [entry["mean_area"] for entry in tally.classes(("sky", "tree"))] == [0, 0.25]


@pytest.mark.parametrize(
    "wrong",
    [
        {"opacity": float("nan")},
        {"every": 0},
        {"smooth": 1.0},
        {"start": 2.0, "end": 2.0},
        {"formats": ("voc",)},
        {"formats": ("coco",), "shard": (1, 2)},
    ],
)
def test_options_are_checked(wrong: dict[str, object]) -> None:
    """What cannot be done is refused before any work."""
    with pytest.raises(ConfigError):
        JobOptions(**wrong)  # type: ignore[arg-type]


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    """Settings that are new in either record differ, too."""
    files = RunFiles(tmp_path)
    files.run.write_text('{"settings": {"short_side": 64, "old": 1}}')
    with pytest.raises(ConfigError, match=r"another short side \(64 there, 96 now\)"):
        check_same({"short_side": 96}, files)
    with pytest.raises(ConfigError, match=r"another old \(1 there, none now\)"):
        check_same({"short_side": 64}, files)
    assert check_same({"short_side": 64, "old": 1}, files)


@pytest.mark.parametrize(
    ("there", "now", "told"),
    [
        (
            {"preset": {"name": "clearclip", "row": ""}},
            {"preset": None},
            "preset (clearclip there, none now)",
        ),
        (
            {"preset": {"name": "sclip", "row": "voc21"}},
            {"preset": {"name": "sclip", "row": ""}},
            "preset row (voc21 there, none now)",
        ),
        (
            {"windows": {"merge": "pixels", "side": 224, "stride": 112}},
            {"windows": None},
            "windows (merge pixels, side 224, stride 112 there, none now)",
        ),
        (
            {"model": {"name": "a", "readout": "sclip"}},
            {"model": {"name": "a", "readout": "naclip"}},
            "model readout (sclip there, naclip now)",
        ),
        (
            {"classes": [["dog", "puppy"], ["grass"]]},
            {"classes": [["dog"]]},
            "classes (dog|puppy, grass there, dog now)",
        ),
    ],
)
def test_differences_are_told_as_people_write(
    tmp_path: Path, there: dict[str, object], now: dict[str, object], told: str
) -> None:
    """Only what differs is named, and no JSON."""
    files = RunFiles(tmp_path)
    files.run.write_text(json.dumps({"settings": there}))
    with pytest.raises(ConfigError, match=re.escape(f"had another {told};")):
        check_same(now, files)
