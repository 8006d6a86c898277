"""Measure a model on the development data with the tasks of `atas-deploy eval`, and print JSON.

    python benchmarks/measure_quality.py --data DATA [--model atas-tiny] [--short-side 336]

- segmentation, coherence, regions, localization: 100 COCO panoptic images. Choices (read-out,
  recipe, prompts, weight of the crop) were tuned on these images.
- regions/clipself: the same regions with CLIPSelf's 63 prompts.
- retrieval: the 1,000 held-out Flickr8k images of `training/data/flickr8k_heldout.txt` (no caption
  or image of them was trained on).
- flicker: of a street video, with --smooth 0 and 0.6.
- dog: IoU of "dog" on ten hand-labelled frames of that video, automatic background.

Scores come with 95 % intervals from 1,000 bootstrap replicates over images.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from dev_tasks import DATA, DevTasks

from atas_deploy import Segmenter
from atas_deploy.core.bundle import Bundle
from atas_deploy.evaluation.clips import video_clip
from atas_deploy.evaluation.report import to_json
from atas_deploy.evaluation.task import Task, run_task
from atas_deploy.evaluation.video import VideoTask
from atas_deploy.media.video import VideoReader
from atas_deploy.models import open_model

ROOT = Path(__file__).resolve().parents[1]
DOG_POLYGONS = ROOT / "benchmarks" / "data" / "dog_polygons.json"
VIDEO = Path("video", "01_dog.mp4")

Measure = Callable[[], dict[str, Any]]


def main() -> None:
    """Run the measurements asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", default="atas-tiny")
    parser.add_argument("--readout", help="of dense features; default: the model's")
    parser.add_argument("--short-side", type=int, help="but of retrieval; default: the model's")
    parser.add_argument("--refine", choices=["none", "pamr"], default="none", help="masks")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="as in the results")
    args = parser.parse_args()
    bundle = open_model(args.model, readout=args.readout)
    if args.short_side:
        manifest = replace(bundle.manifest, short_side=args.short_side)
        bundle = replace(bundle, manifest=manifest)
    report: dict[str, Any] = {
        "model": bundle.manifest.name,
        "readout": bundle.manifest.readout,
        "short_side": bundle.manifest.short_side,
        "refine": args.refine,
        "fingerprint": bundle.fingerprint[:16],
    }
    for name, measure in measures(bundle, args.data, args.refine).items():
        if args.only is None or name in args.only:
            start = time.monotonic()
            report[name] = measure()
            report[name]["seconds"] = round(time.monotonic() - start, 1)
    print(json.dumps(report, indent=2))


def measures(bundle: Bundle, data: Path, refine: str) -> dict[str, Measure]:
    """What can be measured, by name; models and data are opened when it is."""
    tasks = DevTasks(bundle, data)

    def flicker(smooth: float) -> Task:
        segmenter = Segmenter(bundle, "dog,person,plant", refine=refine)
        return VideoTask(segmenter, [video_clip(data / VIDEO)], smooth=smooth)

    return {
        "segmentation": lambda: scores(tasks.segmentation(refine=refine)),
        "regions": lambda: scores(tasks.regions()),
        "regions/clipself": lambda: scores(tasks.regions(templates="clipself")),
        "coherence": lambda: scores(tasks.coherence()),
        "localization": lambda: scores(tasks.localization()),
        "retrieval": lambda: scores(tasks.retrieval()),
        "flicker": lambda: scores(flicker(0.0)),
        "flicker/smooth": lambda: scores(flicker(0.6)),
        "dog": partial(dog, bundle, data, refine=refine),
    }


def scores(task: Task) -> dict[str, Any]:
    """Scores with intervals in percent, and how many units there were."""
    report = to_json(run_task(task))
    return {
        f"{report['unit']}s": report["units"],
        "scores": {
            name: {key: percent(value) for key, value in score.items()}
            for name, score in report["scores"].items()
        },
    }


def dog(bundle: Bundle, data: Path, *, refine: str) -> dict[str, Any]:
    """IoU of the dog over all labelled frames together, and the mean over frames."""
    labelled = json.loads(DOG_POLYGONS.read_text())
    height, width = labelled["size"]
    frames = {}
    with VideoReader(data / "video" / labelled["video"]) as reader:
        for frame in reader:
            if str(frame.index) in labelled["frames"]:
                frames[str(frame.index)] = frame.image
    report: dict[str, Any] = {"frames": len(frames)}
    for classes in ("dog,person,plant", "dog,grass"):
        segmenter = Segmenter(bundle, classes, refine=refine)
        overlap, union, single = 0, 0, []
        for index, polygons in labelled["frames"].items():
            truth = np.zeros((height, width), np.uint8)
            cv2.fillPoly(truth, [np.array(p, np.int32) for p in polygons], 1)
            mask = segmenter(frames[index]).mask("dog")
            inter, both = (mask & (truth > 0)).sum(), (mask | (truth > 0)).sum()
            overlap, union = overlap + int(inter), union + int(both)
            single.append(float(inter / both) if both else 1.0)
        report[classes] = {
            "iou": percent(overlap / union),
            "mean_iou_per_frame": percent(float(np.mean(single))),
        }
    return report


def percent(share: float | None) -> float | None:
    """A share as a percentage with two digits; None where there is none."""
    return None if share is None else round(100 * share, 2)


if __name__ == "__main__":
    main()
