"""`atas-deploy eval retrieval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation, take_report
from atas_deploy.cli.evaluate.model_options import ENGINE
from atas_deploy.cli.progress import say
from atas_deploy.cli.sections import SectionCommand, add_options, section
from atas_deploy.cli.segment_options import OPTIONS

if TYPE_CHECKING:
    from atas_deploy.evaluation.retrieval import RetrievalTask

_data, _words, _model = section("Data"), section("Words"), section("Model")
_PATH = click.Path(path_type=Path)

_OPTIONS = (
    _data("--images", metavar="PATH", type=_PATH, required=True, help="Folder or .tar file."),
    _data(
        "--captions",
        metavar="FILE",
        type=_PATH,
        required=True,
        help="CSV with the columns image and caption, COCO's captions JSON, or dataset_*.json.",
    ),
    _data("--split", metavar="NAME", help="Split of dataset_*.json, as test."),
    _data(
        "--captions-per-image",
        metavar="N",
        type=click.IntRange(min=1),
        help="Take the first N captions of an image; benchmarks on COCO take 5.  [default: all]",
    ),
    _words(
        "--templates",
        metavar="SET",
        default="none",
        show_default=True,
        help="Prompts that captions are put into: none, a sentence with {}, or @prompts.txt.",
    ),
    OPTIONS["--model"],
    *ENGINE,
    _model(
        "--fit",
        type=click.Choice(["shortest", "longest", "squash"]),
        help="How a picture becomes square: its middle cut out (shortest), the rest filled "
        "(longest), or squashed.  [default: the model's]",
    ),
    OPTIONS["--batch-size"],
)


@click.command(cls=SectionCommand)
@add_options(*_OPTIONS)
@report_options
def retrieval(
    *,
    images: Path,
    captions: Path,
    split: str | None,
    captions_per_image: int | None,
    templates: str,
    fit: str | None,
    **settings: Any,
) -> None:
    """Find the image of a caption, and a caption of an image.

    Recall at 1, 5 and 10 among all images, and among all captions.

    \b
    Try:  atas-deploy eval retrieval --images flickr8k/ --captions captions.csv
    """  # noqa: D301  (click needs the real control character)
    report = take_report(settings)

    def make_task() -> "RetrievalTask":
        from atas_deploy.evaluation.captioned import Captioned
        from atas_deploy.evaluation.retrieval import RetrievalTask
        from atas_deploy.runtime.encoders import Encoders

        data = Captioned(images, captions, split=split, per_image=captions_per_image)
        encoders = Encoders(cache=False, tell=None if report["quiet"] else say, **settings)
        return RetrievalTask(encoders, data, templates=templates, fit=fit)

    run_evaluation(make_task, **report)
