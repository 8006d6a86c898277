"""Time and peak memory of dense CLIP on the CPU against plain open_clip; print JSON.

    python benchmarks/dense_clip.py [--models ViT-B-16 ViT-L-14] [--short-sides 336 448]

The same seeded weights, photo (720p), words and cores for each contender; each runs in a process of
its own, turn by turn:

- open_clip: its model for the picture's size, positions by its own `resize_pos_embed` (no
  antialias, as in ours), patch tokens through the last norm and the projection, cosine logits,
  `F.interpolate` to the picture's size, argmax.
- segmenter: the exported bundle (read-out vanilla, the same patch tokens) in `Segmenter`.
- dense_vit: our PyTorch tower and the segmenter's label map.

Times are of a picture, words encoded before. Peak memory is resident memory of the whole process,
start included, and of the segmentation alone, counted from the loaded model on. Ratios are
open_clip's value over ours: above 1, ours is the faster or smaller. Labels are compared pixel by
pixel.
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
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from process_memory import forget_peak, peak

from atas_deploy.core.bundle import WEIGHTS, Bundle
from atas_deploy.core.classes import parse_classes
from atas_deploy.core.geometry import encoder_size, resize_image
from atas_deploy.core.masks import label_map
from atas_deploy.core.templates import resolve_templates

Run = Callable[[], np.ndarray]
SIZE = (720, 1280)
PACKAGES = ("onnxruntime", "open_clip_torch", "torch")


def main() -> None:
    """Measure, or be one of the contenders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-B-16", "ViT-L-14"])
    parser.add_argument("--short-sides", nargs="+", type=int, default=[336, 448])
    parser.add_argument("--words", nargs="+", type=int, default=[20, 150])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=2, help="processes of each contender")
    parser.add_argument("--runs", type=int, default=3, help="pictures timed in each process")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(contend(**json.loads(args.contender))))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    report: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": args.threads,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {package: version(package) for package in PACKAGES},
        "picture": list(SIZE),
        "turns": args.turns,
        "runs": args.runs,
        "rows": [],
    }
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            prepare(name, Path(folder))
            for short_side in args.short_sides:
                for words in args.words:
                    row = compare(name, Path(folder), args, short_side=short_side, words=words)
                    report["rows"].append(row)
    print(json.dumps(report, indent=2))


def prepare(name: str, folder: Path) -> None:
    """Write the photo, and export a seeded model in a process that takes its memory with it."""
    from flat_memory import sample_photo

    np.save(folder / "photo.npy", sample_photo(SIZE))
    order = (
        "import sys, pathlib; from seeded import seeded_model; "
        "from atas_deploy.export.bundle import export_bundle; folder = pathlib.Path(sys.argv[2]); "
        "export_bundle(seeded_model(sys.argv[1], folder), folder / 'bundle', readout='vanilla')"
    )
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", order, name, folder], check=True, env=os.environ | here)


def compare(
    name: str, folder: Path, args: argparse.Namespace, *, short_side: int, words: int
) -> dict[str, Any]:
    """All contenders at one setting, turn by turn."""
    print(f"{name} {short_side} {words} words", file=sys.stderr, flush=True)
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in CONTENDERS}
    for _ in range(args.turns):
        for kind, results in runs.items():
            order = {"kind": kind, "name": name, "folder": str(folder), "short_side": short_side}
            order |= {"words": words, "runs": args.runs}
            command = [sys.executable, __file__, "--contender", json.dumps(order)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout))
    row: dict[str, Any] = {"model": name, "short_side": short_side, "words": words}
    row["encoder_input"] = runs["segmenter"][0]["encoder_input"]
    for kind, results in runs.items():
        keys = ("ms", "peak_mb", "segmenting_mb", "start_s")
        row[kind] = {key: round(median(run[key] for run in results), 1) for key in keys}
    plain = np.load(folder / "open_clip.npy")
    for kind in ("segmenter", "dense_vit"):
        row[f"open_clip_over_{kind}"] = {
            key: round(row["open_clip"][key] / row[kind][key], 2)
            for key in ("ms", "peak_mb", "segmenting_mb")
        }
        row[f"{kind}_equal_pixels"] = round(
            float((np.load(folder / f"{kind}.npy") == plain).mean()), 5
        )
    row["labels_found"] = len(np.unique(plain))
    return row


