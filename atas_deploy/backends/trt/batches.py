"""Batches of any length, as the profiles of an engine allow them."""

from collections.abc import Sequence
from dataclasses import dataclass

from atas_deploy.backends.trt.profiles import Profile, Shape, choose


@dataclass(frozen=True, slots=True)
class Batches:
    """How a batch is executed: in parts of one length, the last one filled up if it is shorter.

    Attributes:
        profile: number of the profile.
        length: images in a part.
    """

    profile: int
    length: int


def split_batch(profiles: Sequence[Profile], shape: Shape) -> Batches:
    """Split (B, H, W) into as few parts as the profiles for that H and W allow.

    The parts have one length, so that a CUDA graph serves them all, and the least that does:
    33 images are two parts of 17 where 32 are allowed, and 2 images are one of 4 where 4 are the
    least.

    Raises:
        InputError: no profile takes this H and W.
    """
    batch, height, width = shape
    fitting = [profile for profile in profiles if takes_size(profile, shape)]
    if not fitting:
        return Batches(choose(profiles, shape), batch)  # it raises, and names the nearest size
    most = max(profile.most[0] for profile in fitting)
    length = -(-batch // -(-batch // most))
    length = min(max(length, p.least[0]) for p in fitting if length <= p.most[0])
    return Batches(choose(profiles, (length, height, width)), length)


def takes_size(profile: Profile, shape: Shape) -> bool:
    """Whether a profile takes H and W; the number of images never matters."""
    return profile.nearest(shape)[1:] == tuple(shape[1:])
