"""Options of the tasks that take label maps, and what they open."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.data_options import DATA
from atas_deploy.cli.sections import section
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
    from atas_deploy.evaluation.label_folder import LabelFolder
    from atas_deploy.evaluation.truth import Truth

_data = section("Data")

TRUTH = (
    DATA["--images"],
    DATA["--labels"],
    _data(
        "--first-label",
        metavar="N",
        type=click.IntRange(0, 1),
        help="Value of the first class in the label maps, 0 or 1; with 1, the value 0 is "
        "background or, without background, void.  [default: 1]",
    ),
    _data(
        "--ignore",
        metavar="N",
        type=click.IntRange(0, 65_535),
        multiple=True,
        help="Value of pixels that do not count; may be given several times.  [default: 255]",
    ),
    _data(
        "--label-values",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="CSV with the columns value and class, for maps of other values; values that it does "
        "not name are void.",
    ),
    _data(
        "--image-suffix",
        metavar="TEXT",
        help='End of the names of pictures that label maps have not, as "_leftImg8bit".',
    ),
    _data(
        "--label-suffix",
        metavar="TEXT",
        help='End of the names of label maps that pictures have not, as "_gtFine_labelTrainIds".',
    ),
    _data(
        "--names",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Names of the pictures to take, one a line, without suffix; also with --panoptic.  "
        "[default: all]",
    ),
    DATA["--panoptic"],
    DATA["--pngs"],
    DATA["--max-images"],
)
"""Pictures with label maps, in a folder or by a panoptic file."""

_OF_FOLDERS = ("first_label", "ignore", "label_values", "image_suffix", "label_suffix")


def open_truth(settings: dict[str, Any], *, classes: str | None = None) -> "Truth":
    """Open the data that the options `TRUTH` name, which are taken out of the settings.

    Args:
        settings: of the command.
        classes: the list that --label-values names classes of; None = those of its file.

    Raises:
        ConfigError: neither or both kinds of labels are named, or options of the other kind.
        InputError: the data cannot be used.
    """
    from atas_deploy.evaluation.coco_data import open_panoptic
    from atas_deploy.evaluation.truth import PanopticTruth

    images, labels = settings.pop("images"), settings.pop("labels")
    panoptic, pngs = settings.pop("panoptic"), settings.pop("pngs")
    some: dict[str, Any] = {"names": settings.pop("names"), "limit": settings.pop("max_images")}
    given = {name: value for name in _OF_FOLDERS if (value := settings.pop(name)) not in (None, ())}
    if (labels is None) == (panoptic is None):
        got = "no labels" if labels is None else "both --labels and --panoptic"
        raise ConfigError(f"Got {got}; give either --labels or --panoptic.")
    if labels is not None and pngs is None:
        return _open_folders(images, labels, given, classes, **some)
    if labels is not None or given:
        wrong = "--pngs" if labels is not None else f"--{next(iter(given)).replace('_', '-')}"
        kind = "--panoptic" if labels is not None else "--labels"
        raise ConfigError(f"{wrong} belongs to {kind}; leave it out.")
    return PanopticTruth(open_panoptic(panoptic, pngs), images, **some)


def _open_folders(
    images: Path, labels: Path, given: dict[str, Any], classes: str | None, **some: Any
) -> "LabelFolder":
    """Open label maps, whose values a file may explain.

    Raises:
        ConfigError: so do other options.
        InputError: the data cannot be used.
    """
    from atas_deploy.core.classes import parse_classes
    from atas_deploy.evaluation.label_folder import LabelFolder
    from atas_deploy.evaluation.label_values import read_label_values

    values = None
    if (file := given.pop("label_values", None)) is not None:
        for name in ("first_label", "ignore"):
            if name in given:
                raise ConfigError(
                    f"Got --{name.replace('_', '-')} beside --label-values, which says what all "
                    "values mean; leave one out."
                )
        values = read_label_values(file, None if classes is None else parse_classes(classes))
    return LabelFolder(images, labels, values=values, **given, **some)
