"""Small pictures and clips, and `atas-deploy segment` on them, in this process or in another."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main
from atas_deploy.media.video import VideoWriter

FAST = ("--short-side", "64", "--background", "road,wall", "--classes", "sky,tree", "--no-cache")


@pytest.fixture(scope="session")
def segment() -> Callable[..., Result]:
    """Run `atas-deploy segment` with a small encoder input."""
    return lambda *args: CliRunner().invoke(main, ["segment", *FAST, *map(str, args)])


@pytest.fixture
def start_segment() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `atas-deploy segment` as a process of its own; killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: object) -> subprocess.Popen[bytes]:
        # a shell's background job ignores Ctrl-C, and so would its children
        heed = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); "
        run = heed + "from atas_deploy.cli.main import main; main()"
        command = [sys.executable, "-c", run, "segment"]
        process = subprocess.Popen(
            [*command, *FAST, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def photos() -> Callable[[Path, int], Path]:
    """Write so many pictures, 60 x 80, into a folder, a third of them into a sub-folder."""

    def write(folder: Path, count: int) -> Path:
        (folder / "sub").mkdir(parents=True)
        for i in range(count):
            image = np.random.default_rng(i).integers(0, 255, (6, 8, 3), np.uint8)
            path = folder / ("sub" if i % 3 == 0 else "") / f"{i:03d}.png"
            Image.fromarray(image).resize((80, 60), Image.Resampling.BICUBIC).save(path)
        return folder

    return write


@pytest.fixture(scope="session")
def clip() -> Callable[..., Path]:
    """Write a clip of changing grey, 48 x 64 at 10 frames a second."""

    def write(path: Path, frames: int = 5) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path, size=(48, 64), rate=Fraction(10)) as writer:
            for i in range(frames):
                image = np.full((48, 64, 3), 40 * i % 256, np.uint8)
                image[: 4 * (i % 12), :, 2] = 200
                writer.write(image)
        return path

    return write


@pytest.fixture(scope="session")
def lines() -> Callable[[Path], list[dict[str, Any]]]:
    """Read the lines of a results.jsonl, by its path or that of its folder."""

    def read(path: Path) -> list[dict[str, Any]]:
        file = path / "results.jsonl" if path.is_dir() else path
        return [json.loads(line) for line in file.read_text().splitlines()]

    return read


@pytest.fixture(scope="session")
def results() -> Callable[[Path], dict[str, bytes]]:
    """Read all results in a folder: name and content; lines sorted, run.json and locks left out."""

    def read(out: Path) -> dict[str, bytes]:
        files = {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and not path.name.startswith((".atas-deploy", "run."))
        }
        rows = [
            line
            for name in list(files)
            if name.startswith("results.")
            for line in files.pop(name).splitlines()
        ]
        return files | {"results": b"\n".join(sorted(rows))}

    return read
