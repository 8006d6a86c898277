"""From what a user says to the options of a run."""

import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from subprocess import run as run_process
from typing import Any, get_args

import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.config import to_toml
from atas_deploy.training.options import OPTIONS, SETTINGS, Method
from atas_deploy.training.presets import PRESETS
from atas_deploy.training.resolve import Given, Run, resolve

every_method = pytest.mark.parametrize("method", get_args(Method))


def said(**values: Any) -> Given:
    """A command line."""
    return Given(values)


def written(**values: Any) -> Given:
    """A run file."""
    return Given(values, Path("run.toml"))


@every_method
def test_defaults_are_those_of_the_dataclasses(method: Method) -> None:
    """Nothing but the method is said; no default stands anywhere else."""
    found = resolve(said(method=method))
    assert found.options == OPTIONS[method]()
    assert found.settings == SETTINGS[method]()


def test_the_method_is_atas_if_none_is_said() -> None:
    """A folder of images is all that a run needs to be told."""
    assert resolve(said(images=("photos",))).method == "atas"


@every_method
def test_all_values_fed_back_give_the_same_run(method: Method) -> None:
    """Through TOML, too; with lists, paths, infinity and what is not set."""
    given: dict[str, Any] = {"method": method, "images": ("a", "b c"), "lr": 3e-5, "max_steps": 7}
    given |= {"check_images": Path("x"), "check_labels": Path("y")}
    given |= {"atas": {"grids": (2, 6)}, "clipself": {"proposals": Path("p.json")}}.get(method, {})
    first = resolve(said(**given))
    again = resolve(written(**tomllib.loads(to_toml(first.values()))))
    assert (again.method, again.options, again.settings) == (
        first.method,
        first.options,
        first.settings,
    )


def test_the_command_line_goes_before_the_run_file() -> None:
    """Of options that both have; the others come from the run file."""
    found = resolve(written(lr=1e-3, seed=5, temperature=2), said(lr=1e-4))
    assert (found.options.lr, found.options.seed, found.settings.temperature) == (1e-4, 5, 2.0)


def test_epochs_replace_steps_said_before() -> None:
    """And steps replace epochs; both in one place contradict each other."""
    by_epochs = resolve(written(max_steps=10), said(epochs=2.0)).options
    by_steps = resolve(written(epochs=2.0), said(max_steps=10)).options
    assert (by_epochs.max_steps, by_epochs.epochs) == (None, 2.0)
    assert by_steps.max_steps == 10
    with pytest.raises(ConfigError, match="both --epochs and --max-steps"):
        resolve(said(epochs=2.0, max_steps=10))


def test_a_batch_size_is_that_of_loader_and_method() -> None:
    """Contrastive training has it among its settings; it stays one option."""
    found = resolve(said(method="contrastive", batch_size=12))
    assert found.settings.batch_size == found.options.batch_size == 12
    other = found.with_batch_size(5)
    assert other.settings.batch_size == other.options.batch_size == 5
    assert other.settings.crop_scale == found.settings.crop_scale


def test_a_preset_is_weaker_than_what_stands_beside_it() -> None:
    """And stronger than a run file, when the command line names it."""
    paper = PRESETS["paper"]
    found = resolve(written(temperature=9.0, lr=1.0), said(preset="paper", size=320))
    assert found.settings.temperature == paper["temperature"]
    assert found.options.lr == paper["lr"]
    assert found.settings.size == 320


def test_presets_name_options_of_atas() -> None:
    """All of them, so that a renamed field is noticed."""
    for values in PRESETS.values():
        known = {field.name for part in (OPTIONS, SETTINGS) for field in fields(part["atas"])}
        assert set(values) <= known


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (said(method="clipself", grids=(2,)), "--grids is an option of the method atas, but"),
        (said(captions=Path("c.csv")), "--captions is an option of the method contrastive"),
        (
            said(method="contrastive", readout="sclip"),
            "--readout is an option of the methods atas and clipself",
        ),
        (said(method="clipself", preset="paper"), "--preset is an option of the method atas"),
        (written(learning_rate=1.0), "learning_rate in run.toml is no option of a run"),
        (written(grid=[2]), r"grid in run\.toml is no option of a run; did you mean grids\?"),
        (written(temperatur=1.0), r"did you mean temperature\?"),
        (written(atas={"grids": [2]}), "atas in run.toml is no option"),
        (written(lr="fast"), 'lr in run.toml is "fast"; expected a number'),
        (written(method="magic"), 'method in run.toml is "magic"; choose atas, clipself'),
        (written(preset="paste"), 'preset in run.toml is "paste"; choose paper'),
        (written(images=3), "images in run.toml is 3; expected text"),
        (said(alpha=1.5), "--alpha is 1.5"),
        (said(batch_size=0), "--batch-size is 0"),
        (said(workers=-1), "--workers is -1"),
        (said(lr=0.0), "--lr is 0.0; give a number above 0"),
        (said(max_broken=1.5), "--max-broken is 1.5; give a number from 0 to 1"),
        (said(epochs=float("nan")), "--epochs is nan"),
        (said(epochs=float("inf")), "--epochs is inf"),
        (written(weight_decay=float("nan")), r"weight_decay in run\.toml is nan; give a finite"),
        (said(seed=2**31), "--seed is 2147483648; give 2147483647 or less"),
        (said(record_readout="fancy"), "Read-out 'fancy' is unknown"),
        (said(check_every=3), "--check-every needs --check-images"),
        (said(check_images=Path("x")), "--check-images with no labels"),
        (
            said(check_images=Path("x"), check_labels=Path("y"), check_panoptic=Path("z")),
            "both --check-labels and --check-panoptic",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_the_words_of_the_user(place: Given, message: str) -> None:
    """Flags are spelled as flags, keys as keys of their file."""
    with pytest.raises(ConfigError, match=message):
        resolve(place)


def test_options_are_known_without_torch() -> None:
    """The help shows defaults, and it must not wait for torch."""
    code = "import sys, atas_deploy.training.resolve; sys.exit('torch' in sys.modules)"
    assert run_process([sys.executable, "-c", code], check=False).returncode == 0


def test_what_was_said_is_told_apart_from_defaults() -> None:
    """A run knows whether a batch size was asked for."""
    found: Run = resolve(written(seed=1), said(batch_size=4))
    assert {"seed", "batch_size"} <= found.said
    assert "lr" not in found.said
