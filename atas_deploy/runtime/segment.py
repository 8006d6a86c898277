"""`Segmenter`: pictures and words in, label maps out.

B images, H W pixels, h w grid, Q queries, D embedding width
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.geometry import encoder_size, resize_image
from atas_deploy.core.masks import class_scores, label_map
from atas_deploy.core.results import Segmentation
from atas_deploy.core.vocabulary import DEFAULT_TEMPLATES, Vocabulary, build_vocabulary
from atas_deploy.media.images import read_image
from atas_deploy.models import open_model
from atas_deploy.runtime.text import TextFeatures

Image = npt.NDArray[np.uint8]
BACKENDS = {"ort": OrtBackend}


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """A vocabulary and its text features, (D, Q) float32, which change together."""

    vocabulary: Vocabulary
    queries: npt.NDArray[np.float32]


class Segmenter:
    """Open-vocabulary segmentation with a bundle.

    Example:
        >>> segmenter = Segmenter("atas-tiny", classes="dog|puppy,grass")
        >>> segmenter("photo.jpg").mask("dog")          # one image: path or array
        >>> segmenter.segment([image_a, image_b])       # a list
        >>> for result in segmenter.stream(frames): ... # any length, flat memory

    Args:
        model: embedded name, bundle folder or open bundle.
        classes: "dog|puppy,grass", "@names.txt" or a sequence; see `atas_deploy.core.classes`.
        background: "auto", "none", or a list of words; see `atas_deploy.core.vocabulary`.
        threshold: least softmax probability of a pixel that keeps its class, in [0, 1].
        templates: prompts with one `{}` each.
        short_side: shorter side of the encoder's input in pixels; None = the model's own.
        logit_scale: factor on cosine similarities; None = the model's own.
        backend: "ort".
        device: "cpu", "cuda" or "cuda:N".
        batch_size: images encoded at once.

    Raises:
        ConfigError: an argument cannot be used.
        BundleError: the bundle is missing or damaged.
        BackendError: the engine or device is missing or fails.
    """

    def __init__(
        self,
        model: str | Path | Bundle = "atas-tiny",
        classes: str | Sequence[str] = (),
        *,
        background: str | Sequence[str] = "auto",
        threshold: float | None = None,
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        short_side: int | None = None,
        logit_scale: float | None = None,
        backend: str = "ort",
        device: str = "cpu",
        batch_size: int = 1,
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"The threshold is {threshold}; expected a probability in [0, 1].")
        if batch_size < 1:
            raise ConfigError(f"The batch size is {batch_size}; expected 1 or more.")
        if backend not in BACKENDS:
            raise ConfigError(f'Unknown backend "{backend}"; expected {", ".join(BACKENDS)}.')
        vocabulary = build_vocabulary(classes, background=background)
        self.bundle = open_model(model)
        manifest = self.bundle.manifest
        self.short_side = manifest.short_side if short_side is None else short_side
        encoder_size((1, 1), short_side=self.short_side, patch_size=manifest.patch_size)
        self.logit_scale = manifest.logit_scale if logit_scale is None else logit_scale
        self.threshold = threshold
        self.batch_size = batch_size
        self.backend: Backend = BACKENDS[backend](self.bundle, device=device)
        self._text = TextFeatures(self.backend, self.bundle.tokenizer(), templates=templates)
        self._background = background
        self._words = self._encode(vocabulary)

    def set_classes(
        self, classes: str | Sequence[str], *, background: str | Sequence[str] | None = None
    ) -> None:
        """Change the class list; words seen before cost nothing, no graph is touched.

        Args:
            classes: as for the class.
            background: as for the class; None keeps the rule in use.

        Raises:
            ConfigError: an argument cannot be used; the old list stays.
        """
        if background is not None:
            self._background = background
        self._words = self._encode(build_vocabulary(classes, background=self._background))

    def _encode(self, vocabulary: Vocabulary) -> "_Words":
        return _Words(vocabulary, np.ascontiguousarray(self._text(vocabulary.queries).T))

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes, background words and queries in use."""
        return self._words.vocabulary

    @property
    def templates(self) -> tuple[str, ...]:
        """The prompt templates."""
        return self._text.templates

    def __call__(self, image: Image | str | Path) -> Segmentation:
        """Segment one image: a path, or (H, W, 3) uint8 RGB."""
        return next(self.stream([image]))

    def segment(self, images: Sequence[Image | str | Path]) -> list[Segmentation]:
        """Segment several images, of any sizes.

        Raises:
            InputError: not a list, or an item cannot be read.
        """
        if isinstance(images, str | Path) or getattr(images, "ndim", 4) < 4:
            raise InputError(
                "segment() got a single image; give a list of images, or call the segmenter "
                "itself with one."
            )
        return list(self.stream(images))

    def stream(self, images: Iterable[Image | str | Path]) -> Iterator[Segmentation]:
        """Segment images as they come, in order, holding at most `batch_size` of them.

        Raises:
            InputError: an item is not a readable path or an (H, W, 3) uint8 array.
            BackendError: the engine fails.
        """
        for batch, sizes in self._batches(images):
            yield from self._segment_batch(batch, sizes)

    def _batches(
        self, images: Iterable[Image | str | Path]
    ) -> Iterator[tuple[list[Image], list[tuple[int, int]]]]:
        """Group consecutive images of equal encoder size, with their original sizes."""
        batch: list[Image] = []
        sizes: list[tuple[int, int]] = []
        for item in images:
            image = _as_image(item)
            fitted = resize_image(image, self._encoder_size(image))
            if batch and batch[0].shape != fitted.shape:
                yield batch, sizes
                batch, sizes = [], []
            batch.append(fitted)
            sizes.append((image.shape[0], image.shape[1]))
            if len(batch) == self.batch_size:  # now, not at the next image: a camera may be slow
                yield batch, sizes
                batch, sizes = [], []
        if batch:
            yield batch, sizes

    def _encoder_size(self, image: Image) -> tuple[int, int]:
        return encoder_size(
            (image.shape[0], image.shape[1]),
            short_side=self.short_side,
            patch_size=self.bundle.manifest.patch_size,
        )

    def _segment_batch(
        self, batch: Sequence[Image], sizes: Sequence[tuple[int, int]]
    ) -> Iterator[Segmentation]:
        """Encode images of equal size and label each at its original size."""
        words = self._words  # one list for the batch, even if another thread changes it
        dense_BhwD = self.backend.encode_images(np.stack(batch)).dense
        for dense_hwD, size in zip(dense_BhwD, sizes, strict=True):
            logits_hwQ = self.logit_scale * (dense_hwD @ words.queries)
            yield self._label(logits_hwQ, size, words.vocabulary)

    def _label(
        self, logits: npt.NDArray[np.float32], size: tuple[int, int], vocabulary: Vocabulary
    ) -> Segmentation:
        query_class, names = vocabulary.query_class, vocabulary.names
        result = label_map(logits, query_class, size=size, threshold=self.threshold)
        scores = class_scores(logits, query_class, classes=len(names), threshold=self.threshold)
        return Segmentation(result.labels, names, scores, result.probability)


def _as_image(item: Image | str | Path) -> Image:
    if isinstance(item, (str, Path)):
        return read_image(Path(item))
    image = np.asarray(item)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            f"Got an array of shape {image.shape} and dtype {image.dtype}; expected an RGB image "
            "(H, W, 3) of dtype uint8 with at least one pixel."
        )
    return image
