"""The model in training as an engine: the features of the exported bundle, no trace in training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atas_deploy import RegionClassifier, Segmenter
from atas_deploy.clip.model import ClipModel, build_model, with_preprocessing
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import EMBEDDED
from atas_deploy.core.comparison import LIMITS, check, compare
from atas_deploy.core.errors import InputError
from atas_deploy.core.region import Region
from atas_deploy.export.bundle import export_bundle
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.training.live import live_model

CLASSES = "sky,building|temple,tree"


@pytest.fixture(scope="module")
def atas_tiny() -> ClipModel:
    """The embedded model with its weights."""
    return load_model(EMBEDDED / "atas-tiny")


def noise(*shape: int) -> np.ndarray:
    """Random pixels."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def assert_equal_features(got: Encoders, expected: Encoders, *, side: int) -> None:
    """Both engines give the same features, up to what an export may differ by."""
    images = noise(2, side, 2 * side, 3)
    mine, theirs = (e.backend.encode_images(images) for e in (got, expected))
    words = [e.texts()(["dog", "a red car"]) for e in (got, expected)]
    for name, pair in {
        "dense": (mine.dense, theirs.dense),
        "image": (mine.image, theirs.image),
        "text": (words[0], words[1]),
    }.items():
        check(compare(name, images.shape, *pair), LIMITS["fp32"], stage="live")


def test_features_are_those_of_the_exported_bundle(atas_tiny: ClipModel) -> None:
    """Of the embedded model, which records how it is read."""
    exported = Encoders("atas-tiny", cache=False)
    with live_model(atas_tiny) as live:
        encoders = Encoders(live.bundle, backend=live.backend, cache=False)
        assert encoders.backend is live.backend
        assert_equal_features(encoders, exported, side=exported.bundle.manifest.multiple * 3)


def test_the_bundle_says_what_that_of_an_export_says(atas_tiny: ClipModel) -> None:
    """All that the runtime reads of it."""
    exported = Encoders("atas-tiny").bundle
    with live_model(atas_tiny, readout=exported.manifest.readout) as live:
        own, theirs = live.bundle.manifest, exported.manifest
        unlike = ("opset", "files", "tools", "weight_storage", "license", "provenance")
        same = {name: getattr(theirs, name) for name in unlike}
        assert replace(own, **same) == theirs
        assert live.bundle.image_size == exported.image_size
        assert live.bundle.resize_mode == exported.resize_mode
        text = ["two dogs"]
        np.testing.assert_array_equal(live.bundle.tokenizer()(text), exported.tokenizer()(text))


def test_a_model_with_windows_and_a_patch_stride_is_read_as_it_records(
    tiny_clip: ClipModel, tmp_path: Path
) -> None:
    """Sizes are multiples of both, as in its export."""
    clip = replace(tiny_clip, record={"readout": "naclip", "stride": 8, "attention_window": 2})
    exported = Encoders(export_bundle(clip, tmp_path / "bundle", weights=False), cache=False)
    with live_model(clip) as live:
        encoders = Encoders(live.bundle, backend=live.backend, cache=False)
        assert encoders.bundle.manifest.multiple == exported.bundle.manifest.multiple == 16
        assert_equal_features(encoders, exported, side=48)


def test_other_families_run(
    family_config: Callable[[str], dict[str, Any]],
    write_tokenizer: dict[str, Callable[[Path], Path]],
    tmp_path: Path,
) -> None:
    """SigLIP: pooled patches, full token rows, another tokenizer."""
    torch.manual_seed(0)
    model = build_model({"model_cfg": family_config("siglip")})
    clip = ClipModel(
        model=model,
        config=with_preprocessing({"model_cfg": family_config("siglip")}),
        name="narrow",
        tokenizer_file=write_tokenizer["t5"](tmp_path),
    )
    pixels = torch.full((1, 3, 64, 64), 0.25)
    with live_model(clip) as live, torch.no_grad():
        encoders = Encoders(live.bundle, backend=live.backend, cache=False)
        level = (0.25 * clip.std[0] + clip.mean[0]) * 255
        grey = np.full((1, 64, 64, 3), round(level), np.uint8)
        pixels = (torch.tensor(grey) / 255 - torch.tensor(clip.mean)) / torch.tensor(clip.std)
        expected = model.encode_image(pixels.permute(0, 3, 1, 2), normalize=True)
        np.testing.assert_allclose(
            live.backend.encode_images(grey).image, expected.numpy(), atol=1e-5
        )
        tokens = live.bundle.tokenizer()(["a dog"])
        expected = model.encode_text(torch.tensor(tokens), normalize=True)
        np.testing.assert_allclose(live.backend.encode_texts(tokens), expected.numpy(), atol=1e-5)
        assert encoders.texts()(["dog"]).shape == (1, 32)


def test_a_change_of_the_weights_is_seen_at_once(tiny_clip: ClipModel) -> None:
    """It is the model itself that runs."""
    images = noise(1, 32, 32, 3)
    with live_model(tiny_clip) as live:
        before = live.backend.encode_images(images).image
        with torch.no_grad():
            tiny_clip.model.visual.proj.mul_(torch.tensor([1.0, -1.0] * 8))
        after = live.backend.encode_images(images).image
    np.testing.assert_allclose(after, before * ([1.0, -1.0] * 8), atol=1e-6)


