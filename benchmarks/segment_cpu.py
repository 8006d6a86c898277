"""Measure `atas-deploy segment` on the CPU and print JSON.

    python benchmarks/segment_cpu.py [--video clip.mp4] [--frames 200] [--only command ...]

- command: the whole command on a 720p video, start included, over the encoder alone on as many
  frames; and the processor time of everything but the encoder, per frame.
- masks: text product and label map of a 720p frame at 2 to 1,000 words, against a plain loop (every
  query upsampled, then argmax) on the same features; time and peak memory, each in its own process,
  turn by turn.
- memory: resident memory of the command against the number of frames and of images done: slopes.

Without --video a clip is made that pans over the sample photo of scikit-learn.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from process_memory import forget_peak, peak

from atas_deploy import Segmenter, __version__
from atas_deploy.core.classes import parse_classes
from atas_deploy.core.masks import label_map
from atas_deploy.media.formats import write_image
from atas_deploy.media.video import VideoReader, VideoWriter

SIZE = (720, 1280)
WORDS = (2, 20, 150, 1_000)
CLASSES = "sky,building,tree"


def main() -> None:
    """Run the measurements asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="a 720p video")
    parser.add_argument("--frames", type=int, default=200, help="of the video")
    parser.add_argument("--small-frames", type=int, default=7_200, help="of 160 x 90, for memory")
    parser.add_argument("--images", type=int, default=20_000, help="tiny images, for memory")
    parser.add_argument("--only", nargs="+", choices=["command", "masks", "memory"])
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)  # see `peak`
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(contend(args.contender[0], int(args.contender[1]))))
        return
    report: dict[str, Any] = {
        "atas_deploy": __version__,
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures = {
            "command": lambda: command(args.video or make_clip(folder, args.frames), args.frames),
            "masks": masks,
            "memory": lambda: memory(folder, frames=args.small_frames, images=args.images),
        }
        for kind, measure in measures.items():
            if args.only is None or kind in args.only:
                report[kind] = measure()
    print(json.dumps(report, indent=2))


def make_clip(folder: Path, frames: int) -> Path:
    """Pan over the sample photo at 720p, a little grain added."""
    photo = sample_photo((960, 1600))
    rng = np.random.default_rng(0)
    path = folder / "clip.mp4"
    with VideoWriter(path, size=SIZE, rate=Fraction(30)) as writer:
        for i in range(frames):
            y, x = (1 - i / frames) * (960 - 720), i / frames * (1600 - 1280)
            view = photo[int(y) : int(y) + 720, int(x) : int(x) + 1280]
            grain = rng.integers(0, 8, (90, 160, 1), np.uint8)
            writer.write(cv2.add(view, cv2.resize(np.repeat(grain, 3, 2), SIZE[::-1])))
    return path


def sample_photo(size: tuple[int, int]) -> np.ndarray:
    """The photo at a size, (H, W, 3) uint8."""
    from sklearn.datasets import load_sample_image

    return cv2.resize(load_sample_image("china.jpg"), size[::-1], interpolation=cv2.INTER_AREA)


def segment_command(inputs: Path, out: Path, *options: str) -> list[str]:
    """The command line of a segmentation."""
    run = [sys.executable, "-m", "atas_deploy", "segment", str(inputs)]
    return [*run, "--classes", CLASSES, "--out", str(out), "--quiet", *options]


def command(video: Path, frames: int) -> dict[str, Any]:
    """The whole command, against the encoder alone, alternating with it."""
    segmenter = Segmenter(classes=CLASSES)
    with VideoReader(video, max_frames=1) as reader:
        first = next(iter(reader)).image
    fitted = segmenter.encoder(first).fitted
    wall, cpu, encoder_wall, encoder_cpu = [], [], [], []
    for _ in range(3):
        clock, used = time.perf_counter(), time.process_time()
        for _ in range(frames // 4):
            segmenter.encoder.encode([fitted])
        encoder_wall.append((time.perf_counter() - clock) / (frames // 4))
        encoder_cpu.append((time.process_time() - used) / (frames // 4))
        with tempfile.TemporaryDirectory() as out:
            clock, used = time.perf_counter(), children_time()
            run = segment_command(video, Path(out) / "out", "--max-frames", str(frames))
            subprocess.run(run, check=True)
            wall.append((time.perf_counter() - clock) / frames)
            cpu.append((children_time() - used) / frames)
    rest = median(cpu) - median(encoder_cpu)
    return {
        "video": "given" if video.name != "clip.mp4" else "pan over the sample photo",
        "size": list(first.shape[:2]),
        "encoder_input": list(fitted.shape[:2]),
        "frames": frames,
        "encoder_ms": milliseconds(encoder_wall),
        "command_ms": milliseconds(wall),
        "encoder_over_command": round(median(encoder_wall) / median(wall), 3),
        "frames_per_second": round(1 / median(wall), 2),
        "encoder_core_ms": milliseconds(encoder_cpu),
        "command_core_ms": milliseconds(cpu),
        "everything_else_core_ms": round(1e3 * rest, 1),
    }


def children_time() -> float:
    """Processor seconds of finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median and least of a list of times."""
    return {"median": round(1e3 * median(seconds), 2), "min": round(1e3 * min(seconds), 2)}


def masks() -> dict[str, Any]:
    """Both contenders at every number of words, turn by turn, each in a fresh process."""
    rows = []
    for words in WORDS:
        ours, plain = ([contend_apart(kind, words) for _ in range(3)] for kind in ("ours", "plain"))
        row: dict[str, Any] = {"words": words}
        for name, runs in (("ours", ours), ("plain", plain)):
            row[name] = {
                "ms": round(median(run["ms"] for run in runs), 2),
                "product_ms": round(median(run["product_ms"] for run in runs), 2),
                "peak_mb": round(median(run["peak_mb"] for run in runs), 1),
            }
        row["speed_up"] = round(row["plain"]["ms"] / row["ours"]["ms"], 2)
        row["memory_share"] = round(row["ours"]["peak_mb"] / row["plain"]["peak_mb"], 3)
        row["equal_pixels"] = min(run["equal"] for run in ours)
        rows.append(row)
    frame = rows[0]["ours"]["ms"]
    return {
        "size": list(SIZE),
        "rows": rows,
        "ms_at_1000_over_ms_at_2": round(rows[-1]["ours"]["ms"] / frame, 2),
    }


def contend_apart(kind: str, words: int) -> dict[str, Any]:
    """Run a contender in a process of its own, for its peak memory."""
    run = [sys.executable, __file__, "--contender", kind, str(words)]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def contend(kind: str, words: int) -> dict[str, Any]:
    """Time the text product and the label map of one frame; peak memory above the start."""
    names = [spec.name for spec in parse_classes("@lvis")[:words]]
    segmenter = Segmenter(classes=names, background="none")
    dense = segmenter.encoder(sample_photo(SIZE)).dense
    queries = segmenter._words.queries
    label = ours if kind == "ours" else plain
    before = forget_peak()
    labels = label(dense, queries)
    memory_used = max(peak() - before, 2**17)
    times, products = [], []
    for _ in range(7 if words < 500 else 3):
        start = time.perf_counter()
        dense.reshape(-1, dense.shape[-1]) @ queries
        products.append(time.perf_counter() - start)
        start = time.perf_counter()
        label(dense, queries)
        times.append(time.perf_counter() - start)
    result = {
        "ms": 1e3 * median(times),
        "product_ms": 1e3 * median(products),
        "peak_mb": memory_used / 2**20,
    }
    if kind == "ours":
        result["equal"] = float((labels == plain(dense, queries)).mean())
    return result


def ours(dense: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Text product and label map as the segmenter makes them."""
    return label_map(dense, queries, np.arange(1, queries.shape[1] + 1), size=SIZE).labels


def plain(dense: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The plain loop: all query maps upsampled, then argmax."""
    logits = dense @ queries
    maps = [
        cv2.resize(np.ascontiguousarray(logits[..., q]), SIZE[::-1]) for q in range(len(queries.T))
    ]
    return np.stack(maps).argmax(axis=0) + 1


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
