"""Options of the tasks that take label maps, and what they open."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.data_options import DATA
from atas_deploy.cli.sections import section
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
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
        "--image-suffix",
        metavar="TEXT",
        help='What names of pictures have more than those of label maps, as "_leftImg8bit".',
    ),
    _data(
        "--label-suffix",
        metavar="TEXT",
        help='What names of label maps have more, as "_gtFine_labelTrainIds".',
    ),
    _data(
        "--names",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Names of the pictures to take, one a line, without suffix.  [default: all]",
    ),
    DATA["--panoptic"],
    DATA["--pngs"],
    DATA["--max-images"],
)
"""Pictures with label maps, in a folder or by a panoptic file."""

_OF_FOLDERS = ("first_label", "ignore", "image_suffix", "label_suffix", "names")


def open_truth(settings: dict[str, Any]) -> "Truth":
    """Open the data that the options `TRUTH` name, which are taken out of the settings.

    Raises:
        ConfigError: neither or both kinds of labels are named, or options of the other kind.
        InputError: the data cannot be used.
    """
    from atas_deploy.evaluation.label_folder import LabelFolder
    from atas_deploy.evaluation.truth import PanopticTruth
    from atas_deploy.media.annotations import PanopticFile

    images, labels = settings.pop("images"), settings.pop("labels")
    panoptic, pngs = settings.pop("panoptic"), settings.pop("pngs")
    limit = settings.pop("max_images")
    given = {name: value for name in _OF_FOLDERS if (value := settings.pop(name)) not in (None, ())}
    if (labels is None) == (panoptic is None):
        raise ConfigError("Got none or two kinds of labels; give either --labels or --panoptic.")
    if labels is not None and pngs is None:
        return LabelFolder(images, labels, limit=limit, **given)
    if labels is not None or given:
        wrong = "--pngs" if labels is not None else f"--{next(iter(given)).replace('_', '-')}"
        kind = "--panoptic" if labels is not None else "--labels"
        raise ConfigError(f"{wrong} belongs to {kind}; leave it away.")
    return PanopticTruth(PanopticFile.open(panoptic, pngs), images, limit=limit)
