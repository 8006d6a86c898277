"""The text tower against open_clip's own."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch

from atas_deploy.clip.model import build_model
from atas_deploy.clip.text import TextEncoder
from atas_deploy.core.errors import ConfigError

VISION = {"image_size": 32, "patch_size": 16, "width": 16, "head_width": 16, "layers": 1}
TEXT = {"context_length": 12, "vocab_size": 600, "width": 32, "heads": 2, "layers": 2}


def make(*, custom: bool = False, **text: Any) -> Any:
    """A seeded model with these settings of the text tower."""
    torch.manual_seed(0)
    config = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT | text, "custom_text": custom}
    return build_model({"model_cfg": config})


def tokens() -> torch.Tensor:
    """Three rows that end at different places and are padded with zeros."""
    rows = torch.randint(1, 500, (3, 12), generator=torch.Generator().manual_seed(0))
    for row, end in zip(rows, (2, 5, 7), strict=True):
        row[end], row[end + 1 :] = 599, 0
    return rows


@pytest.mark.parametrize("length", [8, 9, 12])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"custom": True},
        {"custom": True, "proj_bias": True},
        {"norm_kwargs": {"eps": 1e-3}, "ls_init_value": 0.2},
        {"proj_type": "none", "width": 24, "heads": 2},
        {"pool_type": "eos", "eos_id": 599},
        {"pool_type": "first", "act_kwargs": {"approximate": "tanh"}},
    ],
)
def test_trimmed_rows_equal_encode_text(settings: dict[str, Any], length: int) -> None:
    """Cutting the padding changes nothing, in either of open_clip's model classes."""
    model = make(**settings)
    expected = model.encode_text(tokens(), normalize=True)
    got = TextEncoder(model)(tokens()[:, :length])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


SIGLIP = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "custom": True}


@pytest.mark.parametrize(
    "settings",
    [
        SIGLIP | {"norm_kwargs": {"eps": 1e-6}},
        SIGLIP | {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}},
        SIGLIP | {"pool_type": "first"},
        SIGLIP | {"pool_type": "argmax"},
        {"no_causal_mask": True, "pool_type": "eos", "eos_id": 599},
        {"pool_type": "last"},
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_full_rows_equal_encode_text(
    settings: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    """A tower that sees the padding, as SigLIP's does, says so and gives the same features."""
    model = make(**settings).to(dtype)
    encoder = TextEncoder(model)
    assert encoder.full_rows
    expected = model.encode_text(tokens(), normalize=True)
    torch.testing.assert_close(encoder(tokens()), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_families(family_model: Callable[[str], Any], family: str) -> None:
    """The text tower of each family gives open_clip's features in float64."""
    model = family_model(family).double()
    rows = torch.randint(1, 500, (3, 16), generator=torch.Generator().manual_seed(0))
    expected = model.encode_text(rows, normalize=True)
    torch.testing.assert_close(TextEncoder(model)(rows), expected, rtol=0, atol=1e-9)
    assert TextEncoder(model).full_rows == (family == "siglip")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"pool_type": "none"}, "pooling is 'none'"),
        ({"embed_cls": True, "custom": True}, "class token"),
        ({"qk_norm": True}, "customised"),
    ],
)
def test_unsupported_towers_are_refused(settings: dict[str, Any], reason: str) -> None:
    """A tower of another kind is refused with the reason and a way out."""
    with pytest.raises(ConfigError, match=f"{reason}.*ViT-B-16"):
        make(**settings)


def test_foreign_text_module_is_refused() -> None:
    """Anything but open_clip's transformer is named."""
    with pytest.raises(ConfigError, match="it is a Linear"):
        TextEncoder(torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_encoder_shares_the_models_weights() -> None:
    """The encoder holds no copy."""
    model: open_clip.CLIP = make()
    assert TextEncoder(model).token_embedding is model.token_embedding
