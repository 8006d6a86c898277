"""What a `Segmenter` is told to do otherwise: merging pixels, denoising, presets, labels anew."""

from dataclasses import replace

import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.masks import merged_label_map
from atas_deploy.core.presets import PRESETS
from atas_deploy.runtime.windows import PixelWindows, Windows


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Seeded noise, (height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_merged_pixels_follow_the_definition() -> None:
    """Windows, words and merge put together by hand give the same labels, and every option."""
    image = picture(100, 141)
    options = {"classes": "sky,building|temple,tree", "background": "none", "merge": "pixels"}
    options |= {"short_side": 75, "window": 48, "stride": 27}
    own = Segmenter(**options, threshold=0.1, probability=True, batch_size=5)
    result, found = own(image), own.encoder(image)
    expected = merged_label_map(
        found.dense,
        own._words.queries,
        own.vocabulary.query_class,
        tiles=found.tiles,
        size=(100, 141),
        threshold=0.1,
        probability=True,
    )
    assert (result.labels == expected.labels).mean() > 0.999
    np.testing.assert_allclose(result.probability, expected.probability, atol=1e-4)
    refined = Segmenter(**options, refine="pamr")(image)
    assert refined.labels.shape == (100, 141)
    assert (refined.labels != result.labels).any()


def test_merged_pixels_of_a_video() -> None:
    """Features of windows are averaged over time, which is to average logits; frames are held."""
    options = {"classes": "sky,tree,water", "background": "none", "short_side": 50}
    own = Segmenter(**options, window=32, merge="pixels", probability=True)
    frames = [picture(60, 80, seed=1)] * 2
    frames += [np.clip(frames[0] + 30.0, 0, 255).astype(np.uint8)]
    results = list(own.stream(frames, every=2, smooth=0.5))
    assert results[1] is results[0]
    first, last = own.encoder(frames[0]), own.encoder(frames[2])
    mixed = replace(last, dense=(first.dense + last.dense) / 2)
    np.testing.assert_allclose(results[2].probability, own.label(mixed).probability, atol=1e-5)


@pytest.mark.parametrize("merge", ["features", "pixels"])
def test_denoising_drops_classes(merge: str) -> None:
    """A bound that one class reaches leaves it and the background; one that none does, nothing."""
    image = picture(64, 96)
    options = {"classes": "sky,building,tree", "short_side": 64, "window": 48, "merge": merge}
    plain = Segmenter(**options, background="none")
    found = plain.encoder(image)
    logits = found.dense.reshape(-1, found.dense.shape[-1]) @ plain._words.queries
    chances = np.exp(logits - logits.max(1, keepdims=True))
    best = np.sort((chances / chances.sum(1, keepdims=True)).max(0))
    bound = float((best[-1] + best[-2]) / 2)
    one = Segmenter(**options, background="none", denoise=bound, probability=True)(image)
    assert len(np.unique(one.labels)) == 1
    assert one.labels[0, 0] == 1 + int(np.argmax((chances / chances.sum(1, keepdims=True)).max(0)))
    assert (one.probability == 1).all()
    assert one.scores.shape == (3,)
    none = Segmenter(**options, background="none", denoise=1.0, probability=True)(image)
    assert none.labels.max() == none.scores.max() == none.probability.max() == 0
    background = Segmenter(**options, background="road,wall", denoise=1.0)(image)
    assert background.labels.max() == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_settle_everything(preset: str) -> None:
    """All of its values are in use, but for those that are given."""
    own = Segmenter(classes="@voc21", preset=preset, readout="sclip", templates="none")
    expected = PRESETS[preset]["voc21"]
    assert own.row == "voc21"
    assert own.logit_scale == expected.logit_scale
    assert own.short_side == expected.short_side
    assert own.protocol.threshold == expected.threshold
    assert own.protocol.refine == expected.refine
    assert own.encoder.windows == PixelWindows(expected.window, expected.stride)
    assert own.vocabulary.rule == ("voc21:expanded" if expected.expanded else "voc21")
    assert own.templates.name == "none"
    assert own.bundle.manifest.readout == "sclip"


def test_what_is_given_wins_over_the_preset() -> None:
    """Also zero, "none" and "auto"; a window of one's own brings its own stride."""
    own = Segmenter(
        classes="@voc20",
        preset="naclip",
        readout="sclip",
        templates="none",
        background="auto",
        short_side=64,
        window=48,
        merge="features",
        refine="none",
        logit_scale=7,
        threshold=0,
    )
    assert own.vocabulary.rule == "auto"
    assert own.encoder.windows == Windows(3, 2)
    assert (own.short_side, own.logit_scale) == (64, 7)
    assert (own.protocol.refine, own.protocol.threshold) == ("none", 0)
    sclip = {"classes": "sky,tree", "preset": "sclip", "templates": "none", "window": 64}
    assert Segmenter(**sclip).encoder.windows == PixelWindows(64, 32)
    assert Segmenter(**sclip, stride=48).encoder.windows == PixelWindows(64, 48)


def test_an_encoded_picture_is_labelled_anew() -> None:
    """With other settings as another segmenter would, and then again with those in use."""
    options = {"classes": "sky,building,tree", "short_side": 64, "background": "none"}
    own, image = Segmenter(**options, threshold=0.2), picture(64, 96)
    found, plain = own.encoder(image), own(image).labels
    for other in ({"threshold": 0.4}, {"threshold": 0}, {"denoise": 0.5}, {"refine": "pamr"}):
        expected = Segmenter(**options | {"threshold": 0.2} | other)(image).labels
        np.testing.assert_array_equal(own.label(found, **other).labels, expected)
    np.testing.assert_array_equal(own.label(found).labels, plain)
    with pytest.raises(ConfigError, match="Unknown refinement"):
        own.label(found, refine="crf")
