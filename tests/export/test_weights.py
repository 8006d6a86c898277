"""A bundle's weights are an ordinary open_clip checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.core.bundle import WEIGHTS, Bundle
from atas_deploy.export.storage import compact_state, round_weights


def assert_same_features(got: Any, expected: Any) -> None:
    """Two open_clip models give the same features of images and texts, to 1e-6."""
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.randint(1, 500, (2, 16))
    with torch.inference_mode():
        for name, given in (("encode_image", pixels), ("encode_text", tokens)):
            a, b = getattr(got, name)(given), getattr(expected, name)(given)
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_weights_of_a_bundle_load_into_plain_open_clip(bundle: Bundle, model: ClipModel) -> None:
    """open_clip's own function fills a model with the file as it is."""
    filled = build_model(model.config)
    open_clip.load_checkpoint(filled, str(bundle.path / WEIGHTS))
    assert_same_features(filled, model.model)


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_path_is_enough_for_open_clip(
    family: str,
    family_config: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What export stores, float16 where it is exact, is a checkpoint for `create_model`."""
    torch.manual_seed(0)
    model = build_model({"model_cfg": family_config(family)})
    round_weights(model)
    save_file(compact_state(model.state_dict()), tmp_path / WEIGHTS)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, family, family_config(family))
    created = open_clip.create_model(family, pretrained=str(tmp_path / WEIGHTS))
    assert_same_features(created.eval(), model)
