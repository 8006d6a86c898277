"""The options of `atas-deploy train` and the run files that say the same."""

from pathlib import Path
from typing import get_args

import click
import pytest

from atas_deploy.cli.train import train
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.config import kinds_of
from atas_deploy.training.options import OPTIONS, SETTINGS, Method, flag
from atas_deploy.training.resolve import Given, resolve

Bounds = click.IntRange | click.FloatRange
ALLOWED = ("clipself", "watch_every", 0)
"""A run file may turn off what the command line only spaces out."""


def outside(bounds: Bounds) -> list[float]:
    """Numbers nearest to the bounds that the command line refuses."""
    found: list[float] = []
    if bounds.min is not None:
        found.append(bounds.min if bounds.min_open else bounds.min - 1)
    if bounds.max is not None:
        found.append(bounds.max + 1)
    return found


CASES = [
    (method, param.name, number)
    for param in train.params
    if isinstance(param.type, Bounds)
    for method in get_args(Method)
    for number in outside(param.type)
    if param.name in {**kinds_of(OPTIONS[method]), **kinds_of(SETTINGS[method])}
    and (method, param.name, number) != ALLOWED
]


@pytest.mark.parametrize(("method", "name", "number"), CASES)
def test_run_files_have_the_bounds_of_the_command_line(
    method: Method, name: str, number: float
) -> None:
    """What click refuses is refused in a run file, too, by the name of the option."""
    kind = {**kinds_of(OPTIONS[method]), **kinds_of(SETTINGS[method])}[name]
    value = int(number) if int in (kind, *get_args(kind)) else float(number)
    place = Given({"method": method, name: value}, Path("run.toml"))
    with pytest.raises(ConfigError, match=f"({name}|{flag(name)}) is {value}; give"):
        resolve(place)


def test_there_are_bounds_to_compare() -> None:
    """Options of each kind and method are among them."""
    assert {("atas", "temperature"), ("clipself", "layer_decay"), ("contrastive", "lr")} <= {
        (method, name) for method, name, _ in CASES
    }
