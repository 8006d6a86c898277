"""Train the small model by ATAS, by CLIPSelf and in other ways; measure, and print JSON.

    python benchmarks/distillation.py --data DATA --base MODEL --out RUNS [--rows atas clipself]

Every row is a run of `atas-deploy train` on the Flickr8k images that were not held out, without
captions and labels, and is then measured with the tasks of `atas-deploy eval`:

- segmentation, for each read-out: mIoU of 133 categories, and of those present in each picture;
- regions, the same: Top-1 of boxes, thing masks and stuff masks by dense features;
- coherence, the same: AUC of pairs of patches, inside pictures and across;
- retrieval: R@1 on the 1,000 held-out Flickr8k images.

CLIPSelf sees 600 of the 6,063 images: its teacher looks at every region, so this takes about as
long as ATAS takes for all of them.

The 100 COCO panoptic images are the development set: the recipe was chosen on them. Differences to
the base come with 95 % intervals of a paired bootstrap over images, for the first seed of a row.
A run that was stopped goes on; a row that is done is not done again.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dev_tasks import DATA, DevTasks

from atas_deploy.clip.weights import load_model
from atas_deploy.core.readouts import READOUTS
from atas_deploy.evaluation.compare import compare_runs
from atas_deploy.evaluation.report import REPORT, write_report
from atas_deploy.evaluation.task import run_task
from atas_deploy.training.checkpoint import CHECKPOINT
from atas_deploy.training.live import live_model
from atas_deploy.training.tiny.split import write_training_images

BASE = "base"
COMMON = ["--precision", "bf16", "--save-every", "50", "--log-every", "25"]
ATAS = ["--method", "atas"]
ROWS: dict[str, list[str]] = {
    "atas": ATAS,
    "clipself": ["--method", "clipself", "--batch-size", "8", "--max-steps", "75"],
    "atas without global-to-local": [
        *(*ATAS, "--global-to-local", "0", "--global-to-global", "2", "--batch-size", "36"),
    ],
    "atas with local-to-local": [*ATAS, "--local-to-local", "0.1"],
    "atas without global-to-global": [*ATAS, "--global-to-global", "0"],
    "atas with cosine cells": [
        *(*ATAS, "--local-form", "cosine", "--global-to-global", "2", "--batch-size", "36"),
    ],
    "atas as the paper reads": [
        *(*ATAS, "--preset", "paper", "--size", "336", "--grids", "2,3"),
        *("--lr", "1e-3", "--layer-decay", "0.75", "--epochs", "1"),
    ],
}
"""Options of `atas-deploy train`; what they leave out is the default.

The last row has the losses of the paper read literally, at size, grids, rates and length of the
others: 960 pixels and six epochs are out of a CPU's reach, and its rate is for large models.
"""
MAIN = ("atas", "clipself")
"""Rows of several seeds, measured with every read-out."""
FEW = ("vanilla", "maskclip", "sclip")
"""Read-outs that the other rows are measured with."""
DONE = "done"
SCORES = {
    "segmentation": ("miou", "present_miou"),
    "dense_regions": ("boxes_top1", "thing_masks_top1", "stuff_masks_top1"),
    "coherence": ("auc", "across_auc"),
    "retrieval": ("text_to_image_R@1", "image_to_text_R@1"),
}
DENSE = ("segmentation", "dense_regions", "coherence")
"""Measured for each read-out."""


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--base", required=True, help="model that all rows start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the main rows")
    parser.add_argument("--readouts", nargs="+", choices=READOUTS, default=list(READOUTS))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = write_training_images(
        args.data / "flickr8k" / "images_224.tar", args.out / "flickr8k-train.tar"
    )
    base = args.out / BASE
    measure(args.base, args.data, base, args.readouts)
    report: dict[str, Any] = {BASE: summary([base], base, args.readouts)}
    for row in args.rows:
        runs = []
        readouts = [r for r in args.readouts if row in MAIN or r in FEW]
        for seed in args.seeds if row in MAIN else args.seeds[:1]:
            folder = args.out / row.replace(" ", "-") / str(seed)
            command = command_of(row, seed, args, pictures, folder / "model")
            report.setdefault(row, {"command": shown(command, args)})
            measure(str(train(command, folder / "model")), args.data, folder, readouts)
            runs.append(folder)
        report[row] |= summary(runs, base, readouts)
    print(json.dumps(report, indent=2))


def command_of(
    row: str, seed: int, args: argparse.Namespace, pictures: Path, out: Path
) -> list[str]:
    """The command that trains a row."""
    start = [sys.executable, "-m", "atas_deploy", "train", "--images", str(pictures)]
    return [
        *(*start, "--model", args.base, "--out", str(out), "--seed", str(seed)),
        *(*COMMON, *ROWS[row]),
    ]


def train(command: Sequence[str], out: Path) -> Path:
    """Run a command of training, or go on with it; the same command is not run twice."""
    done, asked = out / DONE, json.dumps(command[3:])
    if done.exists() and done.read_text(encoding="utf-8") != asked:
        sys.exit(f"{out} was trained by another command; delete {out.parent} or give another --out")
    if not done.exists():
        resume = ["--resume"] if (out / CHECKPOINT).exists() else []
        subprocess.run([*command, *resume], check=True)
        done.write_text(asked, encoding="utf-8")
    return out


def measure(model: str, data: Path, folder: Path, readouts: Sequence[str]) -> None:
    """Run the evaluations of a model that are not done yet, and keep their reports."""
    clip = load_model(model)
    for readout in readouts:
        with live_model(clip, readout=readout, precision="bf16") as live:
            tasks = DevTasks(live.bundle, data, backend=live.backend)
            for name in ["retrieval", *(f"{task}-{readout}" for task in DENSE)]:
                if not (folder / name / REPORT).exists():
                    note(f"{folder}: {name}")
                    task = getattr(tasks, name.partition("-")[0])()
                    write_report(folder / name, run_task(task))


def summary(runs: Sequence[Path], base: Path, readouts: Sequence[str]) -> dict[str, Any]:
    """Scores of a row: mean and spread over seeds, and the first seed's difference to the base."""
    found: dict[str, Any] = {"seeds": len(runs)}
    for name in ["retrieval", *(f"{task}-{r}" for r in readouts for task in DENSE)]:
        reports = [json.loads((run / name / REPORT).read_text("utf-8"))["scores"] for run in runs]
        differences = compare_runs(base / name, runs[0] / name).differences
        scores = found[name] = {}
        for score in SCORES[name.partition("-")[0]]:
            values = [100 * report[score]["value"] for report in reports]
            change = differences[score]
            scores[score] = {
                "value": round(statistics.fmean(values), 2),
                "each": [round(value, 2) for value in values],
                "first_less_base": round(100 * change.value, 2),
                "low": round(100 * change.low, 2),
                "high": round(100 * change.high, 2),
                "p": change.p,
            }
    return found


def shown(command: Sequence[str], args: argparse.Namespace) -> str:
    """A command as a user types it, without the folders of this machine."""
    text = " ".join(["atas-deploy", *command[3:]])
    return text.replace(str(args.out), "RUNS").replace(args.base, "BASE")


def note(text: str) -> None:
    """Say on standard error what is going on."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
