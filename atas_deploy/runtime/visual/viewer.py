"""`Visualizer`: a picture and one or more models in, what their dense features know out.

H W pixels, h w grid, D embedding width, C classes
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.geometry import Size
from atas_deploy.core.presets import Protocol
from atas_deploy.core.readouts import check_readout
from atas_deploy.core.templates import resolve_templates
from atas_deploy.core.vectors import unit
from atas_deploy.core.vocabulary import Vocabulary, build_vocabulary
from atas_deploy.media.naming import unique_names
from atas_deploy.runtime.encode import Image, ImageEncoder, as_image
from atas_deploy.runtime.encoders import Encoders, check_engine
from atas_deploy.runtime.settle import check_number, check_whole, settle
from atas_deploy.runtime.visual.kinds import MAX_CLUSTERS
from atas_deploy.runtime.visual.maps import (
    Clusters,
    FloatArray,
    WordMaps,
    cluster_map,
    component_colors,
    component_map,
    similarity_map,
    word_maps,
)
from atas_deploy.runtime.visual.match import match_clusters, match_components

_STEPS = 1_000_000  # of a share, as page.js has


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the features of one model know of a picture.

    Attributes:
        name: of the model and its read-out.
        dense: (h, w, D) float32 unit vectors.
        patch: row and column of the chosen patch in its grid.
        similarity: (h, w) float32 cosine with the chosen patch.
        clusters: of the cells; numbered alike in all views of a picture.
        components: (h, w, 3) float32, matched to those of the first view.
        words: how well the classes fit; None without classes.
    """

    name: str
    dense: FloatArray
    patch: tuple[int, int]
    similarity: FloatArray
    clusters: Clusters
    components: FloatArray
    words: WordMaps | None

    @property
    def grid(self) -> Size:
        """(h, w)."""
        return self.dense.shape[0], self.dense.shape[1]

    @property
    def colors(self) -> FloatArray:
        """(h, w, 3) float32 RGB in [0, 1] of the components."""
        return component_colors(self.components)


@dataclass(frozen=True, slots=True, eq=False)
class Visual:
    """A picture as one or more models see it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        views: one for each model and read-out, in the order given.
        class_names: the C classes.
        place: of the chosen point, as shares of height and width in [0, 1); the chosen patch of
            each view holds it.
    """

    image: Image
    views: tuple[View, ...]
    class_names: tuple[str, ...]
    place: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    name: str
    encoder: ImageEncoder
    texts: FloatArray | None  # (Q, D)
    logit_scale: float


