"""A `Visual` as pictures: one for each kind of map, and all of them in a grid."""

from collections.abc import Iterator, Sequence

import numpy as np

from atas_deploy.core.geometry import Size, resize_image
from atas_deploy.core.palette import class_palette
from atas_deploy.media.heat import mark_cell, paint_colors, paint_heat, strongest_cells
from atas_deploy.media.montage import Block, Panel, montage
from atas_deploy.media.overlay import blend
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.visual.maps import FloatArray
from atas_deploy.runtime.visual.viewer import View, Visual

MOST_WORDS = 12  # of the grid; the page and the pictures of single maps show more

# Longest side of a panel, and room for a row of them, in pixels: of one model, of several.
_ALONE, _SEVERAL = (512, 4 * 512), (384, 8 * 384)
_SHORTEST = 96  # side of a panel in pixels, if the longer one can be up to twice as long for it


def show_clusters(image: Image, view: View, *, opacity: float) -> Image:
    """Paint each cluster in its colour, outlined: (H, W, 3) uint8 RGB."""
    scores = view.clusters.scores
    labels = strongest_cells(scores, image.shape[:2]) + np.uint8(1)
    return blend(image, labels, class_palette(scores.shape[-1]), opacity=opacity)


def likely_words(visual: Visual, most: int = MOST_WORDS) -> list[int]:
    """Numbers of all words, or of the `most` that are the most probable somewhere, in order."""
    names = visual.class_names
    if len(names) <= most:
        return list(range(len(names)))
    peak = [view.words.probability.max(axis=(0, 1)) for view in visual.views if view.words]
    likely = np.argsort(-np.max(peak, axis=0), kind="stable")[:most]
    return sorted(likely.tolist())


def word_scale(visual: Visual, *, scores: str) -> tuple[float, float]:
    """Lowest and highest value of the heat maps of words, alike for all words and models.

    Probabilities begin at 0.
    """
    maps = [getattr(view.words, scores) for view in visual.views if view.words]
    low = 0.0 if scores == "probability" else min(float(part.min()) for part in maps)
    return low, max(float(part.max()) for part in maps)


def view_panels(
    visual: Visual,
    view: View,
    *,
    kinds: Sequence[str],
    scores: str = "probability",
    opacity: float,
    size: Size | None = None,
    words: Sequence[int] | None = None,
) -> Iterator[tuple[str, Panel]]:
    """The panels of a view by what they show: "kmeans", "pca", "similarity", or "word-NAME".

    Args:
        visual: the picture.
        view: one of its views.
        kinds: of `KINDS`.
        scores: of `SCORES`: what heat maps of words show.
        opacity: of colours over the picture, in [0, 1].
        size: (H, W) of the panels; None = as the picture.
        words: numbers of the words; None = all.
    """
    image = visual.image if size is None else resize_image(visual.image, size)
    if "kmeans" in kinds:
        count = view.clusters.scores.shape[-1]
        painted = show_clusters(image, view, opacity=opacity)
        yield "kmeans", Panel(painted, f"K-means, {count} clusters")
    if "pca" in kinds:
        painted = paint_colors(image, view.colors, opacity=opacity)
        yield "pca", Panel(painted, "PCA, 3 components as RGB")
    if "similarity" in kinds:
        panel = _heat(image, view.similarity, "similarity to the patch", opacity=opacity)
        yield "similarity", _marked(panel, view)
    if "words" in kinds and view.words is not None:
        scale = word_scale(visual, scores=scores)
        for number in range(len(visual.class_names)) if words is None else words:
            cells = np.ascontiguousarray(getattr(view.words, scores)[..., number])
            name = visual.class_names[number]
            yield f"word-{name}", _heat(image, cells, name, scale=scale, opacity=opacity)


def draw_grid(
    visual: Visual, *, kinds: Sequence[str], scores: str = "probability", opacity: float
) -> Image:
    """All panels of a picture: a row for each model, or rows of about four for a single one.

    Of many words it has the `MOST_WORDS` likeliest, and the headings say so.

    Args:
        visual: the picture.
        kinds: of `KINDS`.
        scores: of `SCORES`: what heat maps of words show.
        opacity: of colours over the picture, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    side, room = _SEVERAL if len(visual.views) > 1 else _ALONE
    size = _panel_size((visual.image.shape[0], visual.image.shape[1]), side)
    words, total = likely_words(visual), len(visual.class_names)
    part = f" - {len(words)} of {total} words" if "words" in kinds and len(words) < total else ""
    blocks = []
    for view in visual.views:
        h, w = view.grid
        picture = Panel(resize_image(visual.image, size), f"picture, {h} x {w} patches")
        panels = view_panels(
            visual, view, kinds=kinds, scores=scores, opacity=opacity, size=size, words=words
        )
        first = _marked(picture, view) if "similarity" in kinds else picture
        blocks.append(Block(view.name + part, [first, *(panel for _, panel in panels)]))
    return montage(blocks, room=room)


def _panel_size(size: Size, side: int) -> Size:
    """(H, W) of a panel: `side` pixels long, up to twice that if it would be a thin strip."""
    longest = min(max(side, _SHORTEST * max(size) / min(size)), 2 * side)
    height, width = (max(1, round(length * longest / max(size))) for length in size)
    return height, width


def _heat(
    image: Image,
    cells: FloatArray,
    caption: str,
    *,
    scale: tuple[float, float] | None = None,
    opacity: float,
) -> Panel:
    low, high = scale or (float(cells.min()), float(cells.max()))
    painted = paint_heat(image, cells, low=low, high=high, opacity=opacity)
    return Panel(painted, caption, (low, high))


def _marked(panel: Panel, view: View) -> Panel:
    return Panel(mark_cell(panel.image, view.patch, view.grid), panel.caption, panel.scale)
