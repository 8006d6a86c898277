"""Measure a bundle on the development data and print JSON.

    python benchmarks/measure_quality.py --data DATA [--model atas-tiny] [--short-side 336]

- retrieval: text-to-image and image-to-text recall on the 1,000 held-out Flickr8k images of
  `training/data/flickr8k_heldout.txt` (no caption or image of them was trained on).
- coco: mIoU on 100 COCO panoptic images, no background, over the 133 categories, and when only the
  categories present in each image compete. Choices (read-out, recipe) were tuned on these images.
- dog: IoU of "dog" on ten hand-labelled frames of a street video, automatic background.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from atas_deploy import Segmenter
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.metrics import class_iou, confusion_matrix, retrieval_recall
from atas_deploy.media.video import VideoReader
from atas_deploy.models import open_model
from atas_deploy.training.pairs import open_pairs

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ROOT / "atas_deploy" / "training" / "data" / "flickr8k_heldout.txt"
DOG_POLYGONS = ROOT / "benchmarks" / "data" / "dog_polygons.json"


def main() -> None:
    """Run the measurements asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--model", default="atas-tiny")
    parser.add_argument("--short-side", type=int, help="of coco and dog; default: the model's")
    parser.add_argument("--refine", choices=["none", "pamr"], default="none", help="coco and dog")
    parser.add_argument("--only", choices=["retrieval", "coco", "dog"])
    args = parser.parse_args()
    bundle = open_model(args.model)
    if args.short_side:
        manifest = replace(bundle.manifest, short_side=args.short_side)
        bundle = replace(bundle, manifest=manifest)
    measures = {
        "retrieval": retrieval,
        "coco": partial(coco, refine=args.refine),
        "dog": partial(dog, refine=args.refine),
    }
    report: dict[str, Any] = {
        "model": bundle.manifest.name,
        "readout": bundle.manifest.readout,
        "short_side": bundle.manifest.short_side,
        "refine": args.refine,
        "fingerprint": bundle.fingerprint[:16],
    }
    for name, measure in measures.items():
        if args.only in (None, name):
            start = time.monotonic()
            report[name] = measure(bundle, args.data)
            report[name]["seconds"] = round(time.monotonic() - start, 1)
    print(json.dumps(report, indent=2))


def retrieval(bundle: Bundle, data: Path) -> dict[str, Any]:
    """Recall at 1, 5, 10 in both directions, in percent."""
    flickr = data / "flickr8k"
    pairs = open_pairs(flickr / "images_224.tar", flickr / "captions.csv")
    pairs = pairs.subset(HELD_OUT.read_text(encoding="utf-8").split())
    backend, tokenizer = OrtBackend(bundle), bundle.tokenizer()
    images = np.concatenate(
        [
            backend.encode_images(np.stack([pairs.read(name) for name in names])).image
            for names in batches(pairs.names, 16)
        ]
    )
    texts = [text for captions in pairs.captions for text in captions]
    owner = np.repeat(np.arange(len(pairs)), [len(captions) for captions in pairs.captions])
    features = np.concatenate(
        [backend.encode_texts(tokenizer(part)) for part in batches(texts, 256)]
    )
    return {
        "images": len(pairs),
        "captions": len(texts),
        **retrieval_recall(images, features, owner),
    }


def batches(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def coco(bundle: Bundle, data: Path, *, refine: str) -> dict[str, Any]:
    """Mean IoU in percent over 133 categories, and over those present in each image."""
    folder = data / "coco_panoptic_100"
    categories = json.loads((folder / "panoptic.json").read_text())["categories"]
    names = [plain_name(category["name"]) for category in categories]
    index_of = np.full(256, 255, np.uint8)
    index_of[[category["id"] for category in categories]] = np.arange(len(categories))
    segmenter = Segmenter(bundle, names, background="none", refine=refine)
    names_hash = segmenter.vocabulary.hash
    total = {"all": np.zeros((133, 133), np.int64), "present": np.zeros((133, 133), np.int64)}
    paths = sorted((folder / "images").glob("*.jpg"))
    for path in paths:
        truth = index_of[np.asarray(Image.open(folder / "semantic" / f"{path.stem}.png"))]
        present = [i for i in np.unique(truth).tolist() if i != 255]
        for kind, chosen in {"all": list(range(133)), "present": present}.items():
            if len(chosen) > 1:
                segmenter.set_classes([names[i] for i in chosen], background="none")
                labels = np.array(chosen)[segmenter(path).labels.astype(int) - 1]
            else:
                labels = np.full(truth.shape, chosen[0])
            total[kind] += confusion_matrix(truth, labels, classes=133)
    return {
        "images": len(paths),
        "templates": list(segmenter.templates.prompts),
        "names_hash": names_hash,
        **{f"miou_{kind}": percent(miou(matrix)) for kind, matrix in total.items()},
        **{
            f"pixel_accuracy_{kind}": percent(np.trace(matrix) / matrix.sum())
            for kind, matrix in total.items()
        },
    }


def miou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that occur in the truth."""
    return float(np.mean(class_iou(confusion)[confusion.sum(1) > 0]))


def plain_name(name: str) -> str:
    """COCO's category name as a person would write it."""
    for suffix in ("-merged", "-other", "-stuff"):
        name = name.replace(suffix, "")
    return {"playingfield": "playing field", "waterdrops": "water drops"}.get(
        name, name.replace("-", " ")
    )


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
            "iou": round(overlap / union, 4),
            "mean_iou_per_frame": round(float(np.mean(single)), 4),
        }
    return report


def percent(share: float) -> float:
    """A share as a percentage with two digits."""
    return round(100 * float(share), 2)


if __name__ == "__main__":
    main()
