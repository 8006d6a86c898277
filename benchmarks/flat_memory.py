"""Does the memory of `atas-deploy segment` grow with what is done? Prints JSON.

    python benchmarks/flat_memory.py [--frames 3600] [--images 10000]

Resident memory of the command against the number of frames of a video, and of images of a folder,
that are done, as a straight line: its slope is what each of them leaves behind.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from atas_deploy import __version__
from atas_deploy.media.formats import write_image
from atas_deploy.media.video import VideoWriter

CLASSES = "sky,building,tree"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=3_600, help="of 160 x 90 pixels")
    parser.add_argument("--images", type=int, default=10_000, help="of 32 x 32 pixels")
    args = parser.parse_args()
    report: dict[str, Any] = {
        "atas_deploy": __version__,
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
    }
    with tempfile.TemporaryDirectory() as folder:
        report |= memory(Path(folder), frames=args.frames, images=args.images)
    print(json.dumps(report, indent=2))


def sample_photo(size: tuple[int, int]) -> np.ndarray:
    """The sample photo of scikit-learn at a size, (H, W, 3) uint8."""
    from sklearn.datasets import load_sample_image

    return cv2.resize(load_sample_image("china.jpg"), size[::-1], interpolation=cv2.INTER_AREA)


def segment_command(inputs: Path, out: Path, *options: str) -> list[str]:
    """The command line of a segmentation."""
    run = [sys.executable, "-m", "atas_deploy", "segment", str(inputs)]
    return [*run, "--classes", CLASSES, "--out", str(out), "--quiet", *options]


def memory(folder: Path, *, frames: int, images: int) -> dict[str, Any]:
    """Resident memory while the command runs, as a straight line over what is done."""
    clip = folder / "small.mp4"
    photo = sample_photo((90, 200))
    with VideoWriter(clip, size=(90, 160), rate=Fraction(30)) as writer:
        for i in range(frames):
            writer.write(np.ascontiguousarray(photo[:, i % 40 : i % 40 + 160]))
    (folder / "many").mkdir()
    for i in range(images):
        write_image(folder / "many" / f"{i:06}.jpg", photo[:32, i % 100 : i % 100 + 32])
    return {
        "frames": slope(segment_command(clip, folder / "a", "--short-side", "64"), folder / "a"),
        "images": slope(
            segment_command(folder / "many", folder / "b", "--short-side", "32"), folder / "b"
        ),
    }


def slope(run: list[str], out: Path) -> dict[str, Any]:
    """Sample the memory of a run; the first fifth, in which pools fill, is left out of the line."""
    process = subprocess.Popen(run)
    done, resident = [], []
    journal = out / "results.jsonl.part"
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        time.sleep(0.25)
        try:
            lines = count_lines(journal)
            line = next(row for row in status.read_text().splitlines() if "VmRSS" in row)
        except (OSError, StopIteration):
            continue
        done.append(lines)
        resident.append(1024 * int(line.split()[1]))
    if process.returncode:
        raise SystemExit(f"{' '.join(run)} failed with exit code {process.returncode}")
    total = count_lines(out / "results.jsonl")
    settled = [i for i, count in enumerate(done) if count > total / 5]
    line = np.polyfit([done[i] for i in settled], [resident[i] for i in settled], 1)
    return {
        "lines": total,
        "samples": len(settled),
        "resident_mb_first": round(resident[settled[0]] / 2**20, 1),
        "resident_mb_last": round(resident[settled[-1]] / 2**20, 1),
        "slope_bytes_each": round(float(line[0]), 1),
    }


def count_lines(path: Path) -> int:
    """Lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


if __name__ == "__main__":
    main()
