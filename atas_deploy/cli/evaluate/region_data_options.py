"""Options of the tasks that measure annotated regions, and the data they say."""

from typing import TYPE_CHECKING, Any

from atas_deploy.cli.crop_options import crop_scale
from atas_deploy.cli.evaluate.data_options import DATA
from atas_deploy.cli.sections import section
from atas_deploy.cli.segment_options import OPTIONS

if TYPE_CHECKING:
    from atas_deploy.evaluation.region_data import RegionData

_words = section("Words")
_NAMES = ("--images", "--panoptic", "--pngs", "--instances", "--max-images")

REGION_DATA = tuple(DATA[name] for name in _NAMES)
CROP_SCALE = crop_scale(section("Regions"), default=1.5)
_CLASSES = _words(
    "-c",
    "--classes",
    metavar="WORDS",
    help="Words for the categories, in their order, as @coco-panoptic:expanded.  "
    "[default: their own names]",
)
_TEMPLATES = _words(
    "--templates",
    metavar="SET",
    default="clipself",
    show_default=True,
    help="Prompts: default (a handful), none, simple, imagenet, clipself, a sentence with {}, or "
    "@prompts.txt.",
)
NAMING = (_CLASSES, _TEMPLATES, OPTIONS["--no-cache"])


def open_regions(settings: dict[str, Any], *, any_size: bool = False) -> "RegionData":
    """Take what these options say out of the settings of a command.

    Args:
        settings: of the command.
        any_size: whether boxes of all sizes count.

    Raises:
        ConfigError: both kinds of annotations are given, or none.
        InputError: they cannot be read.
    """
    from atas_deploy.evaluation.region_data import RegionData

    given = {name.lstrip("-").replace("-", "_") for name in _NAMES}
    return RegionData(**{name: settings.pop(name) for name in given}, any_size=any_size)


def parse_names(text: str) -> tuple[str, ...]:
    """The names in "a,b", each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