def contend(
    kind: str, name: str, folder: str, short_side: int, words: int, runs: int
) -> dict[str, Any]:
    """Be a contender: load the model, encode the words, then segment the photo again and again."""
    names = [spec.name for spec in parse_classes("@lvis")[:words]]
    photo, bundle = np.load(Path(folder) / "photo.npy"), Bundle.open(Path(folder) / "bundle")
    fitted = encoder_size(SIZE, short_side=short_side, multiple=bundle.manifest.patch_size)
    start = time.perf_counter()
    run = CONTENDERS[kind](bundle, name, names, photo, short_side)
    started = time.perf_counter() - start
    at_start = peak()
    forget_peak()
    labels = run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    np.save(Path(folder) / f"{kind}.npy", labels.astype(np.int64))
    return {
        "ms": 1e3 * median(times),
        "peak_mb": max(at_start, peak()) / 2**20,
        "segmenting_mb": peak() / 2**20,
        "start_s": started,
        "encoder_input": fitted,
    }


def segmenter(
    bundle: Bundle, name: str, names: list[str], photo: np.ndarray, short_side: int
) -> Run:
    """The exported bundle, as a user calls it."""
    from atas_deploy import Segmenter

    segment = Segmenter(bundle, names, background="none", short_side=short_side, cache=False)
    return lambda: segment(photo).labels.astype(int) - 1


def open_clip(
    bundle: Bundle, name: str, names: list[str], photo: np.ndarray, short_side: int
) -> Run:
    """open_clip's own model, its own text classifier, and PyTorch's interpolation."""
    import torch
    from open_clip import build_zero_shot_classifier, create_model, get_tokenizer
    from open_clip.model import resize_pos_embed
    from safetensors.torch import load_file
    from torch.nn import functional as F

    manifest = bundle.manifest
    size = encoder_size(SIZE, short_side=short_side, multiple=manifest.patch_size)
    model = create_model(name, load_weights=False, force_image_size=size).eval()
    state = load_file(bundle.path / WEIGHTS)
    resize_pos_embed(state, model, antialias=False)
    model.load_state_dict(state)
    model.visual.output_tokens = True
    prompts = [
        lambda word, t=template: t.format(word) for template in resolve_templates("default").prompts
    ]
    with torch.inference_mode():
        queries = build_zero_shot_classifier(model, get_tokenizer(name), names, prompts)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (manifest.mean, manifest.std))
    grid = [side // manifest.patch_size for side in size]

    @torch.inference_mode()
    def run() -> np.ndarray:
        pixels = torch.from_numpy(resize_image(photo, size)).permute(2, 0, 1) / 255
        _, tokens = model.visual(((pixels - mean) / std)[None])
        dense = F.normalize(tokens @ model.visual.proj, dim=-1)
        logits = (model.logit_scale.exp() * dense @ queries).transpose(1, 2).unflatten(2, grid)
        return F.interpolate(logits, photo.shape[:2], mode="bilinear").argmax(dim=1)[0].numpy()

    return run


def dense_vit(
    bundle: Bundle, name: str, names: list[str], photo: np.ndarray, short_side: int
) -> Run:
    """Our PyTorch towers, and the segmenter's label map."""
    import torch

    from atas_deploy.clip.weights import load_model
    from atas_deploy.core.vocabulary import build_vocabulary
    from atas_deploy.export.parity import TorchReference
    from atas_deploy.export.towers import build_towers
    from atas_deploy.runtime.text import TextFeatures

    model = load_model(bundle.path)
    towers = build_towers(model, "vanilla")
    backend = TorchReference(towers.image, towers.text)
    words = build_vocabulary(names, background="none")
    features = TextFeatures(backend, model.tokenizer(), templates="default")(words.queries)
    queries = np.float32(bundle.manifest.logit_scale) * features.T
    size = encoder_size(SIZE, short_side=short_side, multiple=bundle.manifest.patch_size)

    @torch.inference_mode()
    def run() -> np.ndarray:
        dense = backend.encode_images(resize_image(photo, size)[None]).dense[0]
        return label_map(dense, queries, words.query_class, size=SIZE).labels.astype(int) - 1

    return run


CONTENDERS = {"open_clip": open_clip, "segmenter": segmenter, "dense_vit": dense_vit}


if __name__ == "__main__":
    main()
