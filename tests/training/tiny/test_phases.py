"""Both phases on made-up data: what learns, what is locked, and that it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import default_bpe
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.tiny import contrast_phase, text_phase
from atas_deploy.training.tiny.contrast_phase import (
    ContrastPhase,
    ContrastPhaseData,
    ContrastPhaseSettings,
)
from atas_deploy.training.tiny.text_phase import TextPhase, TextPhaseData, TextPhaseSettings
from atas_deploy.training.tiny.words import Names

M, V, D, CLASSES = 12, 32, 16, 5
VISION = {"layers": 2, "width": V, "head_width": 16, "patch_size": 16, "image_size": 224}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


@pytest.fixture
def clip() -> ClipModel:
    """A seeded CLIP on images of 224 pixels."""
    torch.manual_seed(0)
    config = {
        "model_cfg": {"embed_dim": D, "vision_cfg": VISION, "text_cfg": TEXT},
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
    }
    tokenizer_file = Path(default_bpe())
    return ClipModel(
        model=build_model(config), config=config, name="t", tokenizer_file=tokenizer_file
    )


def text_data() -> TextPhaseData:
    """Four colours in twelve images."""
    colours = ["red", "green", "blue", "white"]
    names = Names(["cat", "dog", "car", "tree", "sky"], np.eye(CLASSES, dtype=np.float32))
    mentions = np.tile(np.eye(4, dtype=np.float32), (1, 3))
    return TextPhaseData(
        features=torch.randn(2, M, V),
        captions=[[f"a {colours[i % 4]} wall"] for i in range(M)],
        nouns=Names(colours, mentions),
        names=names,
        tables=Names(names.names, np.eye(CLASSES, dtype=np.float32)),
        head_weight=torch.randn(CLASSES, V),
        head_bias=torch.zeros(CLASSES),
    )


def contrast_data() -> ContrastPhaseData:
    """Noise pictures; each has the captions of its own and some nouns."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (M, 224, 224, 3), np.uint8)
    names = [str(i) for i in range(M)]
    pairs = Pairs(names=names, captions=[["x"]] * M, read=lambda name: pictures[int(name)])
    torch.manual_seed(1)
    return ContrastPhaseData(
        pairs=pairs,
        captions=F.normalize(torch.randn(M, 5, D), dim=-1),
        nouns=F.normalize(torch.randn(6, D), dim=-1),
        mentions=torch.rand(M, 6) < 0.5,
    )


def learners(clip: ClipModel) -> set[str]:
    """First parts of the names of parameters that got a gradient."""
    return {n for n, p in clip.model.named_parameters() if p.grad is not None}


def test_text_phase_locks_the_image_tower(clip: ClipModel) -> None:
    """Text tower, logit scale and the image projection learn, nothing else."""
    settings = TextPhaseSettings(captions=6, nouns=4, names=4, relations=4)
    phase = TextPhase(clip, text_data(), settings, seed=0)
    phase.losses(0, np.random.default_rng(0))["loss"].backward()
    learning = learners(clip)
    assert {n for n in learning if n.startswith("visual.")} == {"visual.proj"}
    assert {"logit_scale", "text_projection", "token_embedding.weight"} <= learning


def test_text_phase_learns(clip: ClipModel) -> None:
    """The captions find their images after a few steps."""
    settings = TextPhaseSettings(captions=12, nouns=4, names=4, relations=4, feature_noise=0.0)
    phase = TextPhase(clip, text_data(), settings, seed=0)
    optimizer = torch.optim.AdamW([p for g in phase.groups() for p in g["params"]], lr=1e-2)
    history = []
    for step in range(25):
        losses = phase.losses(step, np.random.default_rng(step))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["nouns"]))
    assert np.mean(history[-5:]) < np.mean(history[:5]) - 0.3


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few small images are enough here."""
    monkeypatch.setattr(contrast_phase, "SIZES", ((4, 64), (2, 96)))


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("readout", ["vanilla", "maskclip", "sclip"])
def test_contrast_phase_locks_the_text_tower(clip: ClipModel, readout: str) -> None:
    """All of the image tower learns, the text tower does not; every loss is finite."""
    phase = ContrastPhase(clip, contrast_data(), ContrastPhaseSettings(readout=readout))
    losses = phase.losses(0, np.random.default_rng(0))
    losses["loss"].backward()
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    visual = {f"visual.{name}" for name, _ in clip.model.visual.named_parameters()}
    assert learners(clip) == visual


@pytest.mark.usefixtures("small_sizes")
def test_contrast_phase_is_repeatable(clip: ClipModel) -> None:
    """The same randomness gives the same loss, other randomness another one."""
    phase = ContrastPhase(clip, contrast_data(), ContrastPhaseSettings())
    first, again, other = (
        float(phase.losses(0, np.random.default_rng(s))["loss"].detach()) for s in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.usefixtures("small_sizes")
def test_contrast_phase_learns(clip: ClipModel) -> None:
    """Images find their captions, and patches their nouns, better after some steps."""
    phase = ContrastPhase(clip, contrast_data(), ContrastPhaseSettings())
    optimizer = torch.optim.AdamW([p for g in phase.groups() for p in g["params"]], lr=3e-3)
    history = []
    for step in range(40):
        losses = phase.losses(step, np.random.default_rng(step % 4))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["loss"].detach()))
    assert np.mean(history[-4:]) < 0.8 * np.mean(history[:4])


def test_nouns_of_the_own_captions_are_no_negatives(clip: ClipModel) -> None:
    """An image that mentions all nouns has nothing to tell them from."""
    data = contrast_data()
    everything = replace(data, mentions=torch.ones_like(data.mentions))
    phase = ContrastPhase(clip, everything, ContrastPhaseSettings())
    patches = F.normalize(torch.randn(2, 9, D), dim=-1)
    loss = phase._ground_nouns(patches, torch.tensor([0, 1]), np.random.default_rng(0))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_unknown_readouts_are_refused() -> None:
    """Before any work is done."""
    with pytest.raises(ConfigError, match="nonsense"):
        ContrastPhaseSettings(readout="nonsense")


def test_made_features_are_random_but_repeatable() -> None:
    """The generator decides them."""
    data = text_data()
    maker = text_phase.FeatureMaker(data.features, data.head_weight, data.head_bias)
    one, two, three = (maker.make([1, 2], np.random.default_rng(s))[0] for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
