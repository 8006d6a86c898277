"""A small run: three label maps, one of background only, one in a sub-folder."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from atas_deploy.media.formats import Labelled

Maps = dict[str, npt.NDArray[np.uint8]]
Items = Callable[..., Iterator[Labelled]]


@pytest.fixture
def names() -> list[str]:
    """Four classes, the last of which never occurs."""
    return ["dog", "grass", "sky", "absent"]


@pytest.fixture
def maps() -> Maps:
    """Label maps by the name of the image; blobs, noise and nothing."""
    random = np.random.default_rng(0)
    blobs = np.zeros((30, 50), np.uint8)
    blobs[2:20, 4:30], blobs[8:12, 10:20], blobs[25:, :] = 1, 0, 2
    noise = random.integers(0, 4, (17, 23)).astype(np.uint8)
    return {"blobs": blobs, "sub/noise.2": noise, "nothing": np.zeros((5, 7), np.uint8)}


@pytest.fixture
def items(maps: Maps, names: list[str]) -> Items:
    """Make items that can be consumed once, of these maps or of others."""

    def make(
        maps: Maps = maps, names: Sequence[str] = names, suffix: str = ".jpg"
    ) -> Iterator[Labelled]:
        for name, labels in maps.items():
            classes = [
                {"id": i, "name": names[i - 1], "score": i / 8, "area": float((labels == i).mean())}
                for i in np.unique(labels).tolist()
                if 0 < i <= len(names)
            ]
            yield Labelled(name, name + suffix, *labels.shape, labels.copy, classes)

    return make
