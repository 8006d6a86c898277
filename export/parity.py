"""The proof: a graph must compute what the PyTorch model computes.

Any backend can be compared with any other; the reference is PyTorch in float32 (`TorchReference`).

    B images, N texts, L tokens, H W pixels, P patch size, D embedding width
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from atas_deploy.backends.base import Backend, ImageFeatures
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import OpenClip, TextEncoder
from atas_deploy.core.errors import ParityError
from atas_deploy.export.cases import Cases

Features = npt.NDArray[np.float32]
_GRAPHS = {"dense": "image encoder", "image": "image encoder", "text": "text encoder"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How far features of unit length may differ.

    The defaults are for float32 arithmetic; correct graphs stay near 1e-6 and 1 - 1e-7.

    Attributes:
        max_abs: largest difference of any element.
        cosine: smallest cosine of any patch, image or text.
    """

    max_abs: float = 1e-4
    cosine: float = 0.9999


AGAINST_OPEN_CLIP = Limits(max_abs=1e-5, cosine=0.99999)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One output of one graph on one batch.

    Attributes:
        output: dense, image or text.
        shape: of the input: [B, H, W, 3] or [N, L].
        max_abs: largest difference of any element.
        cosine_mean: mean cosine over patches, images or texts.
        cosine_min: smallest of these cosines.
    """

    output: str
    shape: tuple[int, ...]
    max_abs: float
    cosine_mean: float
    cosine_min: float


class TorchReference:
    """The PyTorch model, in float32 on the CPU, as a backend."""

    name = "torch"
    device = "cpu"

    def __init__(self, image: ImageGraph, text: TextEncoder) -> None:
        self._image = image.eval()
        self._text = text.eval()

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images."""
        with torch.inference_mode():
            dense, image = self._image(torch.from_numpy(images))
        return ImageFeatures(dense.numpy(), image.numpy())

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> Features:
        """Encode (N, L) int64 tokens."""
        with torch.inference_mode():
            text: Features = self._text(torch.from_numpy(tokens)).numpy()
        return text


def prove(
    candidate: Backend, reference: Backend, cases: Cases, *, limits: Limits
) -> list[Comparison]:
    """Compare two backends on all cases.

    Args:
        candidate: what was exported or built.
        reference: what it was made from.
        cases: inputs.
        limits: how far the features may differ.

    Returns:
        One comparison for each output and batch.

    Raises:
        ParityError: a limit is exceeded; names the graph, input, metric, value and limit.
    """
    found = []
    for comparison in _compare_all(candidate, reference, cases):
        check(comparison, limits, stage=f"{candidate.name} ({candidate.device})")
        found.append(comparison)
    return found


def prove_reference(
    reference: Backend, model: OpenClip, graph: ImageGraph, cases: Cases
) -> list[Comparison]:
    """Compare the reference's class token and text features with open_clip's own functions.

    Args:
        reference: our PyTorch modules.
        model: the open_clip model, which takes images of its trained size and full token rows.
        graph: gives the pixel normalisation.
        cases: images of the trained size; of the tokens, those of full length are used.

    Raises:
        ParityError: our modules do not compute what open_clip computes.
    """
    found = []
    with torch.inference_mode():
        for images in cases.images:
            expected = F.normalize(model.encode_image(graph.normalise(torch.from_numpy(images))))
            got = reference.encode_images(images).image
            found.append(compare("image", images.shape, got, expected.numpy()))
        length = model.context_length
        for tokens in (batch for batch in cases.tokens if batch.shape[1] == length):
            expected = F.normalize(model.encode_text(torch.from_numpy(tokens)))
            got = reference.encode_texts(tokens)
            found.append(compare("text", tokens.shape, got, expected.numpy()))
    for comparison in found:
        check(comparison, AGAINST_OPEN_CLIP, stage="our modules against open_clip")
    return found


def compare(output: str, shape: tuple[int, ...], got: Features, expected: Features) -> Comparison:
    """Measure how far (..., D) features differ; NaN anywhere makes the result NaN."""
    if got.shape != expected.shape:
        raise ParityError(
            f"The output {output} for input {list(shape)} has shape {list(got.shape)}, expected "
            f"{list(expected.shape)}; the graph is wrong, please report it with the model's name."
        )
    a, b = got.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = (a * b).sum(axis=-1) / np.maximum(lengths, 1e-12)
    return Comparison(
        output=output,
        shape=shape,
        max_abs=float(np.abs(a - b).max()),
        cosine_mean=float(cosine.mean()),
        cosine_min=float(cosine.min()),
    )


def check(comparison: Comparison, limits: Limits, *, stage: str) -> None:
    """Raise ParityError if a comparison exceeds the limits."""
    # "not <=": a NaN must fail.
    problem = None
    if not comparison.max_abs <= limits.max_abs:
        problem = f"the maximum difference {comparison.max_abs:.3g}, limit {limits.max_abs:g}"
    elif not comparison.cosine_min >= limits.cosine:
        problem = f"the smallest cosine {comparison.cosine_min:.6f}, limit {limits.cosine:g}"
    if problem:
        shape = " x ".join(map(str, comparison.shape))
        raise ParityError(
            f"The {_GRAPHS[comparison.output]} is not what the PyTorch model computes ({stage}): "
            f"output {comparison.output} for input {shape} has {problem}; nothing was written, "
            "please report it with the model's name."
        )


def report(stage: str, comparisons: Sequence[Comparison], limits: Limits) -> dict[str, Any]:
    """One stage of parity.json: the limits, the worst values and every comparison."""
    return {
        "stage": stage,
        "limits": asdict(limits),
        "worst": worst(comparisons),
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }


def worst(comparisons: Sequence[Comparison]) -> Mapping[str, Mapping[str, float]]:
    """The largest difference and the smallest cosine of each output."""
    outputs = sorted({comparison.output for comparison in comparisons})
    mine = {o: [c for c in comparisons if c.output == o] for o in outputs}
    return {
        output: {
            "max_abs": max(c.max_abs for c in found),
            "cosine_min": min(c.cosine_min for c in found),
        }
        for output, found in mine.items()
    }


def _compare_all(candidate: Backend, reference: Backend, cases: Cases) -> Iterator[Comparison]:
    for images in cases.images:
        got, expected = candidate.encode_images(images), reference.encode_images(images)
        yield compare("dense", images.shape, got.dense, expected.dense)
        yield compare("image", images.shape, got.image, expected.image)
    for tokens in cases.tokens:
        got_text, expected_text = candidate.encode_texts(tokens), reference.encode_texts(tokens)
        yield compare("text", tokens.shape, got_text, expected_text)
