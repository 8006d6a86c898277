"""Export models in every precision; measure, and print JSON (or a table of it).

    python benchmarks/exports.py > exports.json
    python benchmarks/exports.py --models ViT-L-14 --precisions fp32 > large.json
    python benchmarks/exports.py --table exports.json large.json

For each model and precision:

- export: seconds of the whole export with its proofs, and megabytes of the image encoder;
- parity: the worst figures against PyTorch in float32 over all images of the proof, by output;
- latency of one image in ONNX Runtime (CPU), by size: milliseconds, the median of runs that
  alternate with PyTorch eager (float32) in this process, and the ratio (above 1: ONNX Runtime is
  faster). bf16 has none: ONNX Runtime has no such product on the CPU;
- engine: seconds and megabytes of a TensorRT-RTX build for one capability. Without a GPU an engine
  is not run, so that it computes the right thing is not shown here.

`atas-tiny` has its own weights, the others seeded random ones.
"""

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from seeded import seeded_model

from atas_deploy.backends.base import Backend
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.trt.builder import build_engine
from atas_deploy.backends.trt.machine import find_machine
from atas_deploy.backends.trt.profiles import default_profiles
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import IMAGE_DATA, IMAGE_ENCODER, PARITY, Bundle
from atas_deploy.export.bundle import export_bundle
from atas_deploy.export.lower import OPSETS
from atas_deploy.export.parity import TorchReference
from atas_deploy.export.towers import build_towers
from atas_deploy.models import weights_source

MODELS = ("atas-tiny", "ViT-B-16")
SIZES = ((224, 224), (336, 336), (448, 448), (448, 800))
PACKAGES = ("torch", "onnx", "onnxruntime", "tensorrt-rtx")
FIGURES = ("cosine_mean", "cosine_p1", "cosine_min", "agreement", "agreement_clear")
TARGET = "8.9"


