"""How many segments proposals and grids cover, and how long proposals take, as JSON.

    python benchmarks/proposals.py --data DATA [--model atas-tiny] [--images 100]

100 COCO panoptic images; crowds are left out. A segment counts as found when a region has an
intersection over union with its mask of a half or more. Grids are those of 1 x 1 up to n x n boxes
together. Times are medians over the images, in one run. The constants of proposals were chosen on
these images: their numbers are tuned, and no estimate for other pictures.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measure_quality import ROOT
from pycocotools import mask as rle

from atas_deploy import __version__
from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Region
from atas_deploy.media.annotations import PanopticFile
from atas_deploy.media.images import read_image
from atas_deploy.models import open_model
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.regions import grid_regions, propose

COUNTS = (10, 25, 50, 100)
GRIDS = (1, 2, 3, 4, 5)
NOTE = "The constants of proposals were chosen on these images: their numbers are tuned."


def main() -> None:
    """Encode, propose and count, image by image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--model", default="atas-tiny")
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    folder = args.data / "coco_panoptic_100"
    truth = PanopticFile.open(folder / "panoptic.json", folder / "panoptic")
    encoder = Encoders(args.model).dense()
    things: list[bool] = []
    best: dict[str, list[np.ndarray]] = {}
    times: dict[str, list[float]] = {"encode": [], "propose": []}
    for entry in truth.images[: args.images]:
        image = read_image(folder / "images" / Path(entry.file_name).name)
        start = time.perf_counter()
        encoded = encoder(image)
        middle = time.perf_counter()
        propose(encoded)
        times["propose"].append(time.perf_counter() - middle)
        times["encode"].append(middle - start)
        segments = [one for one in truth.segments(entry) if not one.region.crowd]
        things += [one.thing for one in segments]
        masks = [one.region.rle for one in segments]
        for name, codes in candidates(encoded.size, propose(encoded, most=max(COUNTS))).items():
            overlaps = np.asarray(rle.iou(codes, masks, [0] * len(masks)))
            best.setdefault(name, []).append(overlaps.reshape(len(codes), -1).max(axis=0))
    print(json.dumps(report(args.model, times, best, np.array(things)), indent=2))


def candidates(size: Size, proposals: Sequence[Region]) -> dict[str, list[Any]]:
    """Masks to find segments with, as run lengths, by name."""
    found = {f"{count} proposals": [one.rle for one in proposals[:count]] for count in COUNTS}
    boxes: list[Any] = []
    for cells in GRIDS:
        boxes += [box_code(one, size) for one in grid_regions(size, cells, cells)]
        found[f"grids to {cells} x {cells}, {len(boxes)} boxes"] = list(boxes)
    return found


def box_code(region: Region, size: Size) -> Any:
    """The pixels of a box as run lengths."""
    mask = np.zeros(size, np.uint8, order="F")
    x0, y0, x1, y1 = np.round(region.box).astype(int)
    mask[y0:y1, x0:x1] = 1
    return rle.encode(mask)


def report(
    model: str, times: dict[str, list[float]], best: dict[str, list[np.ndarray]], things: np.ndarray
) -> dict[str, Any]:
    """Recall by candidates, and times."""
    bundle = open_model(model)
    encode, found = (median(times[name]) for name in ("encode", "propose"))
    return {
        "atas_deploy": __version__,
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "model": bundle.manifest.name,
        "fingerprint": bundle.fingerprint[:16],
        "note": NOTE,
        "images": len(times["encode"]),
        "segments": {
            "all": things.size,
            "things": int(things.sum()),
            "stuff": int((~things).sum()),
        },
        "recall": {name: recall(np.concatenate(rows), things) for name, rows in best.items()},
        "propose_ms": round(1000 * found, 1),
        "encode_ms": round(1000 * encode, 1),
        "propose_to_encode": round(found / encode, 2),
    }


def recall(best: np.ndarray, things: np.ndarray) -> dict[str, float]:
    """Share of segments that a mask overlaps by a half or more."""
    hits = best >= 0.5
    parts = {"all": hits, "things": hits[things], "stuff": hits[~things]}
    return {name: round(float(part.mean()), 3) for name, part in parts.items()}


if __name__ == "__main__":
    main()
