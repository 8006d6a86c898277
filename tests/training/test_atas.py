"""ATAS: views, losses of a batch, and a run that learns."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.atas import AtasObjective, AtasView
from atas_deploy.training.atas_settings import AtasSettings
from atas_deploy.training.images import open_images
from atas_deploy.training.loader import BatchLoader, Draw
from atas_deploy.training.mosaic import split_cells
from atas_deploy.training.objective import Losses
from atas_deploy.training.student import Views
from atas_deploy.training.teacher_cache import TeacherCache

SMALL: dict[str, Any] = {"size": 64, "grids": (2,), "watch_every": 1}


def _loader(photos: Path, *, batch: int = 4, **view: Any) -> BatchLoader:
    settings: dict[str, Any] = {"side": 32, "mode": "squash", "scale": 1.0, "views": 1}
    return BatchLoader(
        open_images([str(photos)]), AtasView(**settings | view), batch_size=batch, seed=0
    )


def _objective(clip: ClipModel, photos: Path, *, batch: int = 4, **settings: Any) -> AtasObjective:
    return AtasObjective(clip, _loader(photos, batch=batch), AtasSettings(**SMALL | settings))


def _losses(objective: AtasObjective, step: int = 0) -> Losses:
    return objective.losses(step, np.random.default_rng((0, step)))


def _pixels(objective: AtasObjective) -> Tensor:
    """The squares of the first batch, normalised."""
    return objective.loader.batch(0).data["image"].float() / 127.5 - 1.0


def _move(clip: ClipModel) -> None:
    """Take the image tower a little away from its start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in clip.model.visual.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)


def _draw(index: int = 0, epoch: int = 0) -> Draw:
    return Draw(index=index, epoch=epoch, seed=0, rng=np.random.default_rng(0))


def _noise(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (40, 48, 3)).astype(np.uint8)


def test_view_is_the_whole_squashed_image() -> None:
    """Scale 1 keeps all of it."""
    image = np.zeros((40, 48, 3), np.uint8)
    image[:, 24:] = 255
    pixels = AtasView(32, "squash", 1.0, 1)(image, _draw())["image"]
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert int(pixels[:, :, :15].max()) == 0
    assert int(pixels[:, :, 17:].min()) == 255


def test_views_repeat_after_as_many_epochs() -> None:
    """Epoch 0 and 2 show one view, epoch 1 the other, as a cache of the teacher needs it."""
    view, image = AtasView(32, "squash", 0.3, 2), _noise(0)
    first, second, third = (view(image, _draw(epoch=e)) for e in range(3))
    assert [int(v["view"]) for v in (first, second, third)] == [0, 1, 0]
    assert torch.equal(first["image"], third["image"])
    assert not torch.equal(first["image"], second["image"])


@pytest.mark.parametrize(
    ("mode", "scale", "count"), [("squash", 1.0, 1), ("shortest", 1.0, 3), ("squash", 0.5, 3)]
)
def test_views_are_one_where_all_is_seen(mode: str, scale: float, count: int) -> None:
    """Three epochs show as many pictures as there are views."""
    view, image = AtasView(32, mode, scale, 3), _noise(0)
    found = [view(image, _draw(epoch=epoch)) for epoch in range(3)]
    assert len({v["image"].numpy().tobytes() for v in found}) == count == view.count
    assert {int(v["view"]) for v in found} == set(range(count))


def test_perfect_student_has_no_global_cosine_loss(
    tiny_clip: ClipModel, photo_folder: Path
) -> None:
    """Before the first step the student is its teacher: class tokens and similarities agree."""
    losses = _losses(_objective(tiny_clip, photo_folder, global_form="cosine", local_to_local=1.0))
    assert float(losses["global_to_global"]) == pytest.approx(0.0, abs=1e-6)
    assert float(losses["local_to_local"]) == pytest.approx(0.0, abs=1e-4)
    assert float(losses["class_cosine"]) == pytest.approx(1.0, abs=1e-6)
    assert float(losses["patch_cosine"]) == pytest.approx(1.0, abs=1e-6)
    assert float(losses["relation_error"]) == pytest.approx(0.0, abs=1e-6)


