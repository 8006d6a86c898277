"""Options that say where the data of an evaluation lie."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from atas_deploy.cli.sections import add_options, section

_data = section("Data")
_PATH = click.Path(path_type=Path)

DATA: dict[str, Callable[..., Any]] = {
    "--images": _data(
        "--images",
        metavar="FOLDER",
        type=_PATH,
        required=True,
        help="The pictures.",
    ),
    "--labels": _data(
        "--labels",
        metavar="FOLDER",
        type=_PATH,
        help="Label maps, PNG, named as the pictures.",
    ),
    "--panoptic": _data(
        "--panoptic",
        metavar="FILE",
        type=_PATH,
        help="Annotations in COCO's panoptic JSON.",
    ),
    "--pngs": _data(
        "--pngs",
        metavar="FOLDER",
        type=_PATH,
        help="Its PNGs.  [default: the folder named as FILE, without .json]",
    ),
    "--instances": _data(
        "--instances",
        metavar="FILE",
        type=_PATH,
        help="Annotations in COCO's instances JSON.",
    ),
    "--max-images": _data(
        "--max-images",
        metavar="N",
        type=click.IntRange(min=1),
        help="Measure the first N pictures only, in the order of the annotations or, with label "
        "maps, of their names.",
    ),
}


def data_options(*names: str) -> Callable[..., Any]:
    """Give a command the options with these names, in this order."""
    return add_options(*(DATA[name] for name in names))
