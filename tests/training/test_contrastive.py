"""The contrastive loss and its objective."""

import copy
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import TextEncoder
from atas_deploy.core.errors import ConfigError, TrainingError
from atas_deploy.training.contrastive import (
    ContrastiveObjective,
    ContrastiveSettings,
    contrastive_loss,
    encode_texts,
    shared_contrastive_loss,
)
from atas_deploy.training.distributed import SINGLE, Group
from atas_deploy.training.loop import Hooks, LoopSettings, run
from atas_deploy.training.pairs import open_pairs

Call = Callable[..., list[Any]]


def unit(rows: int, seed: int) -> torch.Tensor:
    """Random unit vectors (rows, 8)."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 8, generator=generator), dim=-1)


def test_loss_equals_the_formula_written_out() -> None:
    """Each direction is -log of the softmax at the pair, averaged."""
    images, texts, scale = unit(4, 0).double().numpy(), unit(4, 1).double().numpy(), 7.0
    expected = 0.0
    for i in range(4):
        rows = [scale * float(images[i] @ texts[k]) for k in range(4)]
        columns = [scale * float(images[k] @ texts[i]) for k in range(4)]
        for logits in (rows, columns):
            expected -= logits[i] - math.log(sum(math.exp(x) for x in logits))
    got = contrastive_loss(unit(4, 0), unit(4, 1), torch.tensor(scale))
    assert float(got) == pytest.approx(expected / 8, rel=1e-5)


def test_identity_positives_are_the_default() -> None:
    """A diagonal matrix of positives gives the plain loss."""
    a, b, scale = unit(5, 2), unit(5, 3), torch.tensor(10.0)
    plain = contrastive_loss(a, b, scale)
    torch.testing.assert_close(contrastive_loss(a, b, scale, positives=3 * torch.eye(5)), plain)


def test_several_positives_share_the_target() -> None:
    """With every text positive the loss is the cross entropy to the uniform distribution."""
    a, b = unit(3, 4), unit(4, 5)
    logits = 5.0 * a @ b.T
    expected = -0.5 * (logits.log_softmax(1).mean() + logits.T.log_softmax(1).mean())
    got = contrastive_loss(a, b, torch.tensor(5.0), positives=torch.ones(3, 4))
    torch.testing.assert_close(got, expected)


def test_rows_without_positives_are_negatives_only() -> None:
    """An image without a text leaves the loss of the others' direction, and has a gradient."""
    a, b = unit(3, 6).requires_grad_(), unit(2, 7)
    positives = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    contrastive_loss(a, b, torch.tensor(5.0), positives=positives).backward()
    assert a.grad is not None
    assert a.grad[2].abs().sum() > 0


def test_logits_stay_in_float32_under_autocast() -> None:
    """Autocast does not round the cosines to bfloat16."""
    a, b, scale = unit(6, 8), unit(6, 9), torch.tensor(100.0)
    with torch.autocast("cpu", torch.bfloat16):
        got = contrastive_loss(a, b, scale)
    torch.testing.assert_close(got, contrastive_loss(a, b, scale))


def test_bucketed_texts_keep_their_order(tiny_clip: ClipModel) -> None:
    """Sorting by length inside does not change which row is which."""
    texts = ["a", "a long green wall behind a red dog", "dog"] * 50
    tokens = torch.from_numpy(tiny_clip.tokenizer()(texts))
    encoder = TextEncoder(tiny_clip.model)
    torch.testing.assert_close(encode_texts(encoder, tokens), encoder(tokens))


def make(clip: ClipModel, images: Path, captions: Path, **settings: object) -> ContrastiveObjective:
    """An objective on the test data."""
    own = ContrastiveSettings(**{"batch_size": 4, **settings})  # type: ignore[arg-type]
    return ContrastiveObjective(clip, open_pairs(images, captions), own, seed=0)


def test_locked_tower_trains_its_projection_only(
    tiny_clip: ClipModel, photo_folder: Path, captions_file: Path
) -> None:
    """Of the image tower only `proj` gets a gradient."""
    objective = make(tiny_clip, photo_folder, captions_file, lock_image=True)
    objective.losses(0, np.random.default_rng(0))["loss"].backward()
    visual = tiny_clip.model.visual
    assert [n for n, p in visual.named_parameters() if p.grad is not None] == ["proj"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "2 pairs at least"),
        ({"crop_scale": 0.0}, "crop_scale is 0.0; give a number above 0, 1 at most"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; give 0 or more"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings: dict[str, Any], message: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=message):
        ContrastiveSettings(**settings)


def test_epochs_are_passes_over_all_images(
    tiny_clip: ClipModel, photo_folder: Path, captions_file: Path
) -> None:
    """Twelve batches of five are five passes over twelve images, each in an order of its own."""
    objective = make(tiny_clip, photo_folder, captions_file, batch_size=5)
    names: list[str] = []
    with torch.no_grad():
        for step in range(12):
            objective.losses(step, np.random.default_rng(step))
            names += objective.batch_names()
    epochs = [tuple(names[12 * i : 12 * (i + 1)]) for i in range(5)]
    assert len(set(epochs)) == 5
    assert all(sorted(epoch) == objective.pairs.names for epoch in epochs)


def test_unreadable_images_leave_the_batch(
    tiny_clip: ClipModel, photo_folder: Path, captions_file: Path
) -> None:
    """A damaged image is named and skipped; if all are damaged, training stops."""
    objective = make(tiny_clip, photo_folder, captions_file, batch_size=12)
    (photo_folder / "03.png").write_bytes(b"not an image")
    objective.losses(0, np.random.default_rng(0))
    assert list(objective.pairs.broken) == ["03.png"]
    for path in photo_folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="12 failed"):
        objective.losses(0, np.random.default_rng(0))


