"""Options of the commands that cut out crops; what is left out is `RegionClassifier`'s."""

from collections.abc import Callable
from typing import Any

import click


def crop_weight(place: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--crop-weight`, under a heading."""
    option: Callable[..., Any] = place(
        "--crop-weight",
        metavar="A",
        type=click.FloatRange(0, 1),
        help="Exponent of the crop's probabilities in both; the dense ones have 1 - A.  "
        "[default: 0.65]",
    )
    return option


def crop_scale(place: Callable[..., Any], *, default: float | None = None) -> Callable[..., Any]:
    """The option `--crop-scale`, under a heading; without a default it is `RegionClassifier`'s."""
    option: Callable[..., Any] = place(
        "--crop-scale",
        metavar="X",
        type=click.FloatRange(min=0, min_open=True),
        default=default,
        help=f"Cut out X times the box, with what is around it.  [default: {default or 1}]",
    )
    return option
