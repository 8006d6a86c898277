"""`atas-deploy segment` on a disk that fills up."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Segment = Callable[..., Result]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as exc:
        pytest.skip(f"no small disk can be made here: {exc}")
    if done.returncode:
        pytest.skip(f"no small disk can be made here (root may): {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.parametrize("what", ["images", "video"])
def test_a_full_disk(
    tmp_path: Path,
    small_disk: Path,
    segment: Segment,
    photos: Callable[[Path, int], Path],
    clip: Callable[..., Path],
    lines: Callable[[Path], list[dict[str, Any]]],
    what: str,
) -> None:
    """One sentence, exit code 1, what is done stays valid; with room again --resume completes."""
    folder, out = photos(tmp_path / "in", 10), small_disk / "out"
    if what == "video":
        clip(folder / "zz.mp4", 30)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 330_000 if what == "images" else b"x" * 200_000)
    options = [folder, "--out", out, "--save-masks", "png"]
    full = segment(*options)
    assert full.exit_code == 1
    assert "disk is full" in full.output
    assert "--resume" in full.output
    assert sum(line.startswith("Error") for line in full.output.splitlines()) == 1
    done = [row for row in lines(out) if row["kind"] == "image"]
    assert all((out / row[key]).stat().st_size for row in done for key in ("labels", "overlay"))
    assert not list(out.rglob("*.part"))
    ballast.unlink()
    subprocess.run(
        ["mount", "-o", "remount,size=20m", str(small_disk)], check=True, capture_output=True
    )
    again = segment(*options, "--resume")
    assert again.exit_code == 0, again.output
    assert sum(row["kind"] == "image" for row in lines(out)) == 10
