"""What the proof compares with: the PyTorch model in float32, itself compared with open_clip.

B images, N texts, L tokens, C classes, H W pixels, D embedding width
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from atas_deploy.backends.base import Backend, ImageFeatures
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import OpenClip, TextEncoder
from atas_deploy.core.comparison import Comparison, Features, Limits, check, compare
from atas_deploy.core.hf_tokenizer import Tokenizer
from atas_deploy.core.proof import Reference
from atas_deploy.export.cases import Cases, class_cases

AGAINST_OPEN_CLIP = Limits(
    cosine_mean=0.99999,
    cosine_p1=0.99999,
    cosine_min=0.99999,
    agreement_clear=1.0,
    max_abs=1e-5,
)


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


def make_reference(backend: Backend, cases: Cases, *, tokenizer: Tokenizer) -> Reference:
    """Encode inputs, and the classes by which agreement is measured.

    Args:
        backend: the PyTorch model.
        cases: inputs.
        tokenizer: for the classes; their features are rounded to what float16 holds, as they are
            only there to be compared with.
    """
    features = [backend.encode_images(images) for images in cases.images]
    names, tokens = class_cases(tokenizer)
    queries = backend.encode_texts(tokens).astype(np.float16).astype(np.float32)
    return Reference(
        images=cases.images,
        dense=[each.dense for each in features],
        image=[each.image for each in features],
        tokens=cases.tokens,
        texts=[backend.encode_texts(rows) for rows in cases.tokens],
        names=names,
        queries=queries,
    )


def with_images(
    reference: Reference, backend: Backend, images: Sequence[npt.NDArray[np.uint8]]
) -> Reference:
    """The reference with further batches (B, H, W, 3) uint8, behind its own."""
    features = [backend.encode_images(batch) for batch in images]
    return replace(
        reference,
        images=[*reference.images, *images],
        dense=[*reference.dense, *(each.dense for each in features)],
        image=[*reference.image, *(each.image for each in features)],
    )


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
