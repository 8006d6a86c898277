"""`atas-deploy eval`: the group of the tasks."""

import click

from atas_deploy.cli.lazy import LazyCommands

_HOME = "atas_deploy.cli.evaluate"
TASKS = {
    "segmentation": (f"{_HOME}.segmentation", "mIoU and pixel accuracy."),
    "regions": (f"{_HOME}.regions", "Boxes, masks and crops named, as CLIPSelf does."),
    "retrieval": (f"{_HOME}.retrieval", "Captions by image, images by caption."),
    "localization": (f"{_HOME}.localization", "Whether a patch knows its image or its region."),
    "coherence": (f"{_HOME}.coherence", "Whether patches of a class are alike."),
    "video": (f"{_HOME}.video", "Region similarity J, and flicker."),
    "sweep": (f"{_HOME}.sweep", "Regions against the size of the picture, as a plot."),
    "compare": (f"{_HOME}.compare", "How sure it is that one model is better."),
}


@click.group(cls=LazyCommands, lazy=TASKS)
def evaluate() -> None:
    """Measure a model on labelled data; every score comes with its interval.

    \b
    Try:  atas-deploy eval segmentation --images val/ --labels val-labels/ --classes @voc21
          atas-deploy eval compare atas-tiny my-model regions --panoptic panoptic.json --images val/
    """  # noqa: D301  (click needs the real control character)
