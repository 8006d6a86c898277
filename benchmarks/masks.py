"""Label maps: are they exact, and what do they cost? Prints JSON.

    python benchmarks/masks.py [--images FOLDER] [--cases 1000] [--only exact cost]

- exact: random cases, and the pictures of a folder with atas-tiny and the 133 COCO panoptic
  classes, against the definition written out in float64: every query interpolated to full size,
  argmax. A pixel is wrong if the query that it got is more than 1e-6 behind the best one.
- cost: a 1080p frame at 2 to 1,000 words, against every map upsampled in turn with a running
  maximum (`cv2.resize`) and all at once (`torch` interpolate, then argmax), each in a process of
  its own, turn by turn: milliseconds and peak memory above the features, and the text product.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from process_memory import forget_peak, peak

from atas_deploy import Segmenter, __version__
from atas_deploy.core.classes import parse_classes
from atas_deploy.core.masks import label_map
from atas_deploy.runtime.threads import one_thread_each

SIZE = (1080, 1920)
WORDS = (2, 150, 1_000)
CONTENDERS = ("ours", "cv2", "torch")
TIE = 1e-6


def main() -> None:
    """Run the measurements asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs")
    parser.add_argument("--cases", type=int, default=1000, help="random ones")
    parser.add_argument("--only", nargs="+", choices=["exact", "cost"])
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
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
    if args.only is None or "exact" in args.only:
        report["exact"] = {"random": random_cases(args.cases)}
        if args.images:
            report["exact"]["pictures"] = pictures(args.images)
    if args.only is None or "cost" in args.only:
        report["cost"] = {"size": list(SIZE), "rows": cost()}
    print(json.dumps(report, indent=2))


def random_cases(count: int) -> dict[str, Any]:
    """Grids, queries and sizes of all kinds, among them single cells and shrinking."""
    rng = np.random.default_rng(0)
    pixels = wrong = 0
    for _ in range(count):
        h, w = rng.integers(1, 12, 2)
        queries = rng.normal(0, 1, (8, rng.integers(1, 60))).astype(np.float32)
        dense = rng.normal(0, 1, (h, w, 8)).astype(np.float32)
        size = int(rng.integers(1, 120)), int(rng.integers(1, 120))
        found = check(dense, queries * np.float32(rng.choice([0.1, 1, 30])), size)
        pixels, wrong = pixels + found[0], wrong + found[1]
    return {"cases": count, "pixels": pixels, "wrong": wrong}


def pictures(folder: Path) -> dict[str, Any]:
    """Real features and words, labels at the size of each picture."""
    segmenter = Segmenter("atas-tiny", classes="@coco_panoptic", background="none")
    pixels = wrong = count = 0
    for path in sorted(folder.glob("*.jpg")):
        picture = segmenter.encoder(path)
        found = check(picture.dense, segmenter._words.queries, picture.size)
        pixels, wrong, count = pixels + found[0], wrong + found[1], count + 1
    return {"pictures": count, "pixels": pixels, "wrong": wrong}


def check(dense: np.ndarray, queries: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Pixels, and those whose query is behind another one, by the definition in float64."""
    labels = label_map(dense, queries, np.arange(1, queries.shape[1] + 1), size=size).labels
    logits = dense.astype(np.float64) @ queries.astype(np.float64)
    (top, bottom, fy), (left, right, fx) = (
        place(n, pixels) for n, pixels in zip(logits.shape[:2], size, strict=True)
    )
    wrong = 0
    for y in range(size[0]):  # a row of pixels at a time: (W, Q)
        row = (1 - fy[y]) * logits[top[y]] + fy[y] * logits[bottom[y]]
        full = (1 - fx[:, None]) * row[left] + fx[:, None] * row[right]
        got = np.take_along_axis(full, labels[y, :, None].astype(np.intp) - 1, axis=1)[:, 0]
        wrong += int((full.max(axis=1) - got > TIE * np.maximum(1, abs(got))).sum())
    return labels.size, wrong


def place(nodes: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both neighbours of every pixel and its way between them: half-pixel centres, clamped."""
    at = np.clip((np.arange(pixels) + 0.5) * nodes / pixels - 0.5, 0, nodes - 1)
    first = np.floor(at).astype(np.intp)
    return first, np.minimum(first + 1, nodes - 1), at - first


def cost() -> list[dict[str, Any]]:
    """All contenders at every number of words, turn by turn."""
    rows = []
    for words in WORDS:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(2):
            for name in CONTENDERS:
                run = [sys.executable, __file__, "--contender", name, str(words)]
                done = subprocess.run(run, check=True, capture_output=True, text=True)
                runs[name].append(json.loads(done.stdout))
        row: dict[str, Any] = {"words": words}
        for name in CONTENDERS:
            row[name] = {
                key: round(median(run[key] for run in runs[name]), 2) for key in runs[name][0]
            }
        for name in CONTENDERS[1:]:
            row[f"times_as_fast_as_{name}"] = round(row[name]["ms"] / row["ours"]["ms"], 1)
            row[f"memory_share_of_{name}"] = round(row["ours"]["peak_mb"] / row[name]["peak_mb"], 4)
        rows.append(row)
    return rows


def contend(name: str, words: int) -> dict[str, Any]:
    """Time text product and label map of one frame; peak memory above the start."""
    label = {"ours": ours, "cv2": by_cv2, "torch": by_torch}[name]
    names = [spec.name for spec in parse_classes("@lvis")[:words]]
    segmenter = Segmenter(classes=names, background="none")
    dense, queries = segmenter.encoder(frame()).dense, segmenter._words.queries
    if name == "torch":
        label(dense[:2, :2], queries)  # its import is not its memory
    with one_thread_each() if name == "ours" else nullcontext():
        before = forget_peak()
        labels = label(dense, queries)
        used = max(peak() - before, 2**17)
        times, products = [], []
        for _ in range(7 if words < 500 else 3):
            start = time.perf_counter()
            dense.reshape(-1, dense.shape[-1]) @ queries
            products.append(time.perf_counter() - start)
            start = time.perf_counter()
            label(dense, queries)
            times.append(time.perf_counter() - start)
    return {
        "ms": 1e3 * median(times),
        "product_ms": 1e3 * median(products),
        "peak_mb": used / 2**20,
        "equal": float((labels == ours(dense, queries)).mean()),
    }


def frame() -> np.ndarray:
    """The sample photo of scikit-learn at 1080p."""
    from sklearn.datasets import load_sample_image

    photo = load_sample_image("china.jpg")
    return cv2.resize(photo, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def ours(dense: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """As the segmenter does, on one thread, as in a job."""
    return label_map(dense, queries, np.arange(1, queries.shape[1] + 1), size=SIZE).labels


def by_cv2(dense: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """One map after the other, and a running maximum: memory O(H W)."""
    logits = np.ascontiguousarray((dense @ queries).transpose(2, 0, 1))
    best = np.full(SIZE, -np.inf, np.float32)
    winner = np.zeros(SIZE, np.uint16)
    for q, cells in enumerate(logits):
        current = cv2.resize(cells, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
        np.copyto(winner, q, where=current > best)
        np.maximum(best, current, out=best)
    return winner + 1


def by_torch(dense: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """All maps at once, as most published code does: memory O(Q H W)."""
    import torch

    logits = torch.from_numpy(dense @ queries).permute(2, 0, 1)[None].contiguous()
    maps = torch.nn.functional.interpolate(logits, SIZE, mode="bilinear", align_corners=False)
    return maps[0].max(dim=0).indices.numpy() + 1


if __name__ == "__main__":
    main()
