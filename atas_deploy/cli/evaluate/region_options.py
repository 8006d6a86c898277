"""Options of the tasks that name annotated regions."""

from collections.abc import Callable
from typing import Any

from atas_deploy.cli.region_options import REGION_TEMPLATES, crop_scale
from atas_deploy.cli.sections import section
from atas_deploy.cli.segment_options import OPTIONS

WORDS = section("Words")

CLASSES = WORDS(
    "-c",
    "--classes",
    metavar="WORDS",
    help="Words for the categories, in their order, as @coco-panoptic:expanded.  "
    "[default: their own names]",
)
CROP_SCALE = crop_scale(section("Regions"))
ENGINE = tuple(OPTIONS[name] for name in ("--backend", "--device"))
MODEL = (OPTIONS["--model"], OPTIONS["--readout"], *ENGINE)
SIZE = (OPTIONS["--short-side"], OPTIONS["--batch-size"])
NAMING = (CLASSES, REGION_TEMPLATES, OPTIONS["--no-cache"])


def options(*listed: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(listed):
            function = option(function)
        return function

    return decorate


def parse_names(text: str) -> tuple[str, ...]:
    """The names in "a,b", each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
