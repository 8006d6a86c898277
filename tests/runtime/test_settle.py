"""Settings: what is taken, and as what."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.presets import PRESETS, Protocol
from atas_deploy.runtime.settle import settle


@pytest.mark.parametrize("name", ["threshold", "denoise", "logit_scale", "short_side", "window"])
@pytest.mark.parametrize("value", [True, False, np.True_, "1", float("nan"), float("inf"), 1j])
def test_what_is_no_number_is_refused(name: str, value: object) -> None:
    """Truth values too, though Python counts them as 0 and 1."""
    with pytest.raises(ConfigError, match="expected"):
        settle(Protocol(), **{name: value})


@pytest.mark.parametrize("value", [336.0, np.int64(336), np.float32(336)])
def test_whole_numbers_become_ints(value: float) -> None:
    """Whatever counts as a number, run.json can hold it."""
    settled = settle(Protocol(), short_side=value, window=value, stride=value)
    for got in (settled.short_side, settled.window, settled.stride):
        assert (type(got), got) == (int, 336)


@pytest.mark.parametrize("value", [336.5, 0, -16])
def test_pixels_are_whole_and_above_0(value: float) -> None:
    """Half a pixel is none."""
    with pytest.raises(ConfigError, match=r"short side.*whole number of pixels"):
        settle(Protocol(), short_side=value)


def test_numbers_of_numpy_can_be_recorded() -> None:
    """A threshold computed with numpy is a float afterwards."""
    settled = settle(Protocol(), threshold=np.float32(0.25), logit_scale=np.float64(40))
    assert json.loads(json.dumps(asdict(settled)))["threshold"] == 0.25


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_settled_already(preset: str) -> None:
    """Nothing given, nothing changed."""
    for protocol in PRESETS[preset].values():
        assert settle(protocol) == protocol
