"""`atas-deploy eval coherence`."""

from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation, take_report
from atas_deploy.cli.evaluate.model_options import MODEL, SIZE
from atas_deploy.cli.evaluate.truth_options import TRUTH, open_truth
from atas_deploy.cli.progress import say
from atas_deploy.cli.sections import SectionCommand, add_options, section

if TYPE_CHECKING:
    from atas_deploy.evaluation.coherence import CoherenceTask

_model, _pairs = section("Model"), section("Pairs across pictures")
_LENGTH = click.IntRange(min=1)

_OPTIONS = (
    *TRUTH,
    *MODEL,
    *SIZE,
    _model(
        "--window",
        metavar="PIXELS",
        type=_LENGTH,
        help="Encode windows of this many pixels of the encoder's input; features are averaged "
        "where they overlap.",
    ),
    _model(
        "--stride",
        metavar="PIXELS",
        type=_LENGTH,
        help="From one window to the next.  [default: half a window]",
    ),
    _pairs(
        "--group",
        metavar="N",
        type=click.IntRange(min=2),
        default=4,
        show_default=True,
        help="Pictures that are compared with one another, at most half of all.",
    ),
    _pairs(
        "--patches",
        metavar="N",
        type=click.IntRange(min=1),
        default=64,
        show_default=True,
        help="Patches that are drawn of each picture, at most.",
    ),
)


@click.command(cls=SectionCommand)
@add_options(*_OPTIONS)
@report_options
def coherence(
    *,
    short_side: int | None,
    window: int | None,
    stride: int | None,
    group: int,
    patches: int,
    **settings: Any,
) -> None:
    """Ask whether patches of one class are more alike than others.

    Area under the ROC curve of the cosine of two patches, as a test of whether they have the same
    class: 0.5 by chance. No words are needed.

    \b
    Try:  atas-deploy eval coherence --images val2017/ --panoptic panoptic_val2017.json
    """  # noqa: D301  (click needs the real control character)
    report = take_report(settings)

    def make_task() -> "CoherenceTask":
        from atas_deploy.evaluation.coherence import CoherenceTask
        from atas_deploy.runtime.encoders import Encoders

        truth = open_truth(settings)
        encoders = Encoders(cache=False, tell=None if report["quiet"] else say, **settings)
        encoder = encoders.dense(short_side=short_side, window=window, stride=stride)
        return CoherenceTask(
            encoders, encoder, truth, group=group, drawn=patches, seed=report["seed"]
        )

    run_evaluation(make_task, **report)
