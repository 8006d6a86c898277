"""One HTML page a picture that needs nothing else: a click on a patch shows what is like it.

The page's script computes similarities from the features, 8 bits a value with a scale for each
patch. Its policy lets no other script run, and nothing be loaded.

h w grid, C classes
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from atas_deploy import __version__
from atas_deploy.core.files import atomic_path
from atas_deploy.core.geometry import Size, resize_image
from atas_deploy.core.palette import class_palette
from atas_deploy.media.heat import heat_colors, strongest_cells
from atas_deploy.media.inline import jpeg_uri, palette_uri
from atas_deploy.runtime.visual import pack
from atas_deploy.runtime.visual.kinds import SCORES
from atas_deploy.runtime.visual.maps import nearest_cells, resize_cells
from atas_deploy.runtime.visual.panels import likely_words, word_scale
from atas_deploy.runtime.visual.viewer import View, Visual

_FOLDER = Path(__file__).parent
_LONGEST_SIDE = 1280  # of the picture in the page
_CLUSTER_SIDE = 768  # of the picture of clusters


def write_page(
    path: Path, visual: Visual, *, title: str, scores: str = "probability", opacity: float = 0.7
) -> list[str]:
    """Write the page of a picture.

    It has all words, or as many of the most probable ones as fit.

    Args:
        path: the file to create or replace.
        visual: the picture.
        title: what the page calls it; any text.
        scores: "probability" or "cosine": what words show at first.
        opacity: of maps over the picture at first, in [0, 1].

    Returns:
        Sentences on what was left out so that the page stays small: words, and cells of a model
        whose grid was made coarser.

    Raises:
        OutputError: the file cannot be written.
    """
    shapes = [view.dense.shape for view in visual.views]
    words = likely_words(visual, pack.words_that_fit(shapes, len(visual.class_names)))
    models = [_model(visual, view, words=words) for view in visual.views]
    notes = _notes(visual, models, words=len(words))
    content = {
        "size": visual.image.shape[:2],
        "image": jpeg_uri(resize_image(visual.image, _shrunk(visual, _LONGEST_SIDE))),
        "heat": pack.text(heat_colors()),
        "words": [visual.class_names[number] for number in words],
        "scores": scores,
        "place": visual.place,
        "models": models,
    }
    page = _fill(title, visual, content, opacity=opacity, note=" ".join(notes))
    with atomic_path(path) as part:
        part.write_bytes(page.encode("utf-8", "replace"))
    return notes


def _notes(visual: Visual, models: Sequence[Mapping[str, Any]], *, words: int) -> list[str]:
    """What the page has less of than the picture."""
    small, total = f"so that it stays below {4 * pack.MAX_BYTES / 3e6:.0f} MB", visual.class_names
    notes = [
        f"The page shows {view.name} on {_by(model['grid'])} patches instead of {_by(view.grid)}, "
        f"{small}; a smaller --short-side shows its own grid."
        for view, model in zip(visual.views, models, strict=True)
        if tuple(model["grid"]) != view.grid
    ]
    if words < len(total):
        notes.append(f"The page has the {words} likeliest of {len(total)} words, {small}.")
    return notes


def _model(visual: Visual, view: View, *, words: Sequence[int]) -> dict[str, Any]:
    """What the page holds of a model."""
    width = view.dense.shape[-1]
    cells = pack.cells_that_fit(width, len(words), models=len(visual.views))
    dense = pack.fit(view.dense, cells)
    h, w = dense.shape[:2]
    packed = pack.pack(dense)
    scores, palette = view.clusters.scores, class_palette(view.clusters.scores.shape[-1])[1:]
    large = strongest_cells(scores, _shrunk(visual, _CLUSTER_SIDE))
    return {
        "name": view.name,
        "grid": (h, w),
        "dim": width,
        "features": pack.text(packed.values),
        "scales": pack.text(packed.scales),
        "pca": pack.text(pack.levels(resize_cells(view.colors, (h, w)), 0, 1)),
        "labels": pack.text(nearest_cells(view.clusters.labels, (h, w)).astype(np.uint8)),
        "colors": palette.tolist(),
        "clusters": palette_uri(large, palette),
        "words": _words(visual, view, (h, w), words=words),
    }


def _words(visual: Visual, view: View, grid: Size, *, words: Sequence[int]) -> dict[str, Any]:
    """Maps of the words, by the kind of score, in 8 bits from `low` to `high`."""
    if view.words is None:
        return {}
    maps = {}
    for kind in SCORES:
        low, high = word_scale(visual, scores=kind)
        chosen = getattr(view.words, kind)[..., words]
        cells = pack.levels(resize_cells(chosen, grid), low, high)
        maps[kind] = {"low": low, "high": high, "cells": pack.text(cells)}
    return maps


def _shrunk(visual: Visual, longest: int) -> Size:
    """(H, W) of the picture, smaller if a side is longer."""
    height, width = visual.image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _fill(
    title: str, visual: Visual, content: Mapping[str, Any], *, opacity: float, note: str
) -> str:
    """Put texts and data into the page; every text that a user could choose is escaped."""
    style, script = (_read(name) for name in ("page.css", "page.js"))
    height, width = visual.image.shape[:2]
    grids = ", ".join(dict.fromkeys(_by(model["grid"]) for model in content["models"]))
    clusters = visual.views[0].clusters.scores.shape[-1]
    return Template(_read("page.html")).substitute(
        title=escape(title),
        about=f"{width} x {height} pixels · {grids} patches · {clusters} clusters",
        note=escape(note),
        version=__version__,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        opacity=round(100 * opacity),
        style=style,
        script=script,
        data=json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    """What a content security policy calls an inline script or style."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _by(grid: Size) -> str:
    return f"{grid[0]} x {grid[1]}"
