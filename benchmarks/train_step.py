"""Time and peak memory of a training step, ATAS and CLIPSelf, against a plain one; print JSON.

    python benchmarks/train_step.py [--model ViT-B-16] [--methods atas clipself] [--device cuda]

Seeded weights and pictures. Each contender runs in a process of its own, turn by turn, and takes
whole optimizer steps, its data included:

- plain: the published code's structure, float32, see `plain_training.py`.
- fp32, bf16: this project's objective, loader and optimizer, as `atas-deploy train` puts them
  together; ATAS with the teacher's embeddings of whole images cached, as in every epoch but the
  first.
- first_epoch: bf16 without that cache.
- compiled, checkpointing: bf16 with `torch.compile`, and with activation checkpointing.

All see the same pictures in the same order, as many patches, and regions of the same grids. ATAS
has InfoNCE with softmax pooling and row norms, at CLIP's scale. Ratios are our images per second
over the plain step's, and its peak memory over ours: above 1, ours is the faster or smaller.
`step_core_s` is processor time of the main process, which other programs disturb less. Peak memory
is resident memory of the whole process on a CPU, memory of tensors on a GPU. `matrix_share`
is the share of a matrix product's speed, measured here in the same precision; its operations are
those of PyTorch's counter for one step, what checkpointing computes again left out. The losses of
the first step differ by how pictures are resized.
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
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from plain_training import (
    MOST_CROPS,
    RELATIONS,
    SCALE,
    AtasData,
    ClipSelfData,
    Normalise,
    PlainStep,
)
from process_memory import forget_peak, peak
from seeded import seeded_model
from torch.utils.flop_counter import FlopCounterMode

from atas_deploy import __version__
from atas_deploy.training.distributed import SINGLE
from atas_deploy.training.images import open_images
from atas_deploy.training.loader import BatchLoader
from atas_deploy.training.loop import Hooks, LoopSettings
from atas_deploy.training.methods import open_data, open_method
from atas_deploy.training.resolve import Given, resolve
from atas_deploy.training.trainer import Trainer

Step = Callable[[], float]
PICTURE = (480, 640)
PACKAGES = ("torch", "open_clip_torch")
OURS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {},
    "first_epoch": {"teacher_cache": None},
    "compiled": {"compile": True},
    "checkpointing": {"grad_checkpointing": True},
}
CONTENDERS = {"cpu": ["plain", "fp32", "bf16"], "cuda": ["plain", *OURS]}
ATAS = {
    "readout": "vanilla",
    "temperature": 1 / SCALE,
    "pooling_temperature": 1 / SCALE,
    "local_form": "infonce",
    "global_form": "infonce",
    "relation_reduction": "row-norm",
    "global_to_local": 1.0,
    "local_to_local": RELATIONS,
    "global_to_global": 1.0,
    "weight_decay": 0.1,
    "crop_scale": 1.0,
    "views": 1,
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step does.

    Attributes:
        method: "atas" or "clipself".
        model: open_clip's name.
        device: "cpu" or "cuda".
        size: side of a mosaic, or of CLIPSelf's large picture.
        batch: images.
        grid: cells on a side of a mosaic, or at most those of CLIPSelf's grids.
        workers: processes that load.
    """

    method: str
    model: str
    device: str
    size: int
    batch: int
    grid: int
    workers: int


DEFAULTS = {
    ("cpu", "atas"): {"size": 448, "batch": 4, "grid": 2},
    ("cpu", "clipself"): {"size": 448, "batch": 1, "grid": 6},
    ("cuda", "atas"): {"size": 960, "batch": 144, "grid": 6},
    ("cuda", "clipself"): {"size": 1024, "batch": 8, "grid": 6},
}


