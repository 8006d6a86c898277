"""ONNX Runtime: features, devices, precisions, translated errors."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.backends.ort import OrtBackend, OrtTextEncoder
from atas_deploy.core.bundle import Bundle
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


@pytest.fixture
def bundle_of() -> Callable[[str], Bundle]:
    """The embedded model with another precision in its manifest."""
    tiny = open_model("atas-tiny")
    return lambda precision: Bundle(tiny.path, replace(tiny.manifest, precision=precision))


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


def test_bfloat16_is_refused_on_the_cpu(bundle_of: Callable[[str], Bundle]) -> None:
    """Before anything is loaded: which precision, and what to use instead."""
    with pytest.raises(ConfigError, match=r"computes in bf16.*--precision fp32.*--backend trt"):
        OrtBackend(bundle_of("bf16"))


def test_words_of_a_bfloat16_bundle_are_encoded_on_the_cpu(
    backend: OrtBackend, bundle_of: Callable[[str], Bundle]
) -> None:
    """The text encoder is float32 in every bundle."""
    tokens = open_model("atas-tiny").tokenizer()(["a dog"])
    features = OrtTextEncoder(bundle_of("bf16")).encode_texts(tokens)
    np.testing.assert_array_equal(features, backend.encode_texts(tokens))


def test_text_encoder_is_loaded_when_words_come(tmp_path: Path) -> None:
    """Pictures do without it, as where all words are known from the runs before."""
    folder = tmp_path / "bundle"
    shutil.copytree(open_model("atas-tiny").path, folder)
    backend = OrtBackend(Bundle.open(folder))
    (folder / "text_encoder.onnx").write_bytes(b"")
    assert backend.encode_images(np.zeros((1, 16, 16, 3), np.uint8)).dense.shape[0] == 1
    with pytest.raises(BackendError, match="could not load"):
        backend.encode_texts(np.zeros((1, 4), np.int64))


def test_threads_change_nothing_but_time(backend: OrtBackend) -> None:
    """The number is ONNX Runtime's; features are the same."""
    images = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), np.uint8)
    other = OrtBackend(open_model("atas-tiny"), threads=1).encode_images(images)
    np.testing.assert_allclose(other.dense, backend.encode_images(images).dense, atol=1e-6)
    with pytest.raises(ConfigError, match="threads"):
        OrtBackend(open_model("atas-tiny"), threads=0)


def test_features_of_the_cpu_lie_on_no_device(backend: OrtBackend) -> None:
    """`encode_on_device` is for GPUs."""
    with pytest.raises(ConfigError, match='Unknown GPU "cpu"'):
        backend.encode_on_device(np.zeros((1, 16, 16, 3), np.uint8))
