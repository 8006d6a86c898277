"""The loss of CLIPSelf and what it trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.clipself import ClipSelfObjective, make_view
from atas_deploy.training.clipself_settings import ClipSelfSettings
from atas_deploy.training.clipself_view import collate_regions
from atas_deploy.training.images import open_images
from atas_deploy.training.loader import BatchLoader, Draw, Sample
from atas_deploy.training.loop import LoopSettings, run

Pixels = npt.NDArray[np.uint8]
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Pictures:
    """Images in memory."""

    images: Sequence[Pixels]

    @property
    def names(self) -> list[str]:
        """One each."""
        return [f"{i}.png" for i in range(len(self.images))]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images)

    def read(self, index: int) -> Pixels:
        """One of them."""
        return self.images[index]


@dataclass(frozen=True)
class Cells:
    """Gives the student a picture in a square of 64 pixels, and cells of 32 pixels as they are."""

    fill: int = 128

    def __call__(self, image: Pixels, draw: Draw) -> Sample:
        """Cut a picture whose sides are 32 or 64 pixels."""
        height, width = image.shape[:2]
        square = np.full((64, 64, 3), self.fill, np.uint8)
        square[:height, :width] = image
        places = [(x, y) for y in range(0, height, 32) for x in range(0, width, 32)]
        crops = [image[y : y + 32, x : x + 32] for x, y in places]
        return {
            "picture": torch.from_numpy(square).permute(2, 0, 1),
            "whole": torch.from_numpy(crops[0].copy()).permute(2, 0, 1),
            "boxes": torch.tensor([[x, y, x + 32, y + 32] for x, y in places]) / 64,
            "crops": torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2),
        }


class PatchTeacher(nn.Module):
    """A teacher whose class token is the mean patch."""

    def __init__(self, vit: DenseViT) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Dense features and their normalised mean."""
        dense, _ = self.vit(pixels)
        return dense, F.normalize(dense.mean(dim=(1, 2)), dim=-1)


def noise(*shapes: tuple[int, int]) -> Pictures:
    """Random pictures of some sizes (H, W)."""
    rng = np.random.default_rng(1)
    return Pictures([rng.integers(0, 255, (*shape, 3), np.uint8) for shape in shapes])


def objective_of(
    clip: ClipModel, source: Any, view: Any = None, *, batch: int = 3, **settings: Any
) -> ClipSelfObjective:
    """The method on a batch of pictures; by default with random grids."""
    own = ClipSelfSettings(**{"size": 64, **settings})
    view = view or make_view(clip, own, source.names)
    loader = BatchLoader(source, view, batch_size=batch, seed=0, collate=collate_regions)
    return ClipSelfObjective(clip, loader, own)


def values_of(objective: ClipSelfObjective, step: int = 0, *, seed: int = 0) -> dict[str, float]:
    """What a batch gives, as numbers."""
    losses = objective.losses(step, np.random.default_rng(seed))
    return {name: float(value.detach()) for name, value in losses.items()}


def without_positions(clip: ClipModel) -> ClipModel:
    """A model whose patches know neither their place nor, read by "maskclip", each other."""
    visual = clip.model.visual
    visual.transformer.resblocks = visual.transformer.resblocks[:1]
    nn.init.zeros_(visual.positional_embedding)
    return clip