class Visualizer:
    """Shows what dense features know, of one model or of several side by side.

    Example:
        >>> visualizer = Visualizer(["before", "after"], classes="dog,grass")
        >>> visual = visualizer("photo.jpg", point=(320, 200))
        >>> visual.views[1].similarity                  # (h, w) cosines
        >>> visual.views[1].words.probability[..., 0]   # (h, w) of "dog"

    Args:
        models: names, bundle folders, checkpoints or open bundles, or one of them; see
            `atas_deploy.models.open_model`.
        readouts: how dense features are read, each with each model; () = the models' own.
        classes: words to show, see `atas_deploy.core.classes`; None = none.
        background: what competes with them: "auto", "none", or a list of words.
        templates: prompts, see `atas_deploy.core.templates`.
        logit_scale: factor on cosines before the softmax; None = the models' own.
        clusters: of K-means, 1 to 64.
        short_side: shorter side of the encoder's input in pixels; None = the models' own.
        backend: "ort" or "trt".
        device: "cpu", "cuda" or "cuda:N"; None = "cpu" for "ort" and "cuda" for "trt".
        cache: whether to keep text features on disk for the next run.
        progress: called with (done, total) while thousands of prompts are encoded.
        tell: called with one line when a model must be exported first.

    Attributes:
        names: of the views, in order.

    Raises:
        ConfigError: an argument cannot be used.
        BundleError: a bundle is missing or damaged.
        BackendUnavailableError: the engine or device is missing.
    """

    def __init__(  # noqa: PLR0913
        self,
        models: str | Path | Bundle | Sequence[str | Path | Bundle] = ("atas-tiny",),
        *,
        readouts: str | Sequence[str] = (),
        classes: str | Sequence[str] | None = None,
        background: str | Sequence[str] = "auto",
        templates: str | Sequence[str] = "default",
        logit_scale: float | None = None,
        clusters: int = 8,
        short_side: int | None = None,
        backend: str = "ort",
        device: str | None = None,
        cache: bool = True,
        progress: Callable[[int, int], None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        check_engine(backend, device)
        self._clusters = _check_clusters(clusters)
        protocol = settle(
            Protocol(),
            background=background,
            templates=templates,
            logit_scale=logit_scale,
            short_side=short_side,
        )
        pairs = _pairs(models, readouts)
        self._vocabulary: Vocabulary | None = None
        if classes is not None:
            self._vocabulary = build_vocabulary(classes, background=background)
        prompts = resolve_templates(templates).prompts
        opened = [
            Encoders(
                model,
                readout=readout,
                backend=backend,
                device=device,
                cache=cache,
                progress=progress,
                tell=tell,
            )
            for model, readout in pairs
        ]
        self.names = _view_names([model for model, _ in pairs], opened)
        self._models = [
            _Model(
                name,
                encoders.dense(short_side=protocol.short_side),
                encoders.texts(prompts)(self._vocabulary.queries) if self._vocabulary else None,
                protocol.logit_scale or encoders.bundle.manifest.logit_scale,
            )
            for name, encoders in zip(self.names, opened, strict=True)
        ]

    def __call__(
        self, image: Image | str | Path, *, point: tuple[float, float] | None = None
    ) -> Visual:
        """Look at a picture.

        Args:
            image: a path, or (H, W, 3) uint8 RGB.
            point: x and y, in pixels of the picture, of the chosen patch; None = its middle.

        Raises:
            InputError: it cannot be read, or the point is outside of it.
            ConfigError: the point is no two numbers.
            BackendError: the engine fails.
        """
        pixels = as_image(image)
        size = pixels.shape[0], pixels.shape[1]
        place = _place(point, size)
        views: list[View] = []
        for model in self._models:
            views.append(self._view(model, pixels, place, views[0] if views else None))
        names = self._vocabulary.names if self._vocabulary else ()
        return Visual(pixels, tuple(views), names, place)

    def _view(
        self, model: _Model, image: Image, place: tuple[float, float], first: View | None
    ) -> View:
        dense = unit(model.encoder(image).dense)
        h, w = dense.shape[:2]
        patch = int(place[0] * h), int(place[1] * w)
        clusters, components = cluster_map(dense, self._clusters), component_map(dense)
        if first is not None:
            clusters = match_clusters(clusters, first.clusters)
            components = match_components(components, first.components)
        words = None
        if self._vocabulary is not None and model.texts is not None:
            scale = model.logit_scale
            words = word_maps(dense, model.texts, self._vocabulary, logit_scale=scale)
        return View(
            model.name, dense, patch, similarity_map(dense, patch), clusters, components, words
        )


def _check_clusters(clusters: int) -> int:
    number = check_whole("number of clusters", clusters, expected := f"1 to {MAX_CLUSTERS}")
    if number > MAX_CLUSTERS:
        raise ConfigError(f"The number of clusters is {number}; expected {expected}.")
    return number


def _pairs(
    models: str | Path | Bundle | Sequence[str | Path | Bundle], readouts: str | Sequence[str]
) -> list[tuple[str | Path | Bundle, str | None]]:
    """Each model with each read-out; None = its own.

    Raises:
        ConfigError: there is no model, or no such read-out.
    """
    models = [models] if isinstance(models, str | Path | Bundle) else models
    if not models:
        raise ConfigError("No model was named; expected one or more, as atas-tiny.")
    readouts = [readouts] if isinstance(readouts, str) else readouts
    wanted: list[str | None] = [check_readout(readout) for readout in readouts]
    return list(product(models, wanted or [None]))


def check_point(point: tuple[float, float]) -> tuple[float, float]:
    """A point (x, y) as two finite numbers.

    Raises:
        ConfigError: it is none.
    """
    expected = "x and y in pixels"
    try:
        x, y = (check_number("point", value, expected, lambda _: True) for value in point)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"The point is {point!r}; expected {expected}.") from exc
    return x, y


def _place(point: tuple[float, float] | None, size: Size) -> tuple[float, float]:
    """A point (x, y) in pixels as shares of height and width, in [0, 1).

    They are rounded up to the digits that the page's address has, so that the page finds the very
    same patch, and so that the first pixel of a patch lies in it.

    Raises:
        ConfigError: it is none.
        InputError: it lies outside of the picture.
    """
    if point is None:
        return 0.5, 0.5
    (x, y), (height, width) = check_point(point), size
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"The point {x:g},{y:g} is outside of the picture, which is {width} x {height} pixels; "
            "give X,Y inside of it."
        )
    shares = (math.ceil(part * _STEPS) / _STEPS for part in (y / height, x / width))
    row, column = (min(share, 1 - 1 / _STEPS) for share in shares)
    return row, column


def _view_names(
    models: Sequence[str | Path | Bundle], opened: Sequence[Encoders]
) -> tuple[str, ...]:
    """A name for each view, unlike all others: the model as it was called, and its read-out."""
    rows = []
    for model, encoders in zip(models, opened, strict=True):
        readout = encoders.bundle.manifest.readout
        called = model.manifest.name if isinstance(model, Bundle) else str(model)
        rows.append((f"{Path(called).name or called}, {readout}", f"{called}, {readout}"))
    return tuple(unique_names(rows, short=lambda row: row[0], long=lambda row: row[1]))
