"""The proof of an engine, on the card that runs it: each profile, with and without CUDA graphs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend, ImageFeatures
from atas_deploy.backends.trt.batches import takes_size
from atas_deploy.backends.trt.profiles import Profile, Shape
from atas_deploy.core.comparison import Comparison, Limits
from atas_deploy.core.errors import BundleError
from atas_deploy.core.proof import Reference, prove_backend

_WAYS = ("executed", "executed and captured", "launched as a CUDA graph")


class ProfiledBackend(Backend, Protocol):
    """A backend that can be told which profile of its engine to use."""

    def encode_in_profile(self, images: npt.NDArray[np.uint8], profile: int) -> ImageFeatures:
        """As `encode_images`, with the profile of that number."""
        ...


class _InProfile:
    """A backend that uses one profile for everything."""

    def __init__(self, backend: ProfiledBackend, profile: int) -> None:
        self.name, self.device = backend.name, backend.device
        self.encode_texts = backend.encode_texts
        self._backend, self._profile = backend, profile

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        return self._backend.encode_in_profile(images, self._profile)


def prove_engine(
    backend: ProfiledBackend,
    reference: Reference,
    *,
    profiles: Sequence[Profile],
    limits: Limits,
    cure: str,
) -> list[Comparison]:
    """Compare an engine with PyTorch on every case that fits a profile, three times in a row.

    Batches are filled up or split for a profile, so only H and W of a case must fit it. The second
    time a shape is captured, and the third time its graph is launched. Texts are compared once.

    Args:
        backend: the engine, on its card.
        reference: inputs and PyTorch's features.
        profiles: of the engine.
        limits: how far image features may differ.
        cure: what to do about a failure, the end of the sentence.

    Raises:
        BundleError: a profile takes no case; says what to do.
        ParityError: a limit is exceeded.
    """
    cases = [list(_cases_for(profile, reference)) for profile in profiles]
    for profile, fitting in zip(profiles, cases, strict=True):
        if not fitting:
            raise BundleError(_no_case(profile, reference))
    texts_only = replace(reference, images=(), dense=(), image=())
    found = prove_backend(backend, texts_only, limits=limits, cure=cure)
    for index, fitting in enumerate(cases):
        chosen = _InProfile(backend, index)
        for case in fitting:
            for way in _WAYS:
                stage = f"trt, {backend.device}, profile {profiles[index]}, {way}"
                found += prove_backend(chosen, case, limits=limits, stage=stage, cure=cure)
    return found


def _cases_for(profile: Profile, reference: Reference) -> Iterator[Reference]:
    """References of one batch of images each, of sizes that a profile takes."""
    batches = zip(reference.images, reference.dense, reference.image, strict=True)
    for images, dense, image in batches:
        if takes_size(profile, _shape(images)):
            yield replace(
                reference, images=(images,), dense=(dense,), image=(image,), tokens=(), texts=()
            )


def _shape(images: npt.NDArray[np.uint8]) -> Shape:
    batch, height, width, _ = images.shape
    return batch, height, width


def _no_case(profile: Profile, reference: Reference) -> str:
    sizes = dict.fromkeys(f"{h} x {w}" for _, h, w in map(_shape, reference.images))
    return (
        f"The engine cannot be proved, and is not used: its profile {profile} takes none of the "
        f"sizes that the bundle has features of ({', '.join(sizes)}); export the model again with "
        f"--trt and --profile {profile}, or build an engine whose profiles take one of them."
    )
