"""The options of `atas-deploy visualize`; those of `segment` mean the same here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from atas_deploy.cli.sections import section
from atas_deploy.cli.segment_options import OPTIONS, parse_time
from atas_deploy.core.readouts import READOUTS
from atas_deploy.runtime.visual.kinds import KINDS, MAX_CLUSTERS, SCORES


def parse_kinds(text: str) -> tuple[str, ...]:
    """The names in "kmeans,pca", each once.

    Raises:
        BadParameter: one is unknown, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        got = repr(unknown[0]) if unknown else "nothing"
        raise click.BadParameter(f"Got {got}; expected some of {', '.join(KINDS)}.")
    return tuple(dict.fromkeys(names))


def parse_point(text: str) -> tuple[float, float]:
    """Pixels x and y of "320,200".

    Raises:
        BadParameter: these are no two numbers from 0 on.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x < float("inf") and 0 <= y < float("inf")):
        raise click.BadParameter(f"{text!r} is no point; write X,Y in pixels, as 320,200.")
    return x, y


_words, _model, _maps = section("Words"), section("Model"), section("Maps")
_output = section("Output")

_DECORATORS = [
    _words(
        "-c",
        "--classes",
        metavar="WORDS",
        help='Words to show the score of: "dog|puppy,grass" (| joins synonyms), @names.txt, or a '
        "built-in list as @voc20.",
    ),
    *(OPTIONS[name] for name in ("--background", "--templates", "--logit-scale", "--no-cache")),
    _model(
        "--model",
        "models",
        metavar="NAME",
        multiple=True,
        default=["atas-tiny"],
        help="Name, as ViT-B-16/openai, checkpoint or bundle folder; repeat it to compare.  "
        "[default: atas-tiny]",
    ),
    _model(
        "--readout",
        "readouts",
        type=click.Choice(READOUTS),
        multiple=True,
        help="How dense features are read from the last block; repeat it to compare.  "
        "[default: the bundle's]",
    ),
    *(OPTIONS[name] for name in ("--backend", "--device", "--short-side")),
    _maps(
        "--kind",
        "kinds",
        type=parse_kinds,
        metavar="LIST",
        help=f"Which maps the PNG has, of {','.join(KINDS)}; words need --classes.  [default: all]",
    ),
    _maps(
        "--clusters",
        metavar="K",
        type=click.IntRange(1, MAX_CLUSTERS),
        default=8,
        show_default=True,
        help="Clusters of K-means.",
    ),
    _maps(
        "--patch",
        "point",
        metavar="X,Y",
        type=parse_point,
        help="Pixel in the patch that others are compared with.  [default: the middle]",
    ),
    _maps(
        "--scores",
        type=click.Choice(SCORES),
        default=SCORES[0],
        show_default=True,
        help="What word maps show: softmax over all words and the background, or the cosine.",
    ),
    _maps(
        "--at",
        "time",
        type=parse_time,
        default="0",
        show_default=True,
        metavar="TIME",
        help="Frame of videos: seconds, mm:ss or hh:mm:ss.",
    ),
    _output(
        "-o",
        "--out",
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=True),
        default=Path("atas-visual"),
        show_default=True,
        help="Folder of the results.",
    ),
    _output("--no-page", is_flag=True, help="Write no HTML page."),
    _output("--separate", is_flag=True, help="Also write each map as a PNG of the picture's size."),
    _output(
        "--opacity",
        metavar="A",
        type=click.FloatRange(0, 1),
        default=0.7,
        show_default=True,
        help="Of the maps over the picture.",
    ),
    *(OPTIONS[name] for name in ("--force", "--json", "--quiet")),
]


def visualize_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all options of `visualize`."""
    for decorate in reversed(_DECORATORS):
        function = decorate(function)
    return function
