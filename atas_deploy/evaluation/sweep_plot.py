"""The picture of a sweep: accuracy against the short side of the picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atas_deploy.core.errors import BackendUnavailableError
from atas_deploy.core.files import atomic_path
from atas_deploy.evaluation.bootstrap import CONFIDENCE, Score
from atas_deploy.evaluation.sweep import CROPS, DENSE, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOPS = (1, 5)
_INCHES = (10, 4.6)
_DPI = 150


def check_matplotlib() -> None:
    """Refuse to begin what could not be drawn.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as exc:
        raise BackendUnavailableError(
            'A plot needs matplotlib, which is missing; run pip install "atas-deploy[plot]".'
        ) from exc


def write_plot(path: Path, curves: Sequence[Curve]) -> None:
    """Draw curves into a PNG, whole or not at all; its folder must exist.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    figure = draw(curves)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=_DPI)


def draw(curves: Sequence[Curve]) -> "Figure":
    """Two panels, Top-1 and Top-5: each model's dense features solid, its crops dashed.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    figure.suptitle("Boxes named right, against the size of the encoder's input")
    for axes, top in zip(figure.subplots(1, len(TOPS)), TOPS, strict=True):
        _draw_panel(axes, curves, top=top)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_panel(axes: "Axes", curves: Sequence[Curve], *, top: int) -> None:
    sides = sorted({side for curve in curves for side in curve.dense})
    for index, curve in enumerate(curves):
        dense = {side: scores[f"{DENSE}_top{top}"] for side, scores in curve.dense.items()}
        label = f"{curve.model}, dense features"
        _draw_band(axes, dense, color=f"C{2 * index}", label=label, style="o-")
        crops = dict.fromkeys((sides[0], sides[-1]), curve.crops[f"{CROPS}_top{top}"])
        label = f"{curve.model}, crops"
        _draw_band(axes, crops, color=f"C{2 * index + 1}", label=label, style="s--")
    axes.set_title(f"Top-{top}")
    axes.set_xlabel("short side of the input (pixels)")
    axes.set_ylabel(f"mean class accuracy (%), {100 * CONFIDENCE:.0f} % band")
    axes.set_xticks(sides)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)


def _draw_band(
    axes: "Axes", scores: dict[int, Score], *, color: str, label: str, style: str
) -> None:
    """A line in percent with its interval as a band."""
    sides = list(scores)
    value, low, high = (
        [100 * getattr(score, end) for score in scores.values()] for end in ("value", "low", "high")
    )
    axes.plot(sides, value, style, color=color, label=label)
    axes.fill_between(sides, low, high, color=color, alpha=0.12, linewidth=0)
