"""Pictures to one vector: how they are fitted, and that it is the class token."""

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.runtime.embed import ImageEmbedder
from atas_deploy.runtime.encoders import Encoders

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    """The embedded model, two pictures at once."""
    return Encoders(batch_size=2)


def flag(*stripes: tuple[int, int, int], height: int = 40, width: int = 40) -> np.ndarray:
    """Upright stripes side by side, (height, width * stripes, 3) uint8."""
    parts = [np.full((height, width, 3), colour, np.uint8) for colour in stripes]
    return np.concatenate(parts, axis=1)


def embedder(encoders: Encoders, fit: str, size: int = 40) -> ImageEmbedder:
    """One of a side of 40 pixels, with a fill of grey 100."""
    return ImageEmbedder(encoders.backend, size=size, width=256, fit=fit, fill=(100 / 255,) * 3)


def test_shortest_cuts_out_the_middle(encoders: Encoders) -> None:
    """Of a flag of three squares the middle one is left, also of one that stands on end."""
    lying = flag(RED, GREEN, BLUE)
    fitted = embedder(encoders, "shortest")
    np.testing.assert_array_equal(fitted.fit_image(lying), flag(GREEN))
    standing = np.ascontiguousarray(lying.transpose(1, 0, 2))
    np.testing.assert_array_equal(fitted.fit_image(standing), flag(GREEN))


def test_longest_fills_with_the_mean_colour(encoders: Encoders) -> None:
    """A flag of two squares keeps both, between two bars of the fill."""
    fitted = embedder(encoders, "longest").fit_image(flag(RED, BLUE))
    assert (fitted[:10] == 100).all()
    assert (fitted[30:] == 100).all()
    np.testing.assert_array_equal(fitted[10:30], flag(RED, BLUE, height=20, width=20))


def test_squash_stretches(encoders: Encoders) -> None:
    """A flag of two squares fills the square."""
    fitted = embedder(encoders, "squash").fit_image(flag(RED, BLUE))
    np.testing.assert_array_equal(fitted, flag(RED, BLUE, width=20))


@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (700, 2), (41, 39)])
def test_pictures_of_any_shape_fit(encoders: Encoders, fit: str, size: tuple[int, int]) -> None:
    """A pixel, threads and near-squares become the square; one colour stays that colour."""
    fitted = embedder(encoders, fit).fit_image(np.full((*size, 3), 100, np.uint8))
    assert fitted.shape == (40, 40, 3)
    assert (fitted == 100).all()


def test_embedding_is_the_class_token(encoders: Encoders) -> None:
    """Of the fitted picture, as the engine gives it, of unit length."""
    whole = encoders.whole()
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    expected = encoders.backend.encode_images(whole.fit_image(image)[None]).image
    found = whole([image])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_batches_do_not_matter(encoders: Encoders) -> None:
    """Five pictures in batches of two are those one by one, in order, and come as they are read."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (30 + 9 * i, 60, 3), np.uint8) for i in range(5)]
    whole = encoders.whole()
    one_by_one = np.concatenate([whole([image]) for image in images])
    np.testing.assert_allclose(whole(images), one_by_one, atol=1e-5)
    read: list[int] = []
    stream = whole.stream(read.append(i) or image for i, image in enumerate(images))
    next(stream)
    assert read == [0, 1]


def test_no_pictures_give_no_vectors(encoders: Encoders) -> None:
    """But their width is that of all others."""
    whole = encoders.whole()
    assert whole([]).shape == (0, whole([flag(RED)]).shape[1])


def test_unknown_fit_is_refused(encoders: Encoders) -> None:
    """The three are named."""
    with pytest.raises(ConfigError, match='Unknown fit "crop"; expected shortest, longest, squash'):
        encoders.whole(fit="crop")


def test_what_is_no_picture_is_refused(encoders: Encoders) -> None:
    """A float array."""
    with pytest.raises(InputError, match="expected an RGB image"):
        encoders.whole()([np.zeros((4, 4, 3))])
