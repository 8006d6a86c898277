"""Options of the tasks that segment, and the segmenter that they ask for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.segment_options import OPTIONS

if TYPE_CHECKING:
    from atas_deploy.runtime.segment import Segmenter


WORDS = tuple(OPTIONS[name] for name in ("--templates", "--logit-scale", "--no-cache"))
MODEL = tuple(
    OPTIONS[name]
    for name in (
        *("--model", "--readout", "--preset", "--backend", "--device"),
        *("--short-side", "--batch-size"),
    )
)
MASKS = tuple(
    OPTIONS[name]
    for name in ("--threshold", "--window", "--stride", "--merge", "--denoise", "--refine")
)


def open_segmenter(
    classes: str | Sequence[str], *, quiet: bool, no_cache: bool, **settings: Any
) -> "Segmenter":
    """The segmenter that the options ask for; None stands for its default."""
    from atas_deploy.runtime.segment import Segmenter

    return Segmenter(
        classes=classes,
        **{name: value for name, value in settings.items() if value is not None},
        cache=not no_cache,
        progress=PromptProgress(make_progress(quiet=quiet)),
        tell=None if quiet else say,
    )