def test_the_loss_is_that_of_crops_and_mean_patches(tiny_clip: ClipModel) -> None:
    """As written out: the teacher is the model itself, the student's cells are 2 x 2 patches."""
    source = noise((64, 64), (32, 64), (64, 32))
    objective = objective_of(tiny_clip, source, Cells(), readout="sclip")
    found = values_of(objective)
    batch = objective.loader.batch(0)
    distances = []
    for image in (source.images[i] for i in batch.indices):
        square = torch.full((1, 3, 64, 64), 128.0)
        height, width = image.shape[:2]
        square[0, :, :height, :width] = torch.from_numpy(image).permute(2, 0, 1)
        dense, _ = DenseViT(tiny_clip.model.visual, readout="sclip")(square / 127.5 - 1)
        for y in range(0, height, 32):
            for x in range(0, width, 32):
                crop = torch.from_numpy(image[y : y + 32, x : x + 32]).permute(2, 0, 1)[None]
                token = tiny_clip.model.encode_image(crop / 127.5 - 1, normalize=True)[0]
                region = dense[0, y // 16 : y // 16 + 2, x // 16 : x // 16 + 2].mean(dim=(0, 1))
                distances.append(1 - F.cosine_similarity(region, token, dim=0))
    assert len(distances) == 8
    expected = float(torch.stack(distances).mean().detach())
    assert found["loss"] == pytest.approx(expected, abs=1e-5)
    assert found["regions"] == pytest.approx(8 / 3)


def test_a_perfect_student_loses_nothing(tiny_clip: ClipModel) -> None:
    """Where patches see themselves alone, a region of the picture has what its crop has."""
    source = noise((64, 64), (32, 64), (64, 32))
    objective = objective_of(without_positions(tiny_clip), source, Cells())
    before = values_of(objective)["loss"]
    objective.teacher = PatchTeacher(objective.teacher)
    assert values_of(objective)["loss"] == pytest.approx(0, abs=1e-5)
    assert before > 0.1


def test_the_filling_does_not_reach_the_regions(tiny_clip: ClipModel) -> None:
    """Where patches see themselves alone, its colour does not matter."""
    source, clip = noise((32, 64), (64, 32), (32, 32)), without_positions(tiny_clip)
    grey, white = (values_of(objective_of(clip, source, Cells(fill))) for fill in (128, 255))
    assert grey["loss"] == pytest.approx(white["loss"], abs=1e-6)


def test_scales_of_a_batch(tiny_clip: ClipModel) -> None:
    """Pictures without detail look the same at each scale; each scale is drawn at times."""
    flat = Pictures([np.full((64, 64, 3), shade, np.uint8) for shade in (20, 90, 240)])
    clip = without_positions(tiny_clip)
    alone = values_of(objective_of(clip, flat))["loss"]
    objective = objective_of(clip, flat, multiscale=(32, 48, 64))
    sides = set()
    objective.student.register_forward_pre_hook(lambda _, args: sides.add(args[0][0].shape[-1]))
    for seed in range(20):
        assert values_of(objective, seed=seed)["loss"] == pytest.approx(alone, abs=1e-5)
    assert sides == {32, 48, 64}


@pytest.mark.parametrize("readout", ["vanilla", "maskclip", "sclip", "clearclip", "naclip"])
def test_gradients_reach_the_blocks_alone(tiny_clip: ClipModel, readout: str) -> None:
    """All of the blocks, as processes that share gradients need it, and nothing else."""
    objective = objective_of(tiny_clip, noise((64, 64), (40, 64)), readout=readout)
    objective.losses(0, RNG)["loss"].backward()
    with_gradient = {n for n, p in tiny_clip.model.named_parameters() if p.grad is not None}
    blocks = {n for n, _ in tiny_clip.model.named_parameters() if "visual.transformer" in n}
    assert with_gradient == blocks
    assert sum(len(group["params"]) for group in objective.groups()) == len(blocks)
    assert all(p.grad is None for p in objective.teacher.parameters())


@pytest.mark.parametrize("readout", ["maskclip", "naclip"])
@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_gradients_of_other_families(
    family_config: Callable[[str], dict[str, Any]], family: str, readout: str
) -> None:
    """Each weight of the blocks has a gradient, also where the read-out leaves parts out."""
    config = {"model_cfg": family_config(family), "preprocess_cfg": {"resize_mode": "shortest"}}
    config["preprocess_cfg"] |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    model = build_model(config)
    clip = ClipModel(model=model, config=config, name=family, tokenizer_file=Path())
    objective = objective_of(clip, noise((64, 64), (40, 64)), size=96, readout=readout)
    objective.losses(0, RNG)["loss"].backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all("blocks." in name for name in trained)
    assert all(p.grad is not None for p in trained.values())


def test_the_last_block_alone(tiny_clip: ClipModel) -> None:
    """As many blocks learn as asked for."""
    objective = objective_of(tiny_clip, noise((64, 64)), last_blocks=1)
    names = {n for n, p in tiny_clip.model.named_parameters() if p.requires_grad}
    assert names
    assert all(n.startswith("visual.transformer.resblocks.1.") for n in names)
    objective.losses(0, RNG)["loss"].backward()
    assert all(tiny_clip.model.get_parameter(n).grad is not None for n in names)


def test_a_batch_without_regions(tiny_clip: ClipModel) -> None:
    """Nothing is lost and nothing moves, in step with processes that have regions."""

    def nothing(image: Pixels, draw: Draw) -> Sample:
        sample = Cells()(image, draw)
        return sample | {key: sample[key][:0] for key in ("boxes", "crops")}

    objective = objective_of(tiny_clip, noise((64, 64)), nothing)
    found = objective.losses(0, RNG)
    found["loss"].backward()
    assert float(found["loss"].detach()) == 0
    assert not any(p.grad.any() for p in tiny_clip.model.parameters() if p.requires_grad)


def test_drift_of_the_class_token(tiny_clip: ClipModel) -> None:
    """Watched at the end of every so many batches: 1 at first, less for a changed student."""
    objective = objective_of(tiny_clip, noise((64, 64), (50, 64)), watch_every=3)
    logged = [values_of(objective, step) for step in range(6)]
    assert ["class_cosine" in losses for losses in logged] == [False, False, True] * 2
    assert logged[2]["class_cosine"] == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        for parameter in tiny_clip.model.visual.transformer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    whole = objective.loader.batch(8).data["whole"] / 127.5 - 1
    with torch.no_grad():
        student, teacher = DenseViT(tiny_clip.model.visual)(whole)[1], objective.teacher(whole)[1]
    wanted = float((student * teacher).sum(dim=1).mean())
    assert wanted < 0.99
    assert values_of(objective, 8)["class_cosine"] == pytest.approx(wanted, abs=1e-6)


def test_no_watch(tiny_clip: ClipModel) -> None:
    """It can be left out."""
    objective = objective_of(tiny_clip, noise((64, 64)), watch_every=0)
    assert "class_cosine" not in values_of(objective)


def test_a_run_lowers_the_loss(tiny_clip: ClipModel, photo_folder: Path, tmp_path: Path) -> None:
    """Two dozen steps on twelve photos."""
    objective = objective_of(tiny_clip, open_images([str(photo_folder)]), batch=6, max_grid=3)
    settings = LoopSettings(steps=24, learning_rate=1e-3, warmup_steps=2, log_every=8)
    first = values_of(objective)["loss"]
    result = run(objective, settings, folder=tmp_path)
    assert result.losses["loss"] < 0.5 * first
    assert result.losses["class_cosine"] < 1


def test_names_of_the_batch(tiny_clip: ClipModel) -> None:
    """A message can tell which files a step had."""
    objective = objective_of(tiny_clip, noise((64, 64), (64, 64), (64, 64)), batch=2)
    objective.losses(0, RNG)
    assert list(objective.batch_names()) == objective.loader.batch(0).names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 70}, "size is 70 pixels; give a multiple of the patch size, 16, such as 64"),
        ({"size": 64, "multiscale": (64, 8)}, "size is 8 pixels.*such as 16"),
        ({"last_blocks": 3}, "has 2"),
    ],
)
def test_settings_that_do_not_suit_the_model(
    tiny_clip: ClipModel, settings: dict[str, Any], message: str
) -> None:
    """They are refused before training."""
    with pytest.raises(ConfigError, match=message):
        objective_of(tiny_clip, noise((64, 64)), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"max_grid": 0}, "max_grid is 0"),
        ({"max_regions": 0}, "max_regions is 0"),
        ({"watch_every": -1}, "watch_every is -1"),
        ({"proposal_scale": 0.5}, "proposal_scale is 0.5"),
        ({"multiscale": (64, 0)}, "multiscale is 0"),
        ({"last_blocks": 0}, "last_blocks is 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"readout": "best"}, "best"),
    ],
)
def test_settings_that_no_run_can_have(settings: dict[str, Any], message: str) -> None:
    """They are refused when they are made."""
    with pytest.raises(ConfigError, match=message):
        ClipSelfSettings(**settings)
