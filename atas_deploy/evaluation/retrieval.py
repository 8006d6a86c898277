"""Retrieval: does a caption find its image, and an image its captions?

Recall at k is the share of queries whose right answer is among the k nearest of the whole gallery.
A caption's right answer is its image; an image's is any of its captions, the best of them counts.
Equal similarities count against, see `core.metrics.rank_among`. A row is an image with its
captions; the bootstrap draws queries, and the gallery stays whole. A k that is larger than the
number of others is left out: there the recall would be 1 for any model.

Source: Young et al., "From image descriptions to visual denotations", TACL 2014; Karpathy and
Fei-Fei, "Deep visual-semantic alignments", CVPR 2015 (splits).

N images, M captions, D embedding width
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.metrics import rank_among
from atas_deploy.core.templates import resolve_templates
from atas_deploy.evaluation.captioned import Captioned
from atas_deploy.evaluation.facts import model_facts, template_facts
from atas_deploy.evaluation.recall import count_found, recalls
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.text import TextFeatures

Features = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

_AT_ONCE = 4_000_000  # similarities in memory


def measure(totals: Counts) -> dict[str, FloatArray]:
    """Recall at 1, 5 and 10 in both directions, of which small galleries have fewer.

    Args:
        totals: "text_to_image" and "image_to_text", (..., 4 or fewer) each, see `recalls`.
    """
    return recalls(totals)


class RetrievalTask:
    """Image to text and text to image, see the module.

    Args:
        encoders: the model.
        data: the images with their captions, two at least.
        templates: the prompts that captions are put into; "none" = as they are.
        fit: how a picture becomes square, see `Encoders.whole`; None = the model's own.

    Raises:
        ConfigError: no such templates or fit.
    """

    name, unit = "retrieval", "image"
    measure = staticmethod(measure)

    def __init__(
        self,
        encoders: Encoders,
        data: Captioned,
        *,
        templates: str | Sequence[str] = "none",
        fit: str | None = None,
    ) -> None:
        self._templates = resolve_templates(templates)
        self._encoders, self._embedder = encoders, encoders.whole(fit=fit)
        self._data, self._texts = data, data.texts
        self.total: int | None = len(self._texts)

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Embed everything, then yield what each image adds."""
        texts = [text for texts in self._texts.values() for text in texts]
        counts = [len(texts) for texts in self._texts.values()]
        owner = np.repeat(np.arange(len(counts)), counts)
        images = self._embed_images(advance)
        captions = self._text_features()(texts)
        by_text = np.split(text_to_image_ranks(images, captions, owner), np.cumsum(counts)[:-1])
        by_image = image_to_text_ranks(images, captions, owner)
        others = {"text_to_image": len(images) - 1, "image_to_text": len(captions) - min(counts)}
        for name, of_texts, of_image in zip(self._texts, by_text, by_image, strict=True):
            found = {"text_to_image": of_texts, "image_to_text": of_image[None]}
            yield Row(name, {k: count_found(v, others=others[k]) for k, v in found.items()})

    def facts(self) -> dict[str, Any]:
        """Model, data and settings."""
        return {
            **model_facts(self._encoders.bundle, self._encoders.backend),
            **self._data.facts(),
            **template_facts(self._templates),
            "fit": self._embedder.fit,
            "image_size": self._embedder.size,
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """Nothing: there are no classes."""
        return []

    def _embed_images(self, advance: Callable[[], None]) -> Features:
        """All images, (N, D)."""
        features = []
        for feature in self._embedder.stream(self._data.stored.read(name) for name in self._texts):
            features.append(feature)
            advance()
        return np.stack(features)

    def _text_features(self) -> TextFeatures:
        """Captions are many and used once: they stay out of the cache on disk."""
        tokenizer = self._encoders.bundle.tokenizer()
        prompts = self._templates.prompts
        return TextFeatures(self._encoders.backend, tokenizer, templates=prompts)


def text_to_image_ranks(images: Features, texts: Features, owner: IntArray) -> IntArray:
    """How many other images are as near to each caption as its own, or nearer.

    Args:
        images: (N, D), L2-normalised.
        texts: (M, D), L2-normalised.
        owner: (M,) image of each caption.

    Returns:
        (M,); 0 = its image is the nearest.
    """
    ranks = np.empty(len(texts), np.intp)
    gallery = images.astype(np.float64).T
    for some in _blocks(len(texts), width=len(images)):
        cosines = texts[some].astype(np.float64) @ gallery
        rows = np.arange(len(cosines))
        own = cosines[rows, owner[some]]
        cosines[rows, owner[some]] = -np.inf
        ranks[some] = rank_among(own, cosines)
    return ranks


def image_to_text_ranks(images: Features, texts: Features, owner: IntArray) -> IntArray:
    """How many captions of other images are as near to each image as its best own, or nearer.

    Args:
        images: (N, D), L2-normalised.
        texts: (M, D), L2-normalised.
        owner: (M,) image of each caption; each image has one at least.

    Returns:
        (N,); 0 = a caption of its own is the nearest.
    """
    ranks = np.empty(len(images), np.intp)
    gallery = texts.astype(np.float64).T
    for some in _blocks(len(images), width=len(texts)):
        cosines = images[some].astype(np.float64) @ gallery
        mine = owner == np.arange(len(images))[some, None]
        best = np.where(mine, cosines, -np.inf).max(axis=1)
        ranks[some] = rank_among(best, np.where(mine, -np.inf, cosines))
    return ranks


def _blocks(length: int, *, width: int) -> Iterator[slice]:
    """Rows of a table so wide, as many at once as memory takes."""
    step = max(1, _AT_ONCE // max(1, width))
    return (slice(start, start + step) for start in range(0, length, step))
