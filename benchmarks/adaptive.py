"""Measure adaptive video against full runs and against `--every`, and print JSON.

    python benchmarks/adaptive.py [--video clip.mp4] [--frames 60] [--level 0.1 ...] [--model NAME]

The clips are 720p and go through H.264: a view that pans over a photo of scikit-learn; a camera
that stands still, with grain, while a thing crosses the view in the middle third; four cuts; and
the video given. Each row is `atas_deploy.bench.adaptive.measure_adaptive` at a level; beside it,
`every` holds the masks of each N-th frame, with N so that about as many frames are encoded.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_sample_image

from atas_deploy import Segmenter, __version__
from atas_deploy.bench.adaptive import measure_adaptive
from atas_deploy.bench.clip import make_clip
from atas_deploy.media.video import VideoReader, VideoWriter

SIZE = (720, 1280)


def main() -> None:
    """Run all clips at all levels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="one more clip")
    parser.add_argument("--frames", type=int, default=60, help="of each clip")
    parser.add_argument("--rounds", type=int, default=2, help="of timing")
    parser.add_argument("--level", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--model", default="atas-tiny")
    parser.add_argument("--classes", default="@voc20", help="against the automatic background")
    args = parser.parse_args()
    segmenter = Segmenter(args.model, args.classes)
    report: dict[str, Any] = {
        "atas_deploy": __version__,
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "model": args.model,
        "classes": args.classes,
        "short_side": segmenter.short_side,
        "clips": {},
    }
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, path in clips(Path(folder), args.frames, args.video):
            with VideoReader(path, max_frames=args.frames) as reader:
                frames = [frame.image for frame in reader]
            report["clips"][name] = [
                measure(segmenter, frames, level, rounds=args.rounds) for level in args.level
            ]
    report |= {"load_after": round(os.getloadavg()[0], 2)}
    report |= {"seconds": round(time.monotonic() - started)}
    print(json.dumps(report, indent=2))


def measure(
    segmenter: Segmenter, frames: list[np.ndarray], level: float, *, rounds: int
) -> dict[str, Any]:
    """A row."""
    row = {"level": level} | measure_adaptive(segmenter, frames, level=level, rounds=rounds)
    every = max(1, round(1 / row["encoded"]))
    pairs = zip(segmenter.stream(frames), segmenter.stream(frames, every=every), strict=True)
    equal = [float((full.labels == held.labels).mean()) for full, held in pairs]
    return row | {"every": every, "every_equal_pixels": round(float(np.mean(equal)), 4)}


def clips(folder: Path, frames: int, given: Path | None) -> Iterator[tuple[str, Path]]:
    """Make the clips, one by one."""
    make_clip(folder / "pan.mp4", size=SIZE, frames=frames)
    yield "pan", folder / "pan.mp4"
    for name, views in (("still camera", crossing(frames)), ("cuts", cuts(frames))):
        path = folder / f"{name}.mp4"
        with VideoWriter(path, size=SIZE, rate=Fraction(30)) as writer:
            for view in with_grain(views):
                writer.write(view)
        yield name, path
    if given:
        yield "given", given


def photo(name: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A sample photo at a size, (H, W, 3) uint8."""
    return cv2.resize(load_sample_image(name), size[::-1], interpolation=cv2.INTER_CUBIC)


def crossing(frames: int) -> Iterator[np.ndarray]:
    """A flower of 240 pixels, 6 % of the view, goes from left to right."""
    flower = photo("flower.jpg", (427, 640))[60:360, 150:450]
    thing = cv2.resize(flower, (240, 240), interpolation=cv2.INTER_AREA)
    shape = cv2.circle(np.zeros((240, 240), np.uint8), (120, 120), 118, 1, -1).astype(bool)
    for i in range(frames):
        view = np.pad(photo("china.jpg"), ((0, 0), (240, 240), (0, 0)))
        left = int((3 * i / frames - 1) * 1520)
        if 0 <= left < 1520:
            view[420:660, left : left + 240][shape] = thing[shape]
        yield view[:, 240:-240]


def cuts(frames: int) -> Iterator[np.ndarray]:
    """Five scenes, each longer than the one before."""
    china, flower = photo("china.jpg"), photo("flower.jpg")
    scenes = [china, flower, china[:, ::-1], flower[:, ::-1], china]
    return (scenes[int(5 * (i / frames) ** 0.7)] for i in range(frames))


def with_grain(views: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Noise that differs from frame to frame, three grey values strong."""
    rng = np.random.default_rng(0)
    for view in views:
        noise = rng.normal(0, 3, (SIZE[0] // 2, SIZE[1] // 2)).astype(np.float32)
        grain = cv2.resize(noise, SIZE[::-1])[..., None]
        yield np.clip(view + grain, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
