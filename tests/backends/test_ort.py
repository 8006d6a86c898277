"""ONNX Runtime: devices, conflicts, translated errors."""

import sys

import numpy as np
import pytest

from atas_deploy.backends import ort
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigError,
    InputError,
)
from atas_deploy.models import open_model


@pytest.fixture(scope="module")
def backend() -> OrtBackend:
    """The embedded model on the CPU."""
    return OrtBackend(open_model("atas-tiny"))


def test_features_are_normalised_and_shaped(backend: OrtBackend) -> None:
    """One unit vector a patch and one an image, at a size that is not square."""
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), np.uint8)
    features = backend.encode_images(images)
    assert features.dense.shape[:3] == (2, 3, 5)
    np.testing.assert_allclose(np.linalg.norm(features.dense, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features.image, axis=-1), 1, atol=1e-5)


def test_padding_tokens_does_not_change_text(backend: OrtBackend) -> None:
    """Dynamic text length: zeros behind the end token change nothing."""
    tokenizer = open_model("atas-tiny").tokenizer()
    short, whole = tokenizer(["a dog"]), tokenizer(["a dog"], trim=False)
    assert short.shape[1] < whole.shape[1]
    np.testing.assert_allclose(backend.encode_texts(short), backend.encode_texts(whole), atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 50, 48, 3), np.uint8),
        np.zeros((48, 48, 3), np.uint8),
        np.zeros((1, 48, 48, 3), np.float32),
        np.zeros((0, 48, 48, 3), np.uint8),
    ],
)
def test_wrong_images_are_refused(backend: OrtBackend, images: np.ndarray) -> None:
    """Sizes off the patch grid would be cropped silently by the graph."""
    with pytest.raises(InputError, match="multiples of 16"):
        backend.encode_images(images)


def test_engine_errors_are_one_sentence(backend: OrtBackend) -> None:
    """What ONNX Runtime raises comes out as our error."""
    with pytest.raises(BackendError, match=r"encode texts of shape \(2,\)"):
        backend.encode_texts(np.zeros(2, np.int64))


def test_cuda_without_its_build_is_an_error() -> None:
    """No silent fallback to the CPU."""
    with pytest.raises(BackendUnavailableError, match="cuda"):
        OrtBackend(open_model("atas-tiny"), device="cuda:0")


def test_a_device_is_checked_without_a_bundle() -> None:
    """A name that is none, a device that is missing, and one that is there."""
    with pytest.raises(ConfigError, match="Unknown device"):
        OrtBackend.check_device("tpu")
    with pytest.raises(BackendUnavailableError, match="cuda:1"):
        OrtBackend.check_device("cuda:1")
    OrtBackend.check_device("cpu")


def test_two_packages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both distributions at once are refused with the cure."""
    monkeypatch.setattr(ort, "version", lambda name: "1.0")
    with pytest.raises(BackendUnavailableError, match="pip uninstall -y"):
        OrtBackend(open_model("atas-tiny"))


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ONNX Runtime the message names both extras; it is an ImportError too."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"atas-deploy\[cpu\]"):
        OrtBackend(open_model("atas-tiny"))
