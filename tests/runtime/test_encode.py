"""Pictures to features, by windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.backends.base import ImageFeatures
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.geometry import window_starts
from atas_deploy.models import open_model
from atas_deploy.runtime.encode import ImageEncoder, Windows, snap_windows


@pytest.fixture(scope="module")
def backend() -> OrtBackend:
    """The embedded model."""
    return OrtBackend(open_model("atas-tiny"))


def noise(height: int, width: int) -> np.ndarray:
    """Seeded noise, (height, width, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_the_axis(length: int, window: int, stride: int) -> None:
    """All of it if the stride leaves no gap; every window lies inside; no two are the same."""
    window = min(window, length)
    starts = window_starts(length, window=window, stride=stride)
    assert starts[0] == 0
    assert starts[-1] == length - window
    assert starts == sorted(set(starts))
    if stride <= window:
        covered = {i for start in starts for i in range(start, start + window)}
        assert covered == set(range(length))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_windows_are_averaged_on_the_grid(backend: OrtBackend, batch_size: int) -> None:
    """Each patch has the mean over the windows that cover it, one by one."""
    images = [noise(80, 112), noise(80, 112)[::-1].copy()]
    encoder = ImageEncoder(
        backend, patch_size=16, short_side=80, windows=Windows(3, 2), batch_size=batch_size
    )
    dense = encoder.encode(images)
    total, count = np.zeros((2, 5, 7, dense.shape[-1])), np.zeros((5, 7, 1))
    for i, image in enumerate(images):
        for y in (0, 2):
            for x in (0, 2, 4):
                pixels = image[16 * y : 16 * y + 48, 16 * x : 16 * x + 48]
                total[i, y : y + 3, x : x + 3] += backend.encode_images(pixels[None]).dense[0]
                count[y : y + 3, x : x + 3] += i == 0
    np.testing.assert_allclose(dense, total / count, atol=1e-5)


def test_a_window_larger_than_one_side_is_cut_to_it(backend: OrtBackend) -> None:
    """A strip is covered by windows of its own height."""
    seen = []

    class Spy:
        def encode_images(self, images: np.ndarray) -> ImageFeatures:
            seen.append(images.shape)
            return backend.encode_images(images)

    encoder = ImageEncoder(Spy(), patch_size=16, short_side=32, windows=Windows(4, 2))
    assert encoder.encode([noise(32, 128)]).shape[1:3] == (2, 8)
    assert seen == [(1, 32, 64, 3)] * 3


@pytest.mark.parametrize(
    ("window", "stride", "expected"),
    [
        (None, None, None),
        (224, 112, Windows(14, 7)),
        (224, None, Windows(14, 7)),
        (230, 100, Windows(14, 6)),
        (16, None, Windows(1, 1)),
    ],
)
def test_windows_snap_to_patches(
    window: int | None, stride: int | None, expected: Windows | None
) -> None:
    """To the nearest whole patch; the stride is half a window if it is not given."""
    assert snap_windows(window, stride, patch_size=16) == expected