def main() -> None:
    """Measure, or be one of the contenders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--methods", nargs="+", default=["atas", "clipself"])
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], help="default: cuda where there is one"
    )
    parser.add_argument("--contenders", nargs="+", choices=["plain", *OURS])
    parser.add_argument("--size", type=int, help="side of a mosaic or large picture")
    parser.add_argument("--batch", type=int, help="images a step")
    parser.add_argument("--grid", type=int, help="cells on a side")
    parser.add_argument("--workers", type=int, help="default: 0 on a CPU, all cores with a GPU")
    parser.add_argument("--turns", type=int, default=2, help="processes of each contender")
    parser.add_argument("--warm-up", type=int, help="default: 1 on a CPU, 5 on a GPU")
    parser.add_argument("--steps", type=int, help="timed in each process: 1 on a CPU, 20 on a GPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(be(**json.loads(args.child))))
        return
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    report = {"atas_deploy": __version__, **hardware(device), "model": args.model}
    report |= {"turns": args.turns, "rows": []}
    speed = {"before": child("matrix", device=device)}
    for method in args.methods:
        report["rows"].append(compare(args, settle(args, method, device)))
    speed["after"] = child("matrix", device=device)
    report["matrix_tflops"] = {p: max(each[p] for each in speed.values()) for p in ("fp32", "bf16")}
    for row in report["rows"]:
        add_ratios(row, report["matrix_tflops"])
    print(json.dumps(report, indent=2))


def hardware(device: str) -> dict[str, Any]:
    """What it runs on, and with which versions."""
    found: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {package: version(package) for package in PACKAGES},
        "device": device,
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})


def settle(args: argparse.Namespace, method: str, device: str) -> Work:
    """The work of a method, by default what suits the device."""
    given = {key: getattr(args, key) for key in ("size", "batch", "grid")}
    sizes = DEFAULTS[device, method] | {k: v for k, v in given.items() if v is not None}
    workers = args.workers
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if device == "cuda" else 0
    work = Work(method=method, model=args.model, device=device, workers=workers, **sizes)
    if method == "atas" and work.batch % work.grid**2:
        raise SystemExit(f"A batch of {work.batch} does not fill mosaics of {work.grid}^2 cells.")
    return work


def compare(args: argparse.Namespace, work: Work) -> dict[str, Any]:
    """All contenders at one method, turn by turn."""
    gpu = work.device == "cuda"
    lengths = {
        "warm_up": args.warm_up or (5 if gpu else 1),
        "steps": args.steps or (20 if gpu else 1),
    }
    kinds = list(args.contenders or CONTENDERS[work.device])
    if work.method == "clipself" and "first_epoch" in kinds:  # nothing is cached
        kinds.remove("first_epoch")
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(Path(folder) / "pictures", work.batch)
        shared = {"work": asdict(work), "folder": folder}
        counted = child("count", **shared, **lengths)
        for _ in range(args.turns):
            for kind, results in runs.items():
                results.append(child("contend", kind=kind, **shared, **lengths))
    return asdict(work) | lengths | counted | {kind: middle(own) for kind, own in runs.items()}


def draw_pictures(folder: Path, count: int) -> None:
    """Seeded pictures as files: parts of the sample photo with some grain."""
    from flat_memory import sample_photo

    folder.mkdir()
    photo, rng = sample_photo((2 * PICTURE[0], 2 * PICTURE[1])), np.random.default_rng(0)
    for i in range(count):
        y, x = (int(rng.integers(side)) for side in PICTURE)
        grain = rng.integers(0, 32, (*PICTURE, 3), np.uint8)
        picture = cv2.add(photo[y : y + PICTURE[0], x : x + PICTURE[1]], grain)
        cv2.imwrite(str(folder / f"{i:04d}.jpg"), picture[..., ::-1])


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the steps of all processes."""
    seconds = [second for run in runs for second in run["seconds"]]
    core_seconds = [second for run in runs for second in run["core_seconds"]]
    return {
        "step_s": round(median(seconds), 4),
        "step_core_s": round(median(core_seconds), 4),
        "steps_s": [round(second, 4) for second in seconds],
        "peak_mb": round(median(run["peak_mb"] for run in runs), 1),
        "first_loss": round(runs[0]["first_loss"], 4),
    }


def add_ratios(row: dict[str, Any], matrix_tflops: dict[str, float]) -> None:
    """Images per second, ratios to the plain step, and shares of the matrix product's speed."""
    plain = row.get("plain")
    for kind in ("plain", *OURS):
        if (own := row.get(kind)) is None:
            continue
        own["images_per_second"] = round(row["batch"] / own["step_s"], 3)
        if kind == "plain":
            continue
        name = "tflop_first_epoch" if kind == "first_epoch" else "tflop"
        speed = matrix_tflops["fp32" if kind == "fp32" else "bf16"]
        own["matrix_share"] = round(row[name] / own["step_s"] / speed, 3)
        if plain:
            own["speed_over_plain"] = round(plain["step_s"] / own["step_s"], 2)
            own["plain_core_s_over_ours"] = round(plain["step_core_s"] / own["step_core_s"], 2)
            own["plain_memory_over_ours"] = round(plain["peak_mb"] / own["peak_mb"], 2)