def test_training_goes_on_as_before(tiny_clip: ClipModel) -> None:
    """Each module is in the mode it was in, parameters have gradients again, autocast is clean."""
    model = tiny_clip.model.train()
    model.transformer.eval()
    modes = [module.training for module in model.modules()]
    pixels = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        with live_model(tiny_clip, precision="bf16") as live:
            assert not any(module.training for module in model.modules())
            live.backend.encode_images(noise(1, 32, 32, 3))
        model.visual(pixels).sum().backward()
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is not None and p.grad.any() for p in model.visual.transformer.parameters())


def test_the_modes_come_back_after_an_error(tiny_clip: ClipModel) -> None:
    """A check that fails leaves a model that can train on."""
    tiny_clip.model.train()
    with pytest.raises(InputError), live_model(tiny_clip) as live:
        live.backend.encode_images(noise(1, 33, 32, 3))
    assert tiny_clip.model.training


def test_precision_is_that_of_the_engine(tiny_clip: ClipModel) -> None:
    """Autocast around it changes nothing; its own bf16 gives float32 unit vectors near those."""
    images = noise(2, 48, 32, 3)
    tokens = np.array([[49406, 5, 9, 49407]])
    found = {}
    for precision in ("fp32", "bf16"):
        with live_model(tiny_clip, precision=precision) as live:
            plain = live.backend.encode_images(images), live.backend.encode_texts(tokens)
            with torch.autocast("cpu", torch.bfloat16):
                inside = live.backend.encode_images(images), live.backend.encode_texts(tokens)
            np.testing.assert_array_equal(plain[0].dense, inside[0].dense)
            np.testing.assert_array_equal(plain[1], inside[1])
            found[precision] = plain[0].dense, plain[0].image, plain[1]
            assert live.bundle.manifest.precision == precision
    for exact, rough in zip(found["fp32"], found["bf16"], strict=True):
        assert rough.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rough, axis=-1), 1, atol=1e-5)
        assert 1e-5 < np.abs(rough - exact).max() < 0.05


def test_fingerprints_follow_what_they_stand_for(tiny_clip: ClipModel) -> None:
    """Text features on disk belong to the text tower: the image tower may train."""

    def prints(**settings: str) -> tuple[str, str]:
        with live_model(tiny_clip, **settings) as live:  # type: ignore[arg-type]
            return live.bundle.fingerprint, live.bundle.text_fingerprint

    start = prints()
    assert prints() == start
    assert prints(readout="vanilla")[0] != start[0]
    assert prints(readout="vanilla")[1] == start[1]
    assert prints(precision="bf16")[1] != start[1]
    with torch.no_grad():
        next(iter(tiny_clip.model.visual.parameters())).add_(0.01)
    trained = prints()
    assert trained[0] != start[0]
    assert trained[1] == start[1]
    with torch.no_grad():
        tiny_clip.model.ln_final.weight.add_(0.01)
    assert prints()[1] != start[1]


def test_its_own_device_by_another_name_makes_no_copy(tiny_clip: ClipModel) -> None:
    """The model itself is in eval mode."""
    tiny_clip.model.train()
    with live_model(tiny_clip, device="cpu:0"):
        assert not tiny_clip.model.training
    assert tiny_clip.model.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_features(tiny_clip: ClipModel) -> None:
    """By a copy of a model on the CPU."""
    images = noise(2, 48, 32, 3)
    with live_model(tiny_clip) as live:
        expected = live.backend.encode_images(images)
    with live_model(tiny_clip, device="cuda") as live:
        assert live.backend.device == "cuda:0"
        found = live.backend.encode_images(images)
    np.testing.assert_allclose(found.dense, expected.dense, atol=2e-3)
    assert next(tiny_clip.model.parameters()).device.type == "cpu"


def test_the_folder_is_removed(tiny_clip: ClipModel) -> None:
    """With the block."""
    with live_model(tiny_clip) as live:
        assert live.bundle.path.is_dir()
    assert not live.bundle.path.exists()


def test_segmenter_and_classifier_take_it(atas_tiny: ClipModel) -> None:
    """With the results of the exported bundle."""
    image, regions = noise(96, 128, 3), [Region(box=(10, 20, 90, 80))]
    readout = Encoders("atas-tiny").bundle.manifest.readout
    with live_model(atas_tiny, readout=readout) as live:
        ready: dict[str, Any] = {"backend": live.backend, "cache": False}
        labels = Segmenter(live.bundle, CLASSES, **ready)(image).labels
        scores = RegionClassifier(live.bundle, CLASSES, **ready)(image, regions).scores
    assert (labels == Segmenter("atas-tiny", CLASSES)(image).labels).mean() > 0.999
    expected = RegionClassifier("atas-tiny", CLASSES)(image, regions).scores
    np.testing.assert_allclose(scores, expected, atol=1e-4)
