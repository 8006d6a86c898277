"""The dense image tower against open_clip's own."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.eva import EvaBlockPostNorm
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from atas_deploy.clip import vit
from atas_deploy.clip.attention import run_block
from atas_deploy.clip.blocks import as_block
from atas_deploy.clip.positions import resize_positions, rotary_positions
from atas_deploy.clip.readouts import READOUTS
from atas_deploy.clip.towers import embed_patches
from atas_deploy.clip.vit import DenseViT
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


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
@pytest.mark.parametrize("readout", ["vanilla", "naclip"])
def test_image_embedding_equals_encode_image(
    family_model: Callable[[str], Any], family: str, readout: str
) -> None:
    """The image embedding of every family is open_clip's."""
    model = family_model(family)
    pixels = torch.randn((3, 3, 64, 64))
    _, image = DenseViT(model.visual, readout)(pixels)
    expected = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["eva", "siglip"])
@pytest.mark.parametrize("size", [(32, 32), (48, 128), (112, 64)])
def test_timm_towers_at_another_size(
    family_model: Callable[[str], Any], family: str, size: tuple[int, int]
) -> None:
    """At another size they equal a timm tower of that size with the same positions."""
    model, pixels = family_model(family), torch.randn((2, 3, *size))
    _, image = DenseViT(model.visual)(pixels)
    trunk, grid = model.visual.trunk, (size[0] // 16, size[1] // 16)
    prefix, table = trunk.pos_embed[:, :-16], trunk.pos_embed[:, -16:]
    table = table.reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    table = F.interpolate(table, grid, mode="bicubic").flatten(2).transpose(1, 2)
    trunk.set_input_size(size)
    trunk.pos_embed = torch.nn.Parameter(torch.cat([prefix, table], dim=1))
    expected = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
@pytest.mark.parametrize("readout", READOUTS)
def test_a_window_of_the_whole_grid_is_full_attention(
    family_model: Callable[[str], Any], family: str, readout: str
) -> None:
    """With one window, window attention changes nothing."""
    visual, pixels = family_model(family).visual, torch.randn((2, 3, 64, 64))
    expected = DenseViT(visual, readout)(pixels)
    got = DenseViT(visual, readout, attention_window=4)(pixels)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_windows_replicate_and_average_the_class_token(plain_model: open_clip.CLIP) -> None:
    """Each block sees one window with its own class token; their mean goes on."""
    visual = plain_model.visual.double()
    pixels = torch.randn((1, 3, 64, 96), dtype=torch.float64)
    tower = DenseViT(visual, "vanilla", attention_window=2)
    tokens, (rows, columns) = tower.embed(pixels)
    class_token, patches = tokens[:, :1], tokens[:, 1:].reshape(1, rows, columns, -1)
    for block in visual.transformer.resblocks:
        means, next_patches = [], torch.empty_like(patches)
        for y in range(0, rows, 2):
            for x in range(0, columns, 2):
                window = patches[:, y : y + 2, x : x + 2].flatten(1, 2)
                out = block(torch.cat([class_token, window], dim=1))
                means.append(out[:, :1])
                next_patches[:, y : y + 2, x : x + 2] = out[:, 1:].reshape(1, 2, 2, -1)
        class_token, patches = torch.stack(means).mean(dim=0), next_patches
    dense, image = tower(pixels)
    expected = F.normalize(visual.ln_post(patches) @ visual.proj, dim=-1)
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-9)
    expected = F.normalize(visual.ln_post(class_token[:, 0]) @ visual.proj, dim=-1)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-9)


def test_windows_of_eva_keep_their_places(family_model: Callable[[str], Any]) -> None:
    """In a window the patches keep the rotary positions that they have in the whole grid."""
    visual = family_model("eva").double().visual
    trunk, pixels = visual.trunk, torch.randn((2, 3, 64, 64), dtype=torch.float64)
    angles = rotary_positions(
        (4, 4), pixels, reference=(16, 16), width=trunk.rope.dim, temperature=10_000
    )
    tokens, rope = trunk._pos_embed(trunk.patch_embed(pixels))
    own = torch.cat([angles.sin, angles.cos], dim=1)
    torch.testing.assert_close(own, rope, rtol=0, atol=1e-6)  # made in float32
    class_token = tokens[:, :1]
    patches, places = tokens[:, 1:].reshape(2, 4, 4, -1), own.reshape(4, 4, -1)
    for block in trunk.blocks:
        means, next_patches = [], torch.empty_like(patches)
        for y in (slice(0, 2), slice(2, 4)):
            for x in (slice(0, 2), slice(2, 4)):
                window = torch.cat([class_token, patches[:, y, x].flatten(1, 2)], dim=1)
                out = block(window, rope=places[y, x].flatten(0, 1))
                means.append(out[:, :1])
                next_patches[:, y, x] = out[:, 1:].reshape(2, 2, 2, -1)
        class_token, patches = torch.stack(means).mean(dim=0), next_patches
    dense, image = DenseViT(visual, "vanilla", attention_window=2)(pixels)
    expected = F.normalize(trunk.head(trunk.norm(patches)), dim=-1)
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-9)
    expected = F.normalize(trunk.head(trunk.norm(class_token[:, 0])), dim=-1)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-9)