def child(task: str, **options: Any) -> dict[str, Any]:
    """Do a task in a process of its own."""
    told = {key: value for key, value in options.items() if key in ("kind", "device")}
    print(task, *told.values(), file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--child", json.dumps({"task": task, **options})]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def be(task: str, **options: Any) -> dict[str, Any]:
    """Do a task in this process."""
    if task == "matrix":
        return {p: matrix_speed(options["device"], p) for p in ("fp32", "bf16")}
    work = Work(**options.pop("work"))
    folder = Path(options.pop("folder"))
    return count(work, folder, **options) if task == "count" else contend(work, folder, **options)


def contend(work: Work, folder: Path, kind: str, warm_up: int, steps: int) -> dict[str, Any]:
    """Take steps; time and memory."""
    take = plain(work, folder) if kind == "plain" else ours(work, folder, kind)
    started = forget_peak()
    first_loss, *_ = [take() for _ in range(warm_up)]
    seconds, core_seconds = [], []
    for _ in range(steps):
        wait(work.device)
        start, used = time.perf_counter(), time.process_time()
        take()
        wait(work.device)
        seconds.append(time.perf_counter() - start)
        core_seconds.append(time.process_time() - used)
    gpu = work.device == "cuda"
    most = torch.cuda.max_memory_allocated() if gpu else max(started, peak())
    times = {"seconds": seconds, "core_seconds": core_seconds}
    return {**times, "peak_mb": most / 2**20, "first_loss": first_loss}


def count(work: Work, folder: Path, warm_up: int, steps: int) -> dict[str, Any]:
    """Operations of our steps: the first one, in which nothing is cached, and the timed ones."""
    take, found = ours(work, folder, "bf16", cache="cache-count"), []
    for _ in range(warm_up + steps):
        with FlopCounterMode(display=False) as counter:
            take()
        found.append(round(counter.get_total_flops() / 1e12, 4))
    return {"tflop_first_epoch": found[0], "tflop": round(median(found[warm_up:]), 4)}


def ours(work: Work, folder: Path, kind: str, *, cache: str | None = None) -> Step:
    """This project's step, put together as the command does."""
    options: dict[str, Any] = {"method": work.method, "images": (str(folder / "pictures"),)}
    options |= {"batch_size": work.batch, "size": work.size}
    options |= {"device": work.device, "precision": "bf16", "workers": work.workers}
    if work.method == "atas":
        options |= {**ATAS, "grids": (work.grid,), "teacher_cache": folder / (cache or kind)}
    else:
        options |= {"max_grid": work.grid, "max_regions": MOST_CROPS, "watch_every": 0}
    run = resolve(Given(options | OURS[kind]))
    clip = seeded_model(work.model, folder)
    clip.model.to(work.device)
    objective = open_method(run, clip, open_data(run), SINGLE).objective
    many = 10**9
    settings = LoopSettings(
        steps=many,
        learning_rate=1e-5,
        precision=run.options.precision,
        log_every=1,
        save_every=many,
    )
    trainer = Trainer(objective, settings, folder=folder, hooks=Hooks(), group=SINGLE)
    clip.model.train()

    def take() -> float:
        trainer.advance()
        return trainer.last_row["loss"]

    return take


def plain(work: Work, folder: Path) -> Step:
    """The plain step."""
    clip = seeded_model(work.model, folder)
    clip.model.to(work.device)
    normalise, side = Normalise(clip.mean, clip.std), clip.model.visual.image_size[0]
    kind = AtasData if work.method == "atas" else ClipSelfData
    data = kind(normalise, side, work.size, work.grid)
    images = open_images([str(folder / "pictures")])
    options = {"batch_size": work.batch, "seed": 0, "workers": work.workers}
    loader = BatchLoader(images, data, collate=data.collate, **options)
    step, taken = PlainStep(clip, work.method, data), iter(range(10**9))
    return lambda: step(loader.batch(next(taken)).data)


def matrix_speed(device: str, precision: str) -> float:
    """Best speed of a product of large square matrices, in TFLOP/s."""
    side, kind = (8192 if device == "cuda" else 2048), getattr(torch, DTYPES[precision])
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(20 if device == "cuda" else 5):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - start)
    return round(2 * side**3 / min(seconds) / 1e12, 4)


DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
