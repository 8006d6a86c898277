"""The proof: features must be those that the PyTorch model computes in float32.

A `Reference` holds inputs and the features that PyTorch computed from them. It travels in the
bundle, so that any backend on any machine can be proved without torch.

    B images, N texts, L tokens, H W pixels, h w grid, C classes, D embedding width
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atas_deploy.core.bundle import REFERENCE, Bundle
from atas_deploy.core.comparison import (
    LIMITS,
    REPORT_IT,
    Comparison,
    Features,
    Limits,
    check,
    compare,
)
from atas_deploy.core.errors import BundleError, ParityError
from atas_deploy.core.files import atomic_path

_BATCHES = ("images", "dense", "image", "tokens", "texts")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reference:
    """Inputs and what PyTorch computed from them in float32; equal indices belong together.

    Attributes:
        images: batches (B, H, W, 3) uint8 RGB.
        dense: (B, h, w, D) float32 of each batch.
        image: (B, D) float32 of each batch.
        tokens: batches (N, L) int64.
        texts: (N, D) float32 of each batch.
        names: C classes.
        queries: (C, D) float32, L2-normalised, their text features.
    """

    images: Sequence[npt.NDArray[np.uint8]]
    dense: Sequence[Features]
    image: Sequence[Features]
    tokens: Sequence[npt.NDArray[np.int64]]
    texts: Sequence[Features]
    names: Sequence[str]
    queries: Features

    def only(self, fits: Callable[[tuple[int, ...]], bool]) -> "Reference":
        """The reference without the batches of images, (B, H, W, 3), that do not fit."""
        chosen = [index for index, images in enumerate(self.images) if fits(images.shape)]
        return replace(
            self,
            images=[self.images[index] for index in chosen],
            dense=[self.dense[index] for index in chosen],
            image=[self.image[index] for index in chosen],
        )


class _ImageFeatures(Protocol):
    @property
    def dense(self) -> Features: ...
    @property
    def image(self) -> Features: ...


class Encoder(Protocol):
    """What is proved: a backend, see `atas_deploy.backends.base.Backend`."""

    name: str
    device: str

    def encode_images(self, images: npt.NDArray[np.uint8]) -> _ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images."""
        ...

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> Features:
        """Encode (N, L) int64 tokens to (N, D) float32."""
        ...


def prove_backend(
    backend: Encoder,
    reference: Reference,
    *,
    limits: Limits,
    fits: Callable[[tuple[int, ...]], bool] = lambda shape: True,
    stage: str | None = None,
    cure: str = REPORT_IT,
) -> list[Comparison]:
    """Compare a backend with PyTorch on all cases; texts always within the limits of float32.

    Args:
        backend: what is proved.
        reference: inputs and PyTorch's features.
        limits: how far image features may differ.
        fits: whether the backend takes images of a shape (B, H, W, 3); others are left out.
        stage: as errors call it; None = name and device of the backend.
        cure: what to do about a failure, the end of the sentence.

    Returns:
        One comparison for each output and batch.

    Raises:
        ParityError: a limit is exceeded, naming stage, output, input shape, metric, value and
            limit; or no images fit, so that nothing would be proved.
    """
    stage = stage or f"{backend.name}, {backend.device}"
    fitting = reference.only(fits)
    found = prove_images(backend.encode_images, fitting, limits=limits, stage=stage, cure=cure)
    if reference.images and not found:
        shapes = ", ".join(" x ".join(map(str, images.shape)) for images in reference.images)
        raise ParityError(
            f"Nothing proves the image encoder ({stage}): it takes none of the reference's inputs "
            f"({shapes}); let it take one of these sizes, or export with others."
        )
    texts = (
        compare("text", tokens.shape, backend.encode_texts(tokens), expected)
        for tokens, expected in zip(reference.tokens, reference.texts, strict=True)
    )
    return found + _checked(texts, LIMITS["fp32"], stage=stage, cure=cure)


def prove_images(
    encode: Callable[[npt.NDArray[np.uint8]], _ImageFeatures],
    reference: Reference,
    *,
    limits: Limits,
    stage: str,
    cure: str = REPORT_IT,
) -> list[Comparison]:
    """As `prove_backend`, for an image encoder alone.

    Raises:
        ParityError: a limit is exceeded.
    """
    cases = zip(reference.images, reference.dense, reference.image, strict=True)
    found = (c for case in cases for c in _compare_images(encode, *case, reference.queries))
    return _checked(found, limits, stage=stage, cure=cure)


def _compare_images(
    encode: Callable[[npt.NDArray[np.uint8]], _ImageFeatures],
    images: npt.NDArray[np.uint8],
    dense: Features,
    image: Features,
    queries: Features,
) -> Iterator[Comparison]:
    got = encode(images)
    yield compare("dense", images.shape, got.dense, dense, queries=queries)
    yield compare("image", images.shape, got.image, image, queries=queries)


def _checked(
    comparisons: Iterable[Comparison], limits: Limits, *, stage: str, cure: str
) -> list[Comparison]:
    found = []
    for comparison in comparisons:
        check(comparison, limits, stage=stage, cure=cure)
        found.append(comparison)
    return found


def write_reference(path: Path, reference: Reference, *, features: str = "float32") -> None:
    """Write a reference as an npz file, whole or not at all.

    Args:
        path: of the file.
        reference: what to write.
        features: dtype in which image features are stored; float16 adds an error of some 1e-7 to
            a cosine, far within the limits of fp16 and bf16, and halves the file.

    Raises:
        OutputError: it cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"names": np.array(reference.names)}
    arrays["queries"] = reference.queries
    for kind in _BATCHES:
        dtype = features if kind in ("dense", "image") else None
        for index, batch in enumerate(getattr(reference, kind)):
            arrays[f"{kind}_{index}"] = np.asarray(batch, dtype)
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def read_reference(bundle: Bundle) -> Reference:
    """The reference of a bundle.

    Raises:
        BundleError: the bundle has none, or it is damaged; says what to do.
    """
    if REFERENCE not in bundle.manifest.files:
        raise BundleError(
            f"The bundle {bundle.path} has no {REFERENCE} to prove it by, as it was written by an "
            "earlier release; export the model again."
        )
    return load_reference(bundle.path / REFERENCE)


def load_reference(path: Path) -> Reference:
    """Read what `write_reference` wrote; features are float32 again.

    Raises:
        BundleError: the file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return _reference(arrays)
    except (OSError, ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile) as exc:
        raise BundleError(
            f"The reference {path} cannot be read ({exc}); export the model again."
        ) from exc


def _reference(arrays: Mapping[str, npt.NDArray[Any]]) -> Reference:
    batches: dict[str, list[npt.NDArray[Any]]] = {}
    for kind in _BATCHES:
        count = sum(name.rpartition("_")[0] == kind for name in arrays)
        batches[kind] = [arrays[f"{kind}_{index}"] for index in range(count)]
    for kind in ("dense", "image", "texts"):
        batches[kind] = [batch.astype(np.float32) for batch in batches[kind]]
    if not {len(batches[k]) for k in ("images", "dense", "image")} == {len(batches["images"])}:
        raise ValueError("images without features")
    if len(batches["tokens"]) != len(batches["texts"]):
        raise ValueError("tokens without features")
    names, queries = arrays["names"].tolist(), arrays["queries"].astype(np.float32)
    widths = {batch.shape[-1] for kind in ("dense", "image", "texts") for batch in batches[kind]}
    if widths - {queries.shape[-1]}:
        raise ValueError("features of several widths")
    return Reference(**batches, names=names, queries=queries)
