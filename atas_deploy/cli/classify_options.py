"""The options of `atas-deploy classify`; those of `segment` mean the same here."""

from pathlib import Path

import click

from atas_deploy.cli.crop_options import crop_scale, crop_weight
from atas_deploy.cli.sections import add_options, section
from atas_deploy.cli.segment_options import OPTIONS

_regions, _words, _names = section("Regions"), section("Words"), section("Names")
_video, _output = section("Video"), section("Output")
_PATH = click.Path(path_type=Path)

_OPTIONS = [
    _regions(
        "--boxes",
        metavar="FILE",
        type=_PATH,
        help="Boxes: COCO JSON, a CSV table, MOT tracks, YOLO text or a folder of it.",
    ),
    _regions(
        "--masks",
        metavar="FILE",
        type=_PATH,
        help="Masks: COCO JSON, a label PNG, YOLO polygons, or a folder of either.",
    ),
    _regions(
        "--grid",
        metavar="N",
        type=click.IntRange(min=1, max=256),
        help="N x N boxes that cover the picture.",
    ),
    _regions(
        "--proposals",
        type=click.Choice(["auto"]),
        help="Masks that the features of the picture suggest; no other model is needed.",
    ),
    OPTIONS["--classes"],
    _words(
        "--background",
        metavar="WORDS",
        help="What else a region may be: none (every region gets a class), auto (a list of generic "
        'words), or words such as "road,wall".  [default: none for --boxes and --masks, auto for '
        "--grid and --proposals]",
    ),
    *(OPTIONS[name] for name in ("--templates", "--logit-scale", "--no-cache")),
    *(OPTIONS[name] for name in ("--model", "--readout", "--backend", "--device")),
    *(OPTIONS[name] for name in ("--short-side", "--batch-size")),
    _names(
        "--embed",
        type=click.Choice(["dense", "crop", "both"]),
        default="dense",
        show_default=True,
        help="From the features of the whole picture (dense: one pass, however many regions), from "
        "each box cut out (crop: a pass each), or both.",
    ),
    crop_weight(_names),
    crop_scale(_names),
    _names(
        "--threshold",
        metavar="P",
        type=click.FloatRange(0, 1),
        help="Regions whose best class has less than this probability are background.",
    ),
    _names(
        "--top",
        metavar="K",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        help="Names kept of each region.",
    ),
    _video(
        "--every",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Encode each N-th frame; the regions of those between are named by its features.",
    ),
    *(OPTIONS[name] for name in ("--start", "--end", "--max-frames", "--out")),
    _output("--no-overlay", is_flag=True, help="Tables only."),
    *(OPTIONS[name] for name in ("--opacity", "--force", "--json", "--quiet")),
]

classify_options = add_options(*_OPTIONS)
"""Gives a command all options of `classify`."""
