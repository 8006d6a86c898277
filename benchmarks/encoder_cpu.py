"""How near is the image encoder to what the CPU can do? Prints JSON.

    python benchmarks/encoder_cpu.py [--model atas-tiny] [--size 384x688] [--runs 10]

Contenders, each in a process of its own, turn by turn; milliseconds an image, peak memory above the
loaded model, and how near the dense features are to those of the portable graph (cosines):

- portable: the graph that every engine reads, all threads.
- shipped: the bundle's graph for the CPU (fused attention), as `segment` runs it on one picture.
- two_at_once: the same, two pictures at a time on half of the threads, as `segment` runs a video.
- one_thread, spinning, unoptimised: the graph for the CPU on one thread; with threads that spin
  while they wait; without ONNX Runtime's own optimisations.
- int8: linear layers of the portable graph by dynamic quantisation, weights and activations int8.

`share_of_matrix_peak` is arithmetic a second over that of a large product in ONNX Runtime.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import onnxruntime
from process_memory import forget_peak, peak

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.ort_threads import thread_count
from atas_deploy.bench.flops import count_flops
from atas_deploy.bench.peak import matrix_peak
from atas_deploy.core.bundle import CPU_ENCODER, IMAGE_ENCODER, Bundle
from atas_deploy.models import open_model

CONTENDERS = (
    *("portable", "shipped", "two_at_once"),
    *("one_thread", "spinning", "unoptimised", "int8"),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="atas-tiny", help="a bundle in fp32")
    parser.add_argument("--size", default="384x688", help="of the encoder's input, HxW")
    parser.add_argument("--runs", type=int, default=10, help="in each turn")
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    bundle, size = open_model(args.model), tuple(int(side) for side in args.size.split("x"))
    if args.contender:
        name, features = args.contender
        print(json.dumps(contend(name, bundle, photo(size), args.runs, Path(features))))
        return
    report = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": thread_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "onnxruntime": version("onnxruntime"),
        "model": bundle.manifest.name,
        "size": list(size),
        "contenders": measure(args),
    }
    print(json.dumps(report, indent=2))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Two turns of each contender."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            for name in CONTENDERS:
                options = ["--model", args.model, "--size", args.size, "--runs", str(args.runs)]
                command = [sys.executable, __file__, *options, "--contender", name]
                done = subprocess.run(
                    [*command, f"{folder}/features.npy"], check=True, capture_output=True, text=True
                )
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    found = {}
    for name, turns in runs.items():
        row = {key: median(turn[key] for turn in turns) for key in turns[0]}
        ratios = [a["ms"] / b["ms"] for a, b in zip(runs["portable"], turns, strict=True)]
        row["times_as_fast_as_portable"] = median(ratios)
        found[name] = {key: round(value, 4) for key, value in row.items()}
    return found


def contend(name: str, bundle: Bundle, image: np.ndarray, runs: int, kept: Path) -> dict[str, Any]:
    """Time one contender; the portable graph leaves its features for the others."""
    with tempfile.TemporaryDirectory() as folder:
        encode = opened(name, bundle, Path(folder))
        dense = encode(image)
    if name == "portable":
        np.save(kept, dense)
    cosines = (dense * np.load(kept)).sum(axis=-1)
    at_once = 2 if name == "two_at_once" else 1
    before, times = forget_peak(), []
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(encode, [image] * at_once))
        for _ in range(runs):
            start = time.perf_counter()
            list(pool.map(encode, [image] * (2 * at_once)))
            times.append((time.perf_counter() - start) / (2 * at_once))
    used, seconds = peak() - before, median(times)
    (flops,) = count_flops(bundle, [(image.shape[1], image.shape[2])])
    fastest, _ = matrix_peak("cpu", "fp32")
    return {
        "ms": 1e3 * seconds,
        "peak_mb": used / 2**20,
        "share_of_matrix_peak": flops / seconds / fastest,
        "cosine_mean": float(cosines.mean()),
        "cosine_p1": float(np.percentile(cosines, 1)),
        "cosine_min": float(cosines.min()),
    }


def opened(name: str, bundle: Bundle, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What a contender encodes with."""
    if name in ("shipped", "two_at_once"):
        backend = OrtBackend(bundle)
        return lambda image: backend.encode_images(image).dense
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if name == "one_thread" else thread_count()
    spin = "1" if name == "spinning" else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spin)
    if name == "unoptimised":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = bundle.path / (IMAGE_ENCODER if name in ("portable", "int8") else CPU_ENCODER)
    if name == "int8":
        path = quantised(path, folder)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(["dense"], {"images": image})[0])


def quantised(path: Path, folder: Path) -> Path:
    """The linear layers in int8; weights that are stored as float16 are cast first."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    quantize_dynamic(
        folder / "folded.onnx",
        folder / "int8.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    return folder / "int8.onnx"


def photo(size: tuple[int, ...]) -> np.ndarray:
    """The sample photo of scikit-learn, (1, H, W, 3) uint8."""
    from sklearn.datasets import load_sample_image

    image = cv2.resize(load_sample_image("china.jpg"), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(image, np.uint8)[None]


if __name__ == "__main__":
    main()