def test_losses_are_those_written_out(tiny_clip: ClipModel, photo_folder: Path) -> None:
    """One 2 x 2 mosaic, pooled and contrasted by hand with the paper's equations."""
    objective = _objective(
        tiny_clip,
        photo_folder,
        local_form="infonce",
        global_form="infonce",
        pooling_temperature=0.2,
        temperature=0.05,
        readout="vanilla",
    )
    losses = _losses(objective)
    pixels = _pixels(objective)
    rows = [torch.cat([pixels[0], pixels[1]], dim=2), torch.cat([pixels[2], pixels[3]], dim=2)]
    vit = DenseViT(tiny_clip.model.visual, readout="vanilla")
    with torch.no_grad():
        dense, image = vit(torch.cat(rows, dim=1)[None])[0][0], vit(pixels)[1]
    local, globally = 0.0, 0.0
    for j in range(4):
        top, left = 2 * (j // 2), 2 * (j % 2)
        patches = dense[top : top + 2, left : left + 2].reshape(4, -1)
        weights = (patches @ image[j] / 0.2).softmax(dim=0)
        pooled = F.normalize(weights @ patches, dim=0)
        local -= float((image @ pooled / 0.05).log_softmax(dim=0)[j]) / 4
        globally -= float((image @ image[j] / 0.05).log_softmax(dim=0)[j]) / 4
    assert float(losses["global_to_local"]) == pytest.approx(local, rel=1e-4)
    assert float(losses["global_to_global"]) == pytest.approx(globally, rel=1e-4)


def test_six_images_are_those_written_out(tiny_clip: ClipModel, photo_folder: Path) -> None:
    """A moved student, on a 2 x 2 mosaic of 64 pixels and two images alone at 80 pixels."""
    objective = _objective(
        tiny_clip,
        photo_folder,
        batch=6,
        size=80,
        readout="vanilla",
        pooling_temperature=0.05,
        local_form="cosine",
        local_to_local=0.1,
    )
    start = copy.deepcopy(tiny_clip.model.visual)
    _move(tiny_clip)
    losses, pixels = _losses(objective), _pixels(objective)
    rows = [torch.cat([pixels[0], pixels[1]], dim=2), torch.cat([pixels[2], pixels[3]], dim=2)]
    alone = F.interpolate(pixels[4:], size=(80, 80), mode="bilinear")
    sheets, images = [torch.cat(rows, dim=1), *alone], [4, 1, 1]
    student, teacher = (DenseViT(v, readout="vanilla") for v in (tiny_clip.model.visual, start))
    with torch.no_grad():
        ours, theirs = ([v(s[None])[0][0].double() for s in sheets] for v in (student, teacher))
        keys, image = teacher(pixels)[1].double(), student(pixels)[1].double()
    cells = [ours[0][top : top + 2, left : left + 2] for top in (0, 2) for left in (0, 2)]
    local = 0.0
    for cell, key in zip([*cells, *ours[1:]], keys, strict=True):
        patches = cell.flatten(0, 1)
        pooled = F.normalize((patches @ key / 0.05).softmax(dim=0) @ patches, dim=0)
        local += (1.0 - float(pooled @ key)) / 6
    relation, cosines, squares = 0.0, [], []
    for p, q, held in zip(ours, theirs, images, strict=True):
        p, q = p.flatten(0, 1), q.flatten(0, 1)
        for i in range(len(p)):
            errors = [float(p[i] @ p[k] - q[i] @ q[k]) ** 2 for k in range(len(p))]
            relation += held / 6 * math.sqrt(math.fsum(errors)) / len(p)
            squares += errors
            cosines.append(float(p[i] @ q[i]))
    expected = {
        "global_to_local": local,
        "local_to_local": relation,
        "class_cosine": float((image * keys).sum(dim=1).mean()),
        "patch_cosine": math.fsum(cosines) / len(cosines),
        "relation_error": math.sqrt(math.fsum(squares) / len(squares)),
    }
    assert {name: float(losses[name]) for name in expected} == pytest.approx(expected, rel=1e-4)


def test_an_image_is_no_negative_of_itself(tiny_clip: ClipModel, photo_folder: Path) -> None:
    """Of twelve images, a batch of fourteen has two twice; infonce tells them from the others."""
    objective = _objective(
        tiny_clip, photo_folder, batch=14, global_form="infonce", temperature=0.1
    )
    found, indices = _losses(objective), objective.loader.batch(0).indices.tolist()
    with torch.no_grad():
        image = DenseViT(tiny_clip.model.visual)(_pixels(objective))[1]
    expected = 0.0
    for j, own in enumerate(indices):
        others = [k for k, other in enumerate(indices) if other != own]
        expected -= float((10.0 * image[[j, *others]] @ image[j]).log_softmax(dim=0)[0]) / 14
    assert len(set(indices)) == 12
    assert float(found["global_to_global"]) == pytest.approx(expected, rel=1e-5)


def test_loss_is_the_weighted_sum(tiny_clip: ClipModel, photo_folder: Path) -> None:
    """Each part counts by its weight."""
    weights = {"global_to_local": 0.5, "local_to_local": 2.0, "global_to_global": 3.0}
    losses = _losses(_objective(tiny_clip, photo_folder, **weights))
    total = sum(weight * float(losses[name]) for name, weight in weights.items())
    assert float(losses["loss"].detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("left_out", ["global_to_local", "global_to_global"])
def test_every_weight_takes_part_when_a_loss_is_left_out(
    tiny_clip: ClipModel, photo_folder: Path, left_out: str
) -> None:
    """Several processes could not share a gradient otherwise."""
    losses = _losses(_objective(tiny_clip, photo_folder, **{left_out: 0.0}))
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in tiny_clip.model.visual.parameters())


def test_similarities_without_weight_are_not_computed(
    tiny_clip: ClipModel, photo_folder: Path
) -> None:
    """Neither is the teacher asked for patches, but when it is looked for a collapse."""
    objective = _objective(tiny_clip, photo_folder, local_to_local=0.0, watch_every=2)
    assert _losses(objective, 1).keys() - _losses(objective, 0).keys() == {
        "class_cosine",
        "patch_cosine",
        "relation_error",
    }
    assert "local_to_local" not in _losses(objective, 1)


def test_batch_that_fills_no_mosaic_is_used_wholly(
    tiny_clip: ClipModel, photo_folder: Path
) -> None:
    """Six images make a 2 x 2 mosaic and two alone; all cells and class tokens have a gradient."""
    objective = _objective(tiny_clip, photo_folder, batch=6)
    _move(tiny_clip)
    seen: list[Views] = []
    objective.student.register_forward_hook(lambda *call: seen.extend(call[2]))
    found = _losses(objective)["loss"]
    assert len(objective.batch_names()) == 6
    whole, together, alone = seen
    tokens, *dense = torch.autograd.grad(found, [whole.image, together.dense, alone.dense])
    cells = [split_cells(dense[0], grid=2), dense[1]]
    slopes = [tokens.norm(dim=1), *(part.flatten(1).norm(dim=1) for part in cells)]
    assert [len(part) for part in slopes] == [6, 4, 2]
    assert float(torch.cat(slopes).min()) > 1e-6


def test_training_brings_cells_closer_to_their_images(
    tiny_clip: ClipModel, photo_folder: Path
) -> None:
    """Thirty steps halve the loss of the cells, the class token stays near its teacher."""
    objective = _objective(
        tiny_clip, photo_folder, local_to_local=0.0, local_form="cosine", global_form="cosine"
    )
    optimizer = torch.optim.AdamW(tiny_clip.model.visual.parameters(), lr=1e-3)
    seen = []
    for step in range(30):
        losses = _losses(objective, step)
        optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen.append(float(losses["global_to_local"].detach()))
    assert seen[-1] < 0.5 * seen[0]
    assert float(losses["class_cosine"]) > 0.9


def test_cached_teacher_gives_the_same_losses(
    tiny_clip: ClipModel, photo_folder: Path, tmp_path: Path
) -> None:
    """With its embeddings on disk, known or not, the teacher tells the same."""
    expected = _losses(_objective(tiny_clip, photo_folder))
    cache = TeacherCache(tmp_path / "cache", count=12, views=1, width=16, key="key")
    settings = AtasSettings(**SMALL)
    for _ in range(2):
        objective = AtasObjective(tiny_clip, _loader(photo_folder), settings, teacher_cache=cache)
        found = _losses(objective)
        assert float(found["loss"].detach()) == pytest.approx(float(expected["loss"].detach()))
    known = cache.lookup(objective.loader.batch(0).indices, 0)[1]
    assert bool(known.all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grids": ()}, "grids"),
        ({"grids": (0,)}, "grids"),
        ({"pooling_temperature": math.nan}, "pooling_temperature"),
        ({"global_to_local": 0.0, "local_to_local": 0.0, "global_to_global": 0.0}, "weights"),
        ({"local_to_local": -1.0}, "local_to_local is -1.0"),
        ({"local_to_local": math.inf}, "local_to_local is inf"),
        ({"local_form": "mse"}, "local form"),
        ({"relation_reduction": "sum"}, "relation reduction"),
        ({"readout": "dino"}, "dino"),
        ({"temperature": 0.0}, "temperature is 0.0; give a number above 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; give 0 or more"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0; give a number above 0, 1 at most"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"last_blocks": 0}, "last_blocks is 0"),
        ({"size": 0}, "size is 0"),
        ({"crop_scale": 0.0}, "crop_scale is 0.0"),
        ({"views": 0}, "views"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings: dict[str, Any], message: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=message):
        AtasSettings(**settings)
