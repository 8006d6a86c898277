"""The dense image tower against open_clip's own."""

from collections.abc import Callable

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from atas_deploy.clip.vit import DenseViT, resize_positions
from atas_deploy.core.errors import ConfigError, InputError


def test_class_token_equals_encode_image(model: open_clip.CLIP) -> None:
    """The image feature is open_clip's, for each kind of tower."""
    pixels = torch.randn((3, 3, *model.visual.image_size))
    _, image = DenseViT(model.visual)(pixels)
    expected = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (48, 128), (112, 64)])
def test_class_token_at_another_size(
    plain_model: open_clip.CLIP, remake: Callable[..., open_clip.CLIP], size: tuple[int, int]
) -> None:
    """At another size it is that of an open_clip model built for it with resized positions."""
    pixels, grid = torch.randn((2, 3, *size)), (size[0] // 16, size[1] // 16)
    table = plain_model.visual.positional_embedding[1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    table = F.interpolate(table, grid, mode="bicubic").permute(0, 2, 3, 1).reshape(-1, 32)
    state = plain_model.visual.state_dict()
    state["positional_embedding"] = torch.cat([state["positional_embedding"][:1], table])
    other = remake(image_size=list(size)).visual
    other.load_state_dict(state)
    expected = F.normalize(other(pixels), dim=-1)
    _, image = DenseViT(plain_model.visual)(pixels)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_positions_of_the_trained_grid_stay(dtype: torch.dtype) -> None:
    """Resizing to the trained grid changes no bit."""
    positions = torch.randn((1 + 5 * 7, 8)).to(dtype)
    resized = resize_positions(positions, trained=(5, 7), grid=(5, 7))
    assert torch.equal(resized, positions)
    assert resized.dtype == dtype


def test_half_precision_positions_are_resized_in_float32() -> None:
    """Low-precision weights lose precision once, at the end."""
    positions = torch.randn((1 + 16, 8)).bfloat16()
    resized = resize_positions(positions, trained=(4, 4), grid=(7, 9))
    exact = resize_positions(positions.float(), trained=(4, 4), grid=(7, 9))
    assert torch.equal(resized, exact.bfloat16())


@settings(deadline=None, max_examples=20)
@given(
    batch=st.integers(1, 3),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    readout=st.sampled_from(["vanilla", "maskclip", "sclip"]),
)
def test_any_size_gives_unit_features(batch: int, rows: int, columns: int, readout: str) -> None:
    """Any number of patches gives one unit vector each."""
    model = _shared_model()
    dense, image = DenseViT(model.visual, readout)(torch.randn(batch, 3, 16 * rows, 16 * columns))
    assert dense.shape == (batch, rows, columns, 24)
    assert image.shape == (batch, 24)
    torch.testing.assert_close(dense.norm(dim=-1), torch.ones(batch, rows, columns))
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(batch))


def test_images_of_a_batch_do_not_mix(plain_model: open_clip.CLIP) -> None:
    """An image's features do not depend on its neighbours in the batch."""
    tower, pixels = DenseViT(plain_model.visual), torch.randn((3, 3, 32, 48))
    alone, _ = tower(pixels[1:2])
    together, _ = tower(pixels)
    torch.testing.assert_close(alone[0], together[1])


def test_both_outputs_reach_every_weight(plain_model: open_clip.CLIP) -> None:
    """Training through the dense tower trains open_clip's own parameters."""
    dense, image = DenseViT(plain_model.visual, "sclip")(torch.randn(1, 3, 64, 64))
    (dense[..., 0].sum() + image[..., 0].sum()).backward()
    assert all(p.grad is not None for p in plain_model.visual.parameters())


def test_partial_patches_are_refused(plain_model: open_clip.CLIP) -> None:
    """The message names the size and the patch."""
    with pytest.raises(InputError, match=r"60 x 64 pixels.*multiple of 16"):
        DenseViT(plain_model.visual)(torch.zeros(1, 3, 60, 64))


def test_unknown_readout_is_refused(plain_model: open_clip.CLIP) -> None:
    """The message lists the read-outs."""
    with pytest.raises(ConfigError, match=r"'sharp'.*vanilla, maskclip, sclip"):
        DenseViT(plain_model.visual, "sharp")


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"pool_type": "avg"}, "pooling is 'avg'"),
        ({"attentional_pool": True, "attn_pooler_heads": 4}, "pools by attention"),
        ({"qk_norm": True}, "customised"),
        ({"patch_size": [16, 8]}, "not square"),
    ],
)
def test_unsupported_towers_are_refused(
    remake: Callable[..., open_clip.CLIP], setting: dict[str, object], reason: str
) -> None:
    """A tower that cannot be read densely is refused with the reason and a way out."""
    with pytest.raises(ConfigError, match=f"{reason}.*ViT-B-16"):
        remake(**setting)


def test_foreign_module_is_refused() -> None:
    """Anything but open_clip's ViT is named."""
    with pytest.raises(ConfigError, match="it is a Linear"):
        DenseViT(torch.nn.Linear(1, 1))


_MODELS: list[open_clip.CLIP] = []


def _shared_model() -> open_clip.CLIP:
    """One model for all examples of a property (Hypothesis rejects function-scoped fixtures)."""
    if not _MODELS:
        vision = {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 2}
        text = {"context_length": 8, "vocab_size": 600, "width": 16, "heads": 1, "layers": 1}
        _MODELS.append(open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=text).eval())
    return _MODELS[0]
