"""Both phases on made-up data: what learns, what is locked, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import default_bpe
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.tiny import image_phase, text_phase
from atas_deploy.training.tiny.features import random_boxes
from atas_deploy.training.tiny.image_phase import (
    ImagePhase,
    ImagePhaseData,
    ImagePhaseSettings,
    Layout,
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


def image_data(boxes_seed: int = 0) -> ImagePhaseData:
    """Noise pictures with random targets."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (M, 224, 224, 3), np.uint8)
    names = [str(i) for i in range(M)]
    pairs = Pairs(names=names, captions=[["x"]] * M, read=lambda name: pictures[int(name)])
    return ImagePhaseData(
        pairs=pairs,
        whole=torch.randn(M, V),
        boxes=random_boxes(M, seed=boxes_seed),
        crops=torch.randn(M, 4, V),
        head_weight=torch.randn(CLASSES, V),
        head_bias=torch.zeros(CLASSES),
        captions=F.normalize(torch.randn(M, 5, D), dim=-1),
        words=F.normalize(torch.randn(9, D), dim=-1),
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
def small_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One canvas of each kind is enough here."""
    monkeypatch.setattr(image_phase, "SINGLES", (Layout(2, 1, 224),))
    monkeypatch.setattr(image_phase, "MOSAICS", (Layout(1, 2, 112),))


@pytest.mark.usefixtures("small_layouts")
@pytest.mark.parametrize("readout", ["vanilla", "maskclip", "sclip"])
def test_image_phase_locks_the_text_tower(clip: ClipModel, readout: str) -> None:
    """All of the image tower learns, the text tower does not; every loss is finite."""
    phase = ImagePhase(clip, image_data(), ImagePhaseSettings(readouts=(readout,)), seed=0)
    losses = phase.losses(0, np.random.default_rng(0))
    losses["loss"].backward()
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    visual = {f"visual.{name}" for name, _ in clip.model.visual.named_parameters()}
    assert learners(clip) == visual


@pytest.mark.usefixtures("small_layouts")
def test_image_phase_is_repeatable(clip: ClipModel) -> None:
    """The same step gives the same loss, another step another one."""
    phase = ImagePhase(clip, image_data(), ImagePhaseSettings(), seed=0)
    first, again, other = (
        float(phase.losses(s, np.random.default_rng(s))["loss"].detach()) for s in (3, 3, 4)
    )
    assert first == again != other


def test_a_student_like_its_teacher_has_no_distance(clip: ClipModel) -> None:
    """All four distances vanish for equal features, and only then."""
    phase = ImagePhase(clip, image_data(), ImagePhaseSettings(), seed=0)
    features = torch.randn(3, V)
    for _, distance in phase._imitate(features, features, "x"):
        assert distance.item() == pytest.approx(0.0, abs=1e-5)
    for _, distance in phase._imitate(features, features.flip(0), "x"):
        assert distance.item() > 0.01


def test_unknown_readouts_are_refused() -> None:
    """Before any work is done."""
    with pytest.raises(ConfigError, match="nonsense"):
        ImagePhaseSettings(readouts=("nonsense",))


def test_made_features_are_random_but_repeatable() -> None:
    """The generator decides them."""
    data = text_data()
    maker = text_phase.FeatureMaker(data.features, data.head_weight, data.head_bias)
    one, two, three = (maker.make([1, 2], np.random.default_rng(s))[0] for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
