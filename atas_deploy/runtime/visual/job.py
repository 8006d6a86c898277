"""Sources in, a folder of pictures and pages out, one source at a time.

OUT/NAME.visual.png     all maps of a picture in a grid
OUT/NAME.visual.html    the page, unless it is not wanted
OUT/NAME.visual/        each map as a picture of its own, if asked for
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import AtasError, ConfigError
from atas_deploy.core.files import check_writable, output_error
from atas_deploy.media.formats import write_image
from atas_deploy.media.images import read_image
from atas_deploy.media.naming import unique_names
from atas_deploy.media.sources import Found, Source
from atas_deploy.media.video import VideoReader
from atas_deploy.media.walk import real_path
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.settle import check_choice, check_number
from atas_deploy.runtime.visual.kinds import KINDS, SCORES
from atas_deploy.runtime.visual.page import write_page
from atas_deploy.runtime.visual.panels import draw_grid, likely_words, view_panels
from atas_deploy.runtime.visual.viewer import Visual, Visualizer, check_point
from atas_deploy.runtime.work import Progress

GRID, PAGE, FOLDER = ".visual.png", ".visual.html", ".visual"
_LONGEST_NAME = 60  # letters of a picture of one map


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualOptions:
    """What to show, and which files to write.

    Attributes:
        kinds: of `KINDS`, in any order.
        scores: "probability" or "cosine": what heat maps of words show.
        opacity: of maps over the picture, in [0, 1].
        point: x and y in pixels of the chosen patch; None = the middle.
        time: second of videos whose frame is shown.
        separate: also write each map as a picture of its own.
        page: whether to write the page.
        force: replace existing results.

    Raises:
        ConfigError: an option cannot be used.
    """

    kinds: Sequence[str] = KINDS
    scores: str = "probability"
    opacity: float = 0.7
    point: tuple[float, float] | None = None
    time: float = 0.0
    separate: bool = False
    page: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        for kind in self.kinds:
            check_choice("kind of map", kind, KINDS)
        if not self.kinds:
            raise ConfigError(f"No kind of map was named; expected some of {', '.join(KINDS)}.")
        check_choice("score", self.scores, SCORES)
        check_number("opacity", self.opacity, "a number in [0, 1]", lambda share: 0 <= share <= 1)
        if self.point is not None:
            check_point(self.point)

    def targets(self, out: Path, source: Source) -> list[Path]:
        """The files and folders that a source becomes."""
        suffixes = [GRID, *([PAGE] if self.page else []), *([FOLDER] if self.separate else [])]
        return [out / f"{source.name}{suffix}" for suffix in suffixes]


@dataclass(slots=True)
class Shown:
    """What became of the sources.

    Attributes:
        pictures: source and files of each, JSON-ready.
        failures: source and error of each that failed.
        notes: sentences on what the PNGs and pages have less of.
    """

    pictures: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refuse_existing(found: Found, out: Path, options: VisualOptions) -> None:
    """Refuse, before a model is opened, to replace an input, or a result without `force`.

    Raises:
        ConfigError: a file is in the way.
        OutputError: the folder cannot be written.
    """
    check_writable(out)
    inside = real_path(out) + os.sep
    real = (os.path.realpath(source.location) for source in found.sources)
    inputs = {path for path in real if path.startswith(inside)}
    for source in found.sources:
        for path in options.targets(out, source):
            if os.path.realpath(path) in inputs:
                raise ConfigError(
                    f"{path} is an input and would be replaced by a result; choose another folder "
                    "with --out."
                )
            if os.path.lexists(path) and not options.force:
                raise ConfigError(
                    f"{path} exists already; replace it with --force, or choose another folder "
                    "with --out."
                )


def show_all(
    visualizer: Visualizer,
    found: Found,
    out: Path,
    *,
    options: VisualOptions,
    progress: Progress,
) -> Shown:
    """Show sources in the order given; one that cannot be shown is noted and skipped.

    Args:
        visualizer: the models with their words.
        found: what to show.
        out: folder of the results.
        options: what to show of it.
        progress: where to tell how far it is.
    """
    shown = Shown()
    progress.begin("pictures", total=found.count(), unit="picture")
    try:
        for source in found.sources:
            try:
                shown.pictures.append(_show(visualizer, source, out, options, shown.notes))
            except Exception as exc:  # whatever it is, the other pictures can be shown
                shown.failures.append({"source": source.shown, "error": _explain(source, exc)})
            progress.advance()
    finally:
        progress.end()
    shown.failures += [{"source": one.asked, "error": one.message} for one in found.problems]
    return shown


def _explain(source: Source, error: Exception) -> str:
    """One sentence that names the source."""
    if not isinstance(error, AtasError):
        reason = ": ".join(filter(None, (type(error).__name__, str(error))))
        return f"{source.shown} could not be shown ({reason}); please report this mistake."
    return str(error) if source.shown in str(error) else f"{source.shown}: {error}"


def _show(
    visualizer: Visualizer, source: Source, out: Path, options: VisualOptions, notes: list[str]
) -> dict[str, Any]:
    """Write the files of a source and return its entry."""
    image = _read(source, options.time)
    visual = visualizer(image, point=options.point)
    grid, *others = options.targets(out, source)
    _make_folder(grid.parent)
    kinds, scores, opacity = options.kinds, options.scores, options.opacity
    write_image(grid, draw_grid(visual, kinds=kinds, scores=scores, opacity=opacity))
    files = [grid]
    notes += _left_out(grid, visual, options)
    if options.page:
        title = _title(source, options.time)
        notes += write_page(others[0], visual, title=title, scores=scores, opacity=opacity)
        files.append(others[0])
    if options.separate:
        _make_folder(others[-1])
        _clear(others[-1])
        files += _write_separate(others[-1], visual, options)
    return {
        "source": source.shown,
        "size": list(image.shape[:2]),
        "views": [{"name": view.name, "grid": list(view.grid)} for view in visual.views],
        "files": [file.relative_to(out).as_posix() for file in files],
    }


def _left_out(grid: Path, visual: Visual, options: VisualOptions) -> list[str]:
    """A sentence if the grid has a part of the words only."""
    some, total = len(likely_words(visual)), len(visual.class_names)
    if "words" not in options.kinds or some == total:
        return []
    more = "" if options.separate else "; --separate writes them all"
    return [f"{grid.name} has the {some} likeliest of {total} words{more}."]


def _write_separate(folder: Path, visual: Visual, options: VisualOptions) -> Iterator[Path]:
    """Write each map as a PNG of the picture's size and yield its path."""
    several = len(visual.views) > 1
    for number, view in enumerate(visual.views, 1):
        panels = list(
            view_panels(
                visual, view, kinds=options.kinds, scores=options.scores, opacity=options.opacity
            )
        )
        names = unique_names([_file_name(name) for name, _ in panels])
        for name, (_, panel) in zip(names, panels, strict=True):
            path = folder / (f"{number}-{name}.png" if several else f"{name}.png")
            write_image(path, panel.image)
            yield path


def _file_name(text: str) -> str:
    """A text as part of a file name: letters, digits and hyphens."""
    return re.sub(r"[^\w-]+", "-", text)[:_LONGEST_NAME].strip("-")


def _title(source: Source, time: float) -> str:
    """What the page of a source is called: no folders, as pages are passed on."""
    name = source.name if isinstance(source.location, str) else source.location.name
    return f"{name} at {time:g} s" if source.kind == "video" else name


def _read(source: Source, time: float) -> Image:
    """The picture, or the frame of a video at a time: (H, W, 3) uint8 RGB."""
    if source.kind == "image":
        return read_image(Path(source.location))
    with VideoReader(source.location, start=time or None, max_frames=1) as reader:
        return next(iter(reader)).image


def _clear(folder: Path) -> None:
    """Remove maps of an earlier run, which may have had other words and models."""
    for path in folder.glob("*.png"):
        with suppress(OSError):
            path.unlink()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