def test_norms_behind_attention_and_mlp() -> None:
    """The blocks of EVA02-E, with their norms behind, are read as they compute."""
    torch.manual_seed(0)
    block = EvaBlockPostNorm(32, 2, scale_attn_inner=True, swiglu_mlp=True).eval()
    tokens = torch.randn(2, 7, 32)
    read = as_block(block)
    assert read is not None
    torch.testing.assert_close(run_block(read, tokens), block(tokens))


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_gradient_checkpointing_is_kept(
    family_model: Callable[[str], Any], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tower's own switch makes training recompute blocks, with the same gradients."""
    visual, pixels = family_model(family).visual, torch.randn(1, 3, 64, 64)
    calls = []
    monkeypatch.setattr(
        vit, "checkpoint", lambda f, *a, **k: calls.append(f) or checkpoint(f, *a, **k)
    )
    gradients = []
    for switched in (False, True):
        visual.set_grad_checkpointing(switched)
        visual.zero_grad()
        DenseViT(visual, "maskclip").train()(pixels)[0][..., 0].sum().backward()
        gradients.append([p.grad.clone() for p in visual.parameters() if p.grad is not None])
    assert len(calls) == 2
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
@pytest.mark.parametrize("readout", ["vanilla", "naclip"])
def test_half_precision_stays_close(
    family_model: Callable[[str], Any], family: str, readout: str
) -> None:
    """In bfloat16, and under autocast, features come in float32 of unit length, and near."""
    visual, pixels = family_model(family).visual, torch.randn((1, 3, 64, 96))
    tower = DenseViT(visual, readout)
    with torch.inference_mode():
        expected = tower(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = tower(pixels)
        half = tower.bfloat16()(pixels.bfloat16())
    for outputs in (automatic, half):
        for got, wanted in zip(outputs, expected, strict=True):
            assert got.dtype == torch.float32
            torch.testing.assert_close(got.norm(dim=-1), torch.ones(got.shape[:-1]))
            assert F.cosine_similarity(got, wanted, dim=-1).min() > 0.99


@pytest.mark.parametrize("family", ["native", "eva", "siglip"])
def test_a_smaller_stride_gives_a_finer_grid(
    family_model: Callable[[str], Any], family: str
) -> None:
    """Half the stride gives twice the rows and columns, each a unit vector."""
    dense, image = DenseViT(family_model(family).visual, stride=8)(torch.randn(2, 3, 64, 80))
    assert dense.shape[:3] == (2, 8, 10)
    torch.testing.assert_close(dense.norm(dim=-1), torch.ones(2, 8, 10))
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("stride", [4, 6, 15])
def test_a_strided_patch_is_centred_on_its_cell(plain_model: open_clip.CLIP, stride: int) -> None:
    """Patch (i, j) covers the 16 pixels around ((i + 0.5) S, (j + 0.5) S), the edge repeated."""
    tower = DenseViT(plain_model.visual, stride=stride)
    pixels = torch.randn((1, 3, 8 * stride, 9 * stride))
    patches, grid = embed_patches(tower.tower, pixels, stride)
    assert grid == (8, 9)
    before = (16 - stride) // 2
    rows = (torch.arange(16) + 5 * stride - before).clamp(0, 8 * stride - 1)
    columns = (torch.arange(16) + 8 * stride - before).clamp(0, 9 * stride - 1)
    expected = plain_model.visual.conv1(pixels[:, :, rows][..., columns])
    torch.testing.assert_close(patches[0, 5 * 9 + 8], expected[0, :, 0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "stride is 0 pixels; expected 1 to the patch size, 16"),
        ({"stride": 17}, "stride is 17"),
        ({"attention_window": 0}, "attention window is 0 cells"),
    ],
)
def test_impossible_settings_are_refused(
    plain_model: open_clip.CLIP, arguments: dict[str, int], message: str
) -> None:
    """Each message tells what was got and what fits."""
    with pytest.raises(ConfigError, match=message):
        DenseViT(plain_model.visual, **arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_positions_of_the_trained_grid_stay(dtype: torch.dtype) -> None:
    """Resizing to the trained grid changes no bit."""
    positions = torch.randn((1 + 5 * 7, 8)).to(dtype)
    resized = resize_positions(positions, trained=(5, 7), grid=(5, 7))
    assert torch.equal(resized, positions)
    assert resized.dtype == dtype


def test_positions_are_resized_bicubically() -> None:
    """Two small products give what interpolating the table itself gives."""
    positions = torch.randn((2 + 5 * 4, 8))
    table = positions[2:].T.reshape(1, 8, 5, 4)
    expected = F.interpolate(table, size=(7, 3), mode="bicubic", align_corners=False)
    resized = resize_positions(positions, trained=(5, 4), grid=(7, 3))
    assert torch.equal(resized[:2], positions[:2])
    torch.testing.assert_close(resized[2:], expected[0].flatten(1).T, rtol=0, atol=2e-6)


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
    readout=st.sampled_from(list(READOUTS)),
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


@pytest.mark.parametrize("family", ["eva", "siglip"])
def test_timm_towers_are_trained_through_it(
    family_model: Callable[[str], Any], family: str
) -> None:
    """Gradients of both outputs reach every weight of the tower."""
    visual = family_model(family).visual
    dense, image = DenseViT(visual, "sclip")(torch.randn(1, 3, 64, 64))
    (dense[..., 0].sum() + image[..., 0].sum()).backward()
    assert all(parameter.grad is not None for parameter in visual.parameters())


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
