"""Read-out x resolution x window x background x refine on the development set, as a table.

    python benchmarks/readouts.py --data DATA [--markdown]

100 COCO panoptic images. Columns are mIoU in percent over the classes that occur in the truth:

- 133: the 133 categories compete, no background; 133/4: the same on every 4th image.
- present: only the categories present in an image compete in it.
- auto: the 80 things are asked for, all else is background; the automatic background words compete.
- t=0.2 and so on: the same without such words, but pixels of a lower probability are background.

PAMR is slow with many words: it is measured on `present`, and without windows on `133/4`. Windows
are 224 pixels, 112 apart, merged as features or as pixels. "stride 8" is the model's own read-out
with a patch every 8 pixels.

A picture is encoded once for each read-out, size and window. Results go line by line to the journal
(--journal), where an interrupted run finds them. The data set is the one that defaults were chosen
on: what is best here is tuned, and no estimate for other pictures.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from measure_quality import ROOT, percent
from PIL import Image

from atas_deploy import Segmenter
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.metrics import Areas, count_areas, iou
from atas_deploy.core.readouts import READOUTS
from atas_deploy.core.templates import resolve_templates
from atas_deploy.evaluation.truth import plain_name
from atas_deploy.models import open_model, weights_source

WINDOWS: dict[str, dict[str, Any]] = {
    "none": {},
    "features": {"window": 224, "stride": 112, "merge": "features"},
    "pixels": {"window": 224, "stride": 112, "merge": "pixels"},
}
THRESHOLDS = (0.2, 0.4, 0.6)
EVERY = 4  # of the images, where 133 categories are refined
COLUMNS = ("133", "133/4", "present", "auto", *(f"t={t}" for t in THRESHOLDS))
NOTE = "Defaults were chosen on these images: the best numbers are tuned."

Counts = dict[str, np.ndarray]


def main() -> None:
    """Measure what the journal lacks, then print all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--model", default="atas-tiny")
    parser.add_argument("--readouts", nargs="+", choices=READOUTS, default=READOUTS)
    parser.add_argument("--short-sides", nargs="+", type=int, default=[336, 448])
    parser.add_argument("--windows", nargs="+", choices=WINDOWS, default=list(WINDOWS))
    parser.add_argument("--patch-stride", type=int, default=8, help="of one more row; 0 = none")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--journal", type=Path, default=ROOT / "runs" / "readouts.jsonl")
    parser.add_argument("--markdown", action="store_true", help="print a table, not JSON")
    args = parser.parse_args()
    folder = args.data / "coco_panoptic_100"
    own = open_model(args.model)
    run = {"fingerprint": own.fingerprint[:16], "images": args.images, "columns": list(COLUMNS)}
    args.journal.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary, pool() as workers:
        for unit in units(args, own.manifest.readout):
            key = run | unit
            found = [row for row in read(args.journal) if key.items() <= row.items()]
            if not found:
                bundle = bundle_of(args.model, unit, Path(temporary))
                found = [key | row for row in measure(workers, bundle, unit, folder, args.images)]
                with args.journal.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
            rows += [
                {name: value for name, value in row.items() if name not in run} for row in found
            ]
    if args.markdown:
        print(markdown(rows))
    else:
        about = {
            "model": args.model,
            "note": NOTE,
            "templates": resolve_templates("default").prompts,
        }
        print(json.dumps({**about, **run, "rows": rows}, indent=2))


def units(args: argparse.Namespace, own_readout: str) -> Iterator[dict[str, Any]]:
    """Every way to encode an image; the finer grid last, as it is slow."""
    for readout, side, window in product(args.readouts, args.short_sides, args.windows):
        yield {"readout": readout, "stride": None, "short_side": side, "window": window}
    if args.patch_stride:
        unit = {"readout": own_readout, "stride": args.patch_stride, "window": "none"}
        yield from (unit | {"short_side": side} for side in args.short_sides)


def read(journal: Path) -> list[dict[str, Any]]:
    """Rows that earlier runs left; a last line that broke off does not count."""
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1] if journal.exists() else []
    return [json.loads(line) for line in lines]


def bundle_of(model: str, unit: dict[str, Any], folder: Path) -> Bundle:
    """The model with another read-out, or with a finer grid."""
    if unit["stride"] is None:
        return open_model(model, readout=unit["readout"])
    from atas_deploy.clip.weights import load_model
    from atas_deploy.export.bundle import export_bundle

    out = folder / f"stride-{unit['stride']}"
    if out.exists():
        return Bundle.open(out)
    weights = load_model(weights_source(model))
    return export_bundle(weights, out, readout=unit["readout"], stride=unit["stride"])


def pool() -> ProcessPoolExecutor:
    """One worker for each core, which it has to itself."""
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)
    count = len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(count, context, initializer=take_core, initargs=(cores,))


def take_core(cores: Any) -> None:
    """Keep this process to a core of its own, before any engine counts them."""
    os.sched_setaffinity(0, {cores.get()})


