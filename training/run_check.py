"""The labelled check of a run, as its options ask for it."""

from atas_deploy.training.check import ZeroShotCheck, open_labelled
from atas_deploy.training.model_folder import ModelFolder


def open_check(model_folder: ModelFolder) -> ZeroShotCheck | None:
    """The check that a run asks for, None if it asks for none.

    It measures what will be saved, by the read-out that the model will have.

    Args:
        model_folder: of the run, before training.

    Raises:
        ConfigError: the labels have no names and none are given.
        InputError: the pictures or their labels cannot be used.
    """
    options = model_folder.run.options
    if options.check_images is None:
        return None
    truth = open_labelled(
        options.check_images,
        labels=options.check_labels,
        panoptic=options.check_panoptic,
        max_images=options.check_max_images,
    )
    return ZeroShotCheck(
        model_folder.clip,
        truth,
        folder=model_folder.folder,
        classes=options.check_classes,
        readouts=[model_folder.readout],
        precision=options.precision,
        weights=model_folder.weights,
    )
