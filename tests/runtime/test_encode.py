"""Pictures to features, by windows."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.backends.base import ImageFeatures
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.geometry import cut_tiles, resize_bilinear, window_starts
from atas_deploy.models import open_model
from atas_deploy.runtime.encode import ImageEncoder
from atas_deploy.runtime.tiling import encode_tiles
from atas_deploy.runtime.windows import PixelWindows, Windows, check_windows, fit_windows


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
        backend, cell=16, short_side=80, windows=Windows(3, 2), batch_size=batch_size
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

    encoder = ImageEncoder(Spy(), cell=16, short_side=32, windows=Windows(4, 2))
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
    found = fit_windows(window, stride, merge="features", cell=16, multiple=16)
    assert found == expected


def test_windows_snap_to_what_the_model_takes() -> None:
    """With cells of 8 pixels and images in multiples of 16: 224 pixels, and a stride of 112."""
    found = fit_windows(230, None, merge="features", cell=8, multiple=16)
    assert found == Windows(28, 14)


@pytest.mark.parametrize(
    ("window", "stride", "expected"),
    [
        (None, None, PixelWindows(None, None)),
        (224, 112, PixelWindows(224, 112)),
        (225, None, PixelWindows(225, 112)),
        (225, 29, PixelWindows(225, 29)),
    ],
)
def test_windows_merged_as_pixels_do_not_snap(
    window: int | None, stride: int | None, expected: PixelWindows
) -> None:
    """They are where the user wants them; without one the whole picture is the only window."""
    assert fit_windows(window, stride, merge="pixels", cell=16, multiple=16) == expected


def test_too_much_overlap_is_refused() -> None:
    """All windows are held at once when pixels are merged."""
    with pytest.raises(ConfigError, match="1/8 of the window"):
        check_windows(224, 27, merge="pixels")
    check_windows(224, 28, merge="pixels")
    check_windows(224, 27, merge="features")
    assert fit_windows(224, 27, merge="features", cell=16, multiple=16) == Windows(14, 2)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_windows_off_the_grid(backend: OrtBackend, batch_size: int) -> None:
    """Each window of each image has its features; the picture has the short side exactly."""
    encoder = ImageEncoder(
        backend, cell=16, short_side=75, windows=PixelWindows(48, 20), batch_size=batch_size
    )
    pictures = [noise(75, 100), noise(75, 100)[::-1].copy()]
    for picture, found in zip(pictures, encoder.stream(pictures), strict=True):
        assert found.fitted.shape == (75, 100, 3)
        assert found.tiles == encoder(picture).tiles
        assert (found.tiles.rows, found.tiles.columns) == ((0, 20, 27), (0, 20, 40, 52))
        assert found.dense.shape[:4] == (3, 4, 3, 3)
        last = backend.encode_images(picture[None, 27:75, 20:68]).dense[0]
        np.testing.assert_allclose(found.dense[2, 1], last, atol=1e-5)


@pytest.mark.parametrize(
    ("windows", "window", "fitting"),
    [
        (PixelWindows(None, None), (41, 75), (48, 80)),
        (PixelWindows(45, 30), (41, 45), (48, 48)),
    ],
)
def test_windows_of_odd_sizes_are_stretched(
    backend: OrtBackend,
    windows: PixelWindows,
    window: tuple[int, int],
    fitting: tuple[int, int],
) -> None:
    """To the nearest size that the encoder takes; their place in the picture stays."""
    image = noise(41, 75)
    found = ImageEncoder(backend, cell=16, short_side=41, windows=windows)(image)
    assert found.tiles.window == window
    stretched = resize_bilinear(image[: window[0], : window[1]], fitting)
    expected = backend.encode_images(stretched[None]).dense[0]
    np.testing.assert_allclose(found.dense[0, 0], expected, atol=1e-5)


def test_features_of_windows_are_held_once() -> None:
    """While they are gathered, memory is little more than the result takes."""
    tiles = cut_tiles((64, 640), window=64, stride=8)

    def encode(images: np.ndarray) -> np.ndarray:
        return np.ones((len(images), 16, 16, 64), np.float32)

    batch = noise(64, 640)[None]
    tracemalloc.start()
    try:
        found = encode_tiles(encode, batch, tiles, fitting=(64, 64), batch_size=4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.shape == (1, 1, 73, 16, 16, 64)
    assert peak < 1.3 * found.nbytes


def test_a_batch_has_windows_of_one_picture(backend: OrtBackend) -> None:
    """However large, so that the features of one picture are held, not those of many."""
    seen = []

    class Spy:
        def encode_images(self, images: np.ndarray) -> ImageFeatures:
            seen.append(len(images))
            return backend.encode_images(images)

    def lengths(windows: PixelWindows) -> list[int]:
        seen.clear()
        encoder = ImageEncoder(Spy(), cell=16, short_side=32, windows=windows, batch_size=3)
        list(encoder.stream([noise(32, 48)] * 4))
        return seen

    assert lengths(PixelWindows(32, 16)) == [2, 2, 2, 2]
    assert lengths(PixelWindows(None, None)) == [3, 1]