def share(group: Group) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of a process that has three of four pairs, or the last one."""
    rows = slice(0, 3) if group.rank == 0 else slice(3, 4)
    images, scale = unit(4, 0)[rows].requires_grad_(), torch.tensor(7.0)
    items = torch.arange(4)[rows]
    loss = shared_contrastive_loss(images, unit(4, 1)[rows], scale, items=items, group=group)
    loss.backward()
    assert images.grad is not None
    return loss.detach(), images.grad


def test_shares_of_processes_make_the_loss_of_all_pairs(in_two_processes: Call) -> None:
    """Their mean is the loss of four pairs, and so are their gradients, in unequal parts, too."""
    images = unit(4, 0).requires_grad_()
    whole = contrastive_loss(images, unit(4, 1), torch.tensor(7.0))
    whole.backward()
    (first, gradient), (second, rest) = in_two_processes(share)
    torch.testing.assert_close((first + second) / 2, whole.detach())
    torch.testing.assert_close(torch.cat([gradient, rest]) / 2, images.grad)


def test_an_image_is_no_negative_of_itself() -> None:
    """Of three pairs, the first and the last of one image, the others' logits are left out."""
    a, b, scale = unit(3, 0), unit(3, 1), torch.tensor(7.0)
    logits, expected = 7.0 * (a.double() @ b.double().T).numpy(), 0.0
    others = {0: (0, 1), 1: (0, 1, 2), 2: (1, 2)}
    for i, kept in others.items():
        for row in (logits[i], logits[:, i]):
            expected -= float(row[i]) - math.log(sum(math.exp(row[k]) for k in kept))
    items = torch.tensor([5, 8, 5])
    got = shared_contrastive_loss(a, b, scale, items=items, group=SINGLE)
    assert float(got) == pytest.approx(expected / 6, rel=1e-5)


def train(
    group: Group, clip: ClipModel, images: Path, captions: Path, out: Path, stop: int = 0
) -> tuple[dict[str, torch.Tensor], float]:
    """Weights and last loss after four steps of two batches of ten of twelve pairs, or fewer."""
    settings = ContrastiveSettings(batch_size=10 // group.world)
    pairs = open_pairs(images, captions)
    objective = ContrastiveObjective(clip, pairs, settings, seed=0, group=group)
    loop = LoopSettings(steps=4, learning_rate=1e-3, accumulate=2, log_every=1)
    count = iter(range(1, 5))
    hooks = Hooks(on_step=lambda: signal.raise_signal(15) if next(count) == stop else None)
    resume = (out / "checkpoint.pt").exists()
    result = run(objective, loop, folder=out, group=group, resume=resume, hooks=hooks)
    return clip.model.state_dict(), result.losses["loss"]


def test_two_processes_train_as_one(
    in_two_processes: Call,
    tiny_clip: ClipModel,
    photo_folder: Path,
    captions_file: Path,
    tmp_path: Path,
) -> None:
    """Two processes with half of each batch end with the weights of one with all of it."""
    before = {name: tensor.clone() for name, tensor in tiny_clip.model.state_dict().items()}
    data = tiny_clip, photo_folder, captions_file
    results = in_two_processes(train, *data, tmp_path / "two")
    expected, loss = train(SINGLE, *data, tmp_path / "one")
    assert not torch.equal(expected["text_projection"], before["text_projection"])
    for weights, other in results:
        torch.testing.assert_close(weights, expected, atol=1e-4, rtol=0)
        assert other == pytest.approx(loss, abs=1e-4)


def test_a_stopped_run_resumes_exactly(
    tiny_clip: ClipModel, photo_folder: Path, captions_file: Path, tmp_path: Path
) -> None:
    """Stopped after three steps and resumed from other weights, it ends as an unbroken run."""
    first = copy.deepcopy(tiny_clip)
    second = copy.deepcopy(tiny_clip)
    whole, _ = train(SINGLE, tiny_clip, photo_folder, captions_file, tmp_path / "whole")
    train(SINGLE, first, photo_folder, captions_file, tmp_path / "stopped", stop=3)
    for parameter in second.model.parameters():
        parameter.data.zero_()
    again, _ = train(SINGLE, second, photo_folder, captions_file, tmp_path / "stopped")
    assert all(torch.equal(whole[name], tensor) for name, tensor in again.items())
