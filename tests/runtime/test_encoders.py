"""`Encoders` with the embedded model, and what a bundle says about its class token."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import AtasError, BundleError, ConfigError
from atas_deploy.runtime.encoders import Encoders


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    """The embedded model."""
    return Encoders()


def test_dense_features_are_the_engines(encoders: Encoders) -> None:
    """A picture of the encoder's own size is encoded as it is."""
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), np.uint8)
    encoded = encoders.dense(short_side=128)(image)
    assert encoded.size == (128, 160)
    expected = encoders.backend.encode_images(image[None]).dense[0]
    np.testing.assert_allclose(encoded.dense, expected, atol=1e-6)


def test_defaults_are_the_models(encoders: Encoders) -> None:
    """Short side, size and fit of the class token come from the bundle."""
    bundle = encoders.bundle
    assert encoders.dense().short_side == bundle.manifest.short_side
    whole = encoders.whole()
    assert (whole.size, whole.fit) == (bundle.image_size, bundle.resize_mode)
    assert whole.size % bundle.manifest.multiple == 0


def test_texts_are_unit_vectors_of_the_images_width(encoders: Encoders) -> None:
    """Whatever the templates."""
    for templates in ("default", ["{}"]):
        features = encoders.texts(templates)(["dog", "a red car"])
        assert features.shape == (2, encoders.bundle.manifest.embed_dim)
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_without_cache_nothing_is_stored(own_cache: Path) -> None:
    """No file appears, and there is no problem with one."""
    before = sorted(own_cache.rglob("*"))
    encoders = Encoders(cache=False)
    encoders.texts()(["a word that nobody asked for before"])
    assert sorted(own_cache.rglob("*")) == before
    assert encoders.cache_problem is None


@pytest.mark.parametrize(
    "setting", [{"backend": "abacus"}, {"batch_size": 0}, {"device": "toaster"}]
)
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, object]) -> None:
    """Before the model is looked for: there is none of that name."""
    with pytest.raises(AtasError) as caught:
        Encoders("no-such-model", **setting)
    assert "no-such-model" not in str(caught.value)


def test_a_ready_engine_is_used_as_it_is(encoders: Encoders) -> None:
    """With the bundle that it runs; its device is its own."""
    ready = Encoders(encoders.bundle, backend=encoders.backend, device="cuda:7", cache=False)
    assert ready.backend is encoders.backend
    assert ready.bundle is encoders.bundle


def test_a_ready_engine_without_its_bundle_is_refused(encoders: Encoders) -> None:
    """A name could mean another model."""
    with pytest.raises(ConfigError, match="open bundle that it runs"):
        Encoders("atas-tiny", backend=encoders.backend)


@pytest.mark.parametrize("side", [3, 0, -5, 96.5, True])
def test_short_side_that_cannot_be_used_is_refused(encoders: Encoders, side: float) -> None:
    """Less than a cell, or no whole number above 0; 0 is not the model's own."""
    with pytest.raises(ConfigError, match=r"[Tt]he short side is"):
        encoders.dense(short_side=side)  # type: ignore[arg-type]


def test_a_fit_without_a_name_is_refused(encoders: Encoders) -> None:
    """It is not the model's own."""
    with pytest.raises(ConfigError):
        encoders.whole(fit="")


@pytest.fixture
def bundle(encoders: Encoders, tmp_path: Path) -> Bundle:
    """A copy of the embedded bundle."""
    folder = tmp_path / "model"
    shutil.copytree(encoders.bundle.path, folder)
    return Bundle(folder, encoders.bundle.manifest)


def configure(bundle: Bundle, text: str) -> None:
    """Write open_clip's configuration into a bundle."""
    (bundle.path / "open_clip_config.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("image_size", "expected"), [(224, 224), ([384, 256], 256)])
def test_size_and_fit_are_read_from_open_clips_configuration(
    bundle: Bundle, image_size: object, expected: int
) -> None:
    """The shorter side of pictures that are no squares."""
    config = {
        "model_cfg": {"vision_cfg": {"image_size": image_size}},
        "preprocess_cfg": {"resize_mode": "squash"},
    }
    configure(bundle, json.dumps(config))
    assert (bundle.image_size, bundle.resize_mode) == (expected, "squash")


def test_without_configuration_the_short_side_and_clips_fit_are_used(bundle: Bundle) -> None:
    """Models of before that have none."""
    (bundle.path / "open_clip_config.json").unlink(missing_ok=True)
    assert (bundle.image_size, bundle.resize_mode) == (bundle.manifest.short_side, "shortest")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model_cfg": 3}'])
def test_damaged_configuration_is_named(bundle: Bundle, text: str) -> None:
    """Cut off, a list, without its part, or with a part that is none."""
    configure(bundle, text)
    with pytest.raises(BundleError, match=r"is damaged: open_clip_config\.json has no usable"):
        _ = bundle.image_size
