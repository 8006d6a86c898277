"""A picture with its features, and words: the labels of its pixels.

Q queries, D embedding width
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.masks import (
    LabelMap,
    background_only,
    competing_queries,
    label_map,
    merged_label_map,
    refined_label_map,
    refined_merged_label_map,
    widen,
)
from atas_deploy.core.presets import Protocol
from atas_deploy.core.vocabulary import Vocabulary
from atas_deploy.runtime.encode import Encoded

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A vocabulary and its text features times the logit scale, (D, Q), which change together."""

    vocabulary: Vocabulary
    queries: FloatArray


def label_picture(
    picture: Encoded, words: Words, protocol: Protocol, *, probability: bool
) -> LabelMap:
    """Label the pixels of a picture.

    Args:
        picture: with its features.
        words: that may compete.
        protocol: its threshold, denoising and refinement.
        probability: whether the probability of every pixel is wanted.
    """
    queries, query_class = words.queries, words.vocabulary.query_class
    if not protocol.denoise:
        return _masks(picture, queries, query_class, protocol, probability=probability)
    kept = competing_queries(picture.dense, queries, query_class, least=protocol.denoise)
    if not kept.any():
        return background_only(picture.size, query_class)
    found = _masks(picture, queries[:, kept], query_class[kept], protocol, probability=probability)
    return widen(found, query_class)


def _masks(
    picture: Encoded,
    queries: FloatArray,
    query_class: IntArray,
    protocol: Protocol,
    *,
    probability: bool,
) -> LabelMap:
    """Label a picture with the queries that compete in it, (D, Q) and (Q,)."""
    place = picture.dense, queries, query_class
    size, tiles, threshold = picture.size, picture.tiles, protocol.threshold
    if protocol.refine == "pamr":
        image = picture.fitted
        if tiles is None:
            return refined_label_map(*place, image=image, size=size, threshold=threshold)
        return refined_merged_label_map(
            *place, tiles=tiles, image=image, size=size, threshold=threshold
        )
    if tiles is None:
        return label_map(*place, size=size, threshold=threshold, probability=probability)
    return merged_label_map(
        *place, tiles=tiles, size=size, threshold=threshold, probability=probability
    )
