"""`atas-deploy eval video`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation, take_report
from atas_deploy.cli.evaluate.segmenter_options import MASKS, MODEL, WORDS, open_segmenter
from atas_deploy.cli.progress import say
from atas_deploy.cli.sections import SectionCommand, add_options, section
from atas_deploy.cli.segment_options import OPTIONS
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
    from atas_deploy.evaluation.clips import Clip
    from atas_deploy.evaluation.video import VideoTask

_data, _words = section("Data"), section("Words")
_PATH = click.Path(path_type=Path)

_OPTIONS = (
    _data(
        "--davis",
        metavar="FOLDER",
        type=_PATH,
        help="Folder of JPEGImages and Annotations, as DAVIS has them.",
    ),
    _data(
        "--words",
        metavar="FILE",
        type=_PATH,
        help="Words of its objects, JSON or CSV; the sequences that it names are taken.",
    ),
    _data(
        "--video",
        "videos",
        metavar="FILE",
        type=_PATH,
        multiple=True,
        help="A video without labels, for flicker; may be given several times.",
    ),
    _words(
        "-c",
        "--classes",
        metavar="WORDS",
        help="What to find; object i of --davis is the i-th.  [default: --words]",
    ),
    OPTIONS["--background"],
    *WORDS,
    *MODEL,
    *MASKS,
    *(OPTIONS[name] for name in ("--every", "--smooth", "--max-frames")),
)


@click.command(cls=SectionCommand)
@add_options(*_OPTIONS)
@report_options
def video(
    *,
    davis: Path | None,
    words: Path | None,
    videos: tuple[Path, ...],
    classes: str | None,
    every: int,
    smooth: float,
    max_frames: int | None,
    **settings: Any,
) -> None:
    """Compare masks with those of objects over time, and find flicker.

    Flicker is the share of the pixels that change class where the picture does not change.

    \b
    Try:  atas-deploy eval video --davis DAVIS/ --words words.json
          atas-deploy eval video --video clip.mp4 --classes "dog,grass" --smooth 0.6
    """  # noqa: D301  (click needs the real control character)
    report = take_report(settings)

    def make_task() -> "VideoTask":
        from atas_deploy.evaluation.video import VideoTask

        clips = _open_clips(davis, words, videos, classes, max_frames)
        asked = classes or list(clips[0].words or ())
        segmenter = open_segmenter(asked, quiet=report["quiet"], **settings)
        tell = None if report["quiet"] else say
        return VideoTask(segmenter, clips, every=every, smooth=smooth, tell=tell)

    run_evaluation(make_task, **report)


def _open_clips(
    davis: Path | None,
    words: Path | None,
    videos: tuple[Path, ...],
    classes: str | None,
    max_frames: int | None,
) -> "list[Clip]":
    """The videos that the options name.

    Raises:
        ConfigError: options that exclude each other, or too few.
        InputError: a folder or file cannot be used.
    """
    from atas_deploy.core.classes import parse_classes
    from atas_deploy.evaluation.clips import davis_clips, video_clip
    from atas_deploy.evaluation.object_words import read_words

    if (davis is None) == (not videos):
        got = "no video" if davis is None else "both --davis and --video"
        raise ConfigError(f"Got {got}; give either --davis or --video.")
    if (classes is None) == (words is None) or (words is not None and davis is None):
        if classes is not None:
            got = "both --classes and --words"
        else:
            got = "no words" if words is None else "--words, which belongs to --davis"
        raise ConfigError(f"Got {got}; give either --classes or, with --davis, --words.")
    if davis is None:
        return [video_clip(path, max_frames=max_frames) for path in videos]
    if words is not None:
        return davis_clips(davis, words=read_words(words), max_frames=max_frames)
    return davis_clips(davis, classes=len(parse_classes(classes or "")), max_frames=max_frames)
