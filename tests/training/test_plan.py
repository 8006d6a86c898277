"""What a run is going to do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.plan import describe, fit_batch, loop_settings, missing_images
from atas_deploy.training.resolve import Given, resolve


def test_a_batch_is_no_larger_than_the_data() -> None:
    """The default is lowered, and told; what was asked for is refused."""
    told: list[str] = []
    found = fit_batch(resolve(), count=10, world=3, tell=told.append)
    assert found.options.batch_size == 3
    assert told == ["batch size 3, as there are only 10 images"]
    asked = resolve(Given({"batch_size": 8}))
    assert fit_batch(asked, count=8, world=1) is asked
    with pytest.raises(ConfigError, match="batch size is 8, but there are only 7 images"):
        fit_batch(asked, count=7, world=1)


def test_one_image_cannot_be_told_apart() -> None:
    """Forms that contrast need a second image in the batch of all processes; cosine does not."""
    for said in ({"batch_size": 1}, {}, {"method": "contrastive"}):
        asked = resolve(Given(said))
        with pytest.raises(ConfigError, match="one image and there is nothing to tell it apart"):
            fit_batch(asked, count=9 if "batch_size" in said else 1, world=1)
    assert fit_batch(resolve(Given({"batch_size": 1})), count=9, world=2).options.batch_size == 1
    for said in ({"local_form": "cosine"}, {"method": "clipself"}):
        assert fit_batch(resolve(Given(said)), count=1, world=1).options.batch_size == 1


def test_captions_without_image_are_named() -> None:
    """The first three; nothing is said of data that have all, or no captions."""
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    pairs = Pairs(
        names=["x.jpg"], captions=[["a dog"]], read=lambda name: np.zeros((4, 4, 3), np.uint8)
    )
    assert missing_images(pairs) == ""
    told = missing_images(replace(pairs, missing=names))
    assert told == "captions without an image are left out: a.jpg, b.jpg, c.jpg and 1 more"


@pytest.mark.parametrize(
    ("asked", "count", "told"),
    [
        (
            {},
            60,
            "2 steps of 36, rate 1.0e-05; so few change little, --epochs 30 makes 50 of them",
        ),
        ({"epochs": 2}, 36, "2 steps of 36, rate 1.0e-05"),
        ({"accumulate": 2}, 7200, "100 steps of 72, rate 1.0e-05"),
    ],
)
def test_a_run_says_what_it_will_do(asked: dict[str, Any], count: int, told: str) -> None:
    """And that few steps are few, unless they were asked for."""
    run = resolve(Given({"batch_size": 36, "model": "m", **asked}))
    settings = loop_settings(run.options, count=count, world=1, width=768)
    assert describe(run, settings, count=count) == f"atas from m: {count} images, {told}"


def test_epochs_become_steps() -> None:
    """A step takes the batches of all processes, several times with accumulation."""
    options = resolve(Given({"epochs": 2.5, "batch_size": 4, "accumulate": 2})).options
    settings = loop_settings(options, count=160, world=2, width=768)
    assert (settings.steps, settings.warmup_steps, settings.accumulate) == (25, 2, 2)
    assert loop_settings(options, count=1, world=1, width=768).steps == 1


def test_a_check_without_interval_is_made_at_the_end() -> None:
    """The loop checks after its last step; without labels never."""
    labelled = {"check_images": Path("x"), "check_labels": Path("y"), "max_steps": 50}
    with_labels, without = resolve(Given(labelled)).options, resolve().options
    assert loop_settings(with_labels, count=9, world=1, width=768).check_every == 50
    assert loop_settings(without, count=9, world=1, width=768).check_every == 0


def test_small_towers_learn_faster_unless_a_rate_is_given() -> None:
    """The papers' rate is for ViT-B and ViT-L; contrastive training has its own."""
    rates = {
        (method, width): loop_settings(
            resolve(Given({"method": method})).options, count=9, world=1, width=width
        ).learning_rate
        for method in ("atas", "clipself", "contrastive")
        for width in (192, 768)
    }
    assert rates == {
        ("atas", 192): 1e-3,
        ("atas", 768): 1e-5,
        ("clipself", 192): 3e-4,
        ("clipself", 768): 1e-5,
        ("contrastive", 192): 1e-5,
        ("contrastive", 768): 1e-5,
    }
    given = resolve(Given({"lr": 2e-4})).options
    assert loop_settings(given, count=9, world=1, width=192).learning_rate == 2e-4