def main() -> None:
    """Measure and print, or print the table of what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="atas-tiny, open_clip's")
    parser.add_argument("--precisions", nargs="+", choices=list(OPSETS), default=list(OPSETS))
    parser.add_argument("--runs", type=int, default=5, help="of each size and contender")
    parser.add_argument("--table", nargs="+", type=Path, metavar="JSON", help="print these, only")
    args = parser.parse_args()
    if args.table:
        print("\n".join(table([json.loads(path.read_text("utf-8")) for path in args.table])))
        return
    report: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {package: version(package) for package in PACKAGES},
        "models": {},
    }
    for name in args.models:
        report["models"][name] = measure(name, args.precisions, args.runs)
        gc.collect()
    print(json.dumps(report, indent=2))


def measure(name: str, precisions: list[str], runs: int) -> dict[str, Any]:
    """Everything about a model, by precision."""
    found = {}
    for precision in precisions:
        note(f"{name} {precision}")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            embedded = name == "atas-tiny"
            model = load_model(weights_source(name)) if embedded else seeded_model(name, folder)
            start = time.monotonic()
            bundle = export_bundle(model, folder / "bundle", precision=precision, weights=False)
            seconds = time.monotonic() - start
            found[precision] = {
                "export_s": round(seconds, 1),
                "image_encoder_MB": round(encoder_size(bundle) / 1e6, 1),
                "parity": parity(bundle),
                "latency": None if precision == "bf16" else latency(bundle, model, runs),
                "engine": engine(bundle, model),
            }
    return found


def encoder_size(bundle: Bundle) -> int:
    """Bytes of the image encoder with its weights."""
    return sum(
        record.size
        for path, record in bundle.manifest.files.items()
        if path in (IMAGE_ENCODER, IMAGE_DATA)
    )


def parity(bundle: Bundle) -> dict[str, Any]:
    """The worst figures of each stage of the proof, by output."""
    proof = json.loads((bundle.path / PARITY).read_text("utf-8"))
    return {
        stage["stage"]: {
            output: {name: figures[name] for name in FIGURES if figures[name] is not None}
            for output, figures in stage["worst"].items()
        }
        for stage in proof["stages"]
    }


def latency(bundle: Bundle, model: ClipModel, runs: int) -> dict[str, Any]:
    """Milliseconds of one image in ONNX Runtime and in PyTorch, by size."""
    towers = build_towers(model, bundle.manifest.readout)
    contenders: dict[str, Backend] = {
        "onnxruntime": OrtBackend(bundle),
        "torch": TorchReference(towers.image, towers.text),
    }
    rng, found = np.random.default_rng(0), {}
    for height, width in SIZES:
        multiple = bundle.manifest.multiple
        size = (height // multiple * multiple, width // multiple * multiple)
        images = rng.integers(0, 256, (1, *size, 3), np.uint8)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(runs + 1):
            for name, backend in contenders.items():
                seconds = timed(backend, images)
                if turn:  # the first one warms up
                    times[name].append(seconds)
        row = {f"{name}_ms": round(1000 * median(each), 1) for name, each in times.items()}
        ratio = median(times["torch"]) / median(times["onnxruntime"])
        found["x".join(map(str, size))] = {**row, "speed_up": round(ratio, 2)}
    return found


def engine(bundle: Bundle, model: ClipModel) -> dict[str, Any]:
    """Seconds and megabytes of a TensorRT-RTX build with the default profiles."""
    manifest = bundle.manifest
    trained = max(build_towers(model, manifest.readout).image.tower.trained_size)
    profiles = default_profiles(
        short_side=manifest.short_side, trained_size=trained, multiple=manifest.multiple
    )
    machine = find_machine("tensorrt-rtx", targets=[TARGET])
    start = time.monotonic()
    record, _ = build_engine(bundle, machine, profiles=profiles)
    return {
        "target": TARGET,
        "profiles": [str(profile) for profile in profiles],
        "build_s": round(time.monotonic() - start, 1),
        "MB": round(record.size / 1e6, 1),
        "proven": record.proven,
    }


def timed(backend: Backend, images: np.ndarray) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    backend.encode_images(images)
    return time.perf_counter() - start


def table(reports: list[dict[str, Any]]) -> list[str]:
    """Markdown: a line for each model and precision.

    Low precisions are judged by their op-by-op stage: ONNX Runtime's CPU computes more exactly.
    """
    sizes = ["x".join(map(str, size)) for size in SIZES]
    head = ["model", "precision", "export", "encoder", "cosine of patches (mean / 1 % / least)"]
    head += ["same class (all / clear)", *sizes, "engine"]
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * (len(head) - 2)}"]
    for name, found in ((n, f) for report in reports for n, f in report["models"].items()):
        for precision, figures in found.items():
            cells = [name, precision, *cells_of(figures, sizes)]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def cells_of(figures: dict[str, Any], sizes: list[str]) -> list[str]:
    """What follows model and precision in a line of the table."""
    stages = figures["parity"]
    judged = [name for name in stages if "op by op" in name] or list(stages)
    dense = stages[judged[-1]]["dense"]
    cosines = " / ".join(f"{dense[name]:.6f}" for name in FIGURES[:3])
    shares = " / ".join(f"{100 * dense[name]:.1f} %" for name in FIGURES[3:] if name in dense)
    rows = list((figures["latency"] or {}).values()) or [None] * len(sizes)
    times = [
        f"{row['onnxruntime_ms']:.0f} ms ({row['speed_up']:.2f})" if row else "-" for row in rows
    ]
    engine = figures["engine"]
    size = f"{figures['image_encoder_MB']:.1f} MB"
    built = f"{engine['build_s']:.1f} s, {engine['MB']:.1f} MB"
    return [f"{figures['export_s']:.1f} s", size, cosines, shares, *times, built]


def note(text: str) -> None:
    """Say on standard error what is going on."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