def measure(
    workers: ProcessPoolExecutor, bundle: Bundle, unit: dict[str, Any], folder: Path, images: int
) -> list[dict[str, Any]]:
    """Both rows of a way to encode: without and with PAMR."""
    start = time.monotonic()
    paths = sorted((folder / "images").glob("*.jpg"))[:images]
    orders = [(bundle.path, unit, path, i % EVERY == 0) for i, path in enumerate(paths)]
    totals: dict[str, Counts] = {"none": {}, "pamr": {}}
    for found in workers.map(count_image, orders):
        for refine, counts in found.items():
            for column, areas in counts.items():
                totals[refine][column] = totals[refine].get(column, 0) + areas
    seconds = round(time.monotonic() - start, 1)
    print(f"{unit}: {seconds} s", file=sys.stderr, flush=True)
    return [
        {
            "refine": refine,
            **{column: percent(miou(counts[column])) for column in COLUMNS if column in counts},
            "seconds": seconds,
        }
        for refine, counts in totals.items()
    ]


def count_image(order: tuple[Path, dict[str, Any], Path, bool]) -> dict[str, Counts]:
    """Pixels of each class, by refinement and column; the image is encoded once."""
    bundle, unit, path, quarter = order
    truth, names, things = read_truth(path)
    segmenter = open_segmenter(bundle, unit["short_side"], unit["window"])
    picture = segmenter.encoder(path)

    def label(
        words: list[str], *, refine: str = "none", background: str = "none", threshold: float = 0
    ) -> np.ndarray:
        segmenter.set_classes(words, background=background)
        return segmenter.label(picture, refine=refine, threshold=threshold).labels.astype(int)

    def among(chosen: list[int], refine: str) -> np.ndarray:
        labels = np.full(truth.shape, 1)
        if len(chosen) > 1:
            labels = label([names[i] for i in chosen], refine=refine)
        return count(truth, np.array(chosen)[labels - 1], classes=len(names))

    present = [i for i in np.unique(truth).tolist() if i != 255]
    everything = list(range(len(names)))
    plain, refined = {}, {"present": among(present, "pamr")}
    plain["133"] = among(everything, "none")
    plain["present"] = among(present, "none")
    if quarter:
        plain["133/4"] = plain["133"]
        if unit["window"] == "none" and unit["stride"] is None:
            refined["133/4"] = among(everything, "pamr")
    asked, wanted = thing_truth(truth, names, things)
    classes = len(asked) + 1
    plain["auto"] = count(wanted, label(asked, background="auto"), classes=classes)
    for threshold in THRESHOLDS:
        found = label(asked, threshold=threshold)
        plain[f"t={threshold}"] = count(wanted, found, classes=classes)
    return {"none": plain, "pamr": refined}


def count(truth: np.ndarray, labels: np.ndarray, *, classes: int) -> np.ndarray:
    """Hits, predicted and true pixels of each class (3, classes)."""
    areas = count_areas(truth, labels, classes=classes, void=255)
    return np.stack([areas.hits, areas.predicted, areas.truth])


def miou(counts: np.ndarray) -> float:
    """Mean IoU over the classes that occur in the truth."""
    areas = Areas(*counts)
    return float(np.mean(iou(areas)[areas.truth > 0]))


@lru_cache(maxsize=1)
def open_segmenter(bundle: Path, short_side: int, window: str) -> Segmenter:
    """One segmenter at a time; `count_image` sets its words."""
    return Segmenter(bundle, "a,b", short_side=short_side, **WINDOWS[window])


@cache
def categories(folder: Path) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Index of each category id (256,), names, and which are things (133,)."""
    found = json.loads((folder / "panoptic.json").read_text())["categories"]
    index_of = np.full(256, 255, np.uint8)
    index_of[[category["id"] for category in found]] = np.arange(len(found))
    names = [plain_name(category["name"]) for category in found]
    return index_of, names, np.array([bool(category["isthing"]) for category in found])


def read_truth(path: Path) -> tuple[np.ndarray, list[str], np.ndarray]:
    """The true category of each pixel (H, W), 255 = unlabelled; names; which are things."""
    folder = path.parents[1]
    index_of, names, things = categories(folder)
    truth = index_of[np.asarray(Image.open(folder / "semantic" / f"{path.stem}.png"))]
    return truth, names, things


def thing_truth(
    truth: np.ndarray, names: list[str], things: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Names of the things, and the truth with all else as background 0; 255 = unlabelled."""
    label_of = np.full(256, 255)
    label_of[: len(names)] = np.where(things, things.cumsum(), 0)
    return [name for name, thing in zip(names, things, strict=True) if thing], label_of[truth]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/results.md."""
    head = ["read-out", "short side", "window", "refine", *COLUMNS]
    lines = [" | ".join(head), " | ".join(["---"] * 4 + ["---:"] * len(COLUMNS))]
    for row in rows:
        readout = row["readout"] + (f", stride {row['stride']}" if row["stride"] else "")
        values = [f"{row[column]:.1f}" if column in row else "" for column in COLUMNS]
        place = [readout, str(row["short_side"]), row["window"], row["refine"]]
        lines.append(" | ".join([*place, *values]))
    return "\n".join([*(f"| {line} |" for line in lines), "", NOTE])


if __name__ == "__main__":
    main()
