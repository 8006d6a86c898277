"""What a run starts from."""

from pathlib import Path

import pytest
import torch

from atas_deploy.core.errors import AtasError, ConfigError
from atas_deploy.training.start_model import open_device, open_start


def test_a_configuration_starts_from_random_weights(start: Path) -> None:
    """The seed decides them."""
    path = str(start / "open_clip_config.json")
    first, again, other = (open_start(path, seed=seed).model for seed in (1, 1, 2))
    assert torch.equal(first.visual.proj, again.visual.proj)
    assert not torch.equal(first.visual.proj, other.visual.proj)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_cfg": {"embed_dim": 4}}'])
def test_bad_configurations_are_refused(tmp_path: Path, content: str) -> None:
    """Whatever the JSON file holds, the answer is one of our errors."""
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(AtasError):
        open_start(str(path), seed=0)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    """By name."""
    with pytest.raises(ConfigError, match=f'Device "{name}"'):
        open_device(name)
