"""Read-outs of the last block against their formulas, written out head by head in float64."""

import math
from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from atas_deploy.clip.readouts import READOUTS
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core import readouts

Grid = tuple[int, int]


def test_all_names_are_read_outs() -> None:
    """What the torch-free side offers is what there is, in that order."""
    assert tuple(READOUTS) == readouts.READOUTS


def softmax(q: Tensor, k: Tensor) -> Tensor:
    """Attention weights of one head, (T, E), (T, E) -> (T, T)."""
    return torch.softmax(q @ k.T / math.sqrt(q.shape[1]), dim=1)


def gaussian(grid: Grid, tokens: int) -> Tensor:
    """NACLIP's neighbourhood, patch by patch; 0 where the class token is concerned."""
    first = tokens - grid[0] * grid[1]
    omega = torch.zeros((tokens, tokens), dtype=torch.float64)
    places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    for i, (y, x) in enumerate(places, first):
        for j, (v, u) in enumerate(places, first):
            omega[i, j] = math.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * 5.0**2))
    return omega


def weights(readout: str, q: Tensor, k: Tensor, grid: Grid) -> Tensor:
    """What the values of one head are mixed with, (T, T)."""
    if readout == "maskclip":
        return torch.eye(len(q), dtype=q.dtype)
    if readout == "sclip":
        return softmax(q, q) + softmax(k, k)
    if readout == "clearclip":
        return softmax(q, q)
    if readout == "naclip":
        return torch.softmax(k @ k.T / math.sqrt(k.shape[1]) + gaussian(grid, len(k)), dim=1)
    return softmax(q, k)


def mix(readout: str, heads: int, q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
    """All heads' mixed values side by side, (T, V)."""
    split = [part.chunk(heads, dim=1) for part in (q, k, v)]
    return torch.cat([weights(readout, a, b, grid) @ c for a, b, c in zip(*split, strict=True)], 1)


def positions(table: Tensor, trained: Grid, grid: Grid) -> Tensor:
    """Position embeddings of patches on another grid, (h * w, V)."""
    image = table.reshape(1, *trained, -1).permute(0, 3, 1, 2)
    return F.interpolate(image, grid, mode="bicubic")[0].flatten(1).T


def native(visual: Any, pixels: Tensor, readout: str) -> Tensor:
    """open_clip's own tower: features (h * w, V) in front of the final norm."""
    patches = visual.conv1(pixels)
    grid, table = patches.shape[2:], visual.positional_embedding
    x = torch.cat([visual.class_embedding[None], patches[0].flatten(1).T])
    x = x + torch.cat([table[:1], positions(table[1:], visual.grid_size, grid)])
    x = visual.ln_pre(x)
    for block in visual.transformer.resblocks[:-1]:
        x = block(x[None])[0]
    last = visual.transformer.resblocks[-1]
    rows = zip(last.attn.in_proj_weight.chunk(3), last.attn.in_proj_bias.chunk(3), strict=True)
    q, k, v = (last.ln_1(x) @ weight.T + bias for weight, bias in rows)
    update = last.ls_1(last.attn.out_proj(mix(readout, last.attn.num_heads, q, k, v, grid)))
    if readout in ("clearclip", "naclip"):
        return update[1:]
    x = x + update
    return (x + last.ls_2(last.mlp(last.ln_2(x))))[1:]


def turn(x: Tensor, grid: Grid, heads: int) -> Tensor:
    """EVA02's rotary positions for (1 + h * w, V), one pair of channels after the other."""
    turned, width = x.clone(), x.shape[1] // heads
    for token in range(1, len(x)):
        y, column = divmod(token - 1, grid[1])
        for channel in range(0, x.shape[1], 2):
            pair = channel % width // 2
            place = y * 16 / grid[0] if pair < width // 4 else column * 16 / grid[1]
            angle = place * 10_000 ** (-4 * (pair % (width // 4)) / width)
            a, b = x[token, channel], x[token, channel + 1]
            turned[token, channel] = a * math.cos(angle) - b * math.sin(angle)
            turned[token, channel + 1] = b * math.cos(angle) + a * math.sin(angle)
    return turned


def eva(visual: Any, pixels: Tensor, readout: str) -> Tensor:
    """EVA02 of timm: features (h * w, V) in front of the final norm."""
    trunk = visual.trunk
    patches = trunk.patch_embed.proj(pixels)
    grid, table = patches.shape[2:], trunk.pos_embed[0]
    x = torch.cat([trunk.cls_token[0], patches[0].flatten(1).T])
    x = x + torch.cat([table[:1], positions(table[1:], trunk.patch_embed.grid_size, grid)])
    for block in trunk.blocks:
        attn, heads, last = block.attn, block.attn.num_heads, block is trunk.blocks[-1]
        normed = block.norm1(x)
        q, k = (turn(project(normed), grid, heads) for project in (attn.q_proj, attn.k_proj))
        kind = readout if last else "vanilla"
        update = attn.proj(attn.norm(mix(kind, heads, q, k, attn.v_proj(normed), grid)))
        if last and readout in ("clearclip", "naclip"):
            return update[1:]
        x = x + update
        x = x + block.mlp(block.norm2(x))
    return x[1:]


def siglip(visual: Any, pixels: Tensor, readout: str) -> Tensor:
    """ViT of timm without class token: features (h * w, V) in front of the final norm."""
    trunk = visual.trunk
    patches = trunk.patch_embed.proj(pixels)
    grid = patches.shape[2:]
    x = patches[0].flatten(1).T
    x = x + positions(trunk.pos_embed[0], trunk.patch_embed.grid_size, grid)
    for block in trunk.blocks:
        last = block is trunk.blocks[-1]
        q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, dim=1)
        kind = readout if last else "vanilla"
        update = block.attn.proj(mix(kind, block.attn.num_heads, q, k, v, grid))
        if last and readout in ("clearclip", "naclip"):
            return update
        x = x + update
        x = x + block.mlp(block.norm2(x))
    return x


def embed(family: str, visual: Any, x: Tensor) -> Tensor:
    """Final norm and projection of patches, (N, V) -> (N, D), unit length."""
    if family == "native":
        x = visual.ln_post(x) @ visual.proj
    elif family == "eva":
        x = visual.trunk.head(visual.trunk.norm(x))
    else:
        pool, x = visual.trunk.attn_pool, visual.trunk.norm(x)
        value_weight, value_bias = pool.kv.weight.chunk(2)[1], pool.kv.bias.chunk(2)[1]
        x = pool.proj(x @ value_weight.T + value_bias)
        x = x + pool.mlp(pool.norm(x))
    return x / x.norm(dim=1, keepdim=True)


TOWERS = {"native": native, "eva": eva, "siglip": siglip}


@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
@pytest.mark.parametrize("family", TOWERS)
@pytest.mark.parametrize("readout", READOUTS)
def test_dense_features_equal_the_formula(
    family_model: Callable[[str], Any], family: str, readout: str, size: Grid
) -> None:
    """Each read-out computes its formula on each family, at the trained size and another."""
    visual = family_model(family).double().visual
    pixels = torch.randn((2, 3, *size), dtype=torch.float64)
    dense, _ = DenseViT(visual, readout)(pixels)
    for image, got in zip(pixels, dense, strict=True):
        expected = embed(family, visual, TOWERS[family](visual, image[None], readout))
        torch.testing.assert_close(got.flatten(0, 1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("readout", READOUTS)
def test_every_kind_of_native_tower_follows_the_formula(
    model: open_clip.CLIP, readout: str
) -> None:
    """Norms, activations, layer scales and grids of native towers are taken as they are."""
    visual = model.double().visual
    pixels = torch.randn((1, 3, *visual.image_size), dtype=torch.float64)
    dense, _ = DenseViT(visual, readout)(pixels)
    expected = embed("native", visual, native(visual, pixels, readout))
    torch.testing.assert_close(dense[0].flatten(0, 1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", TOWERS)
@pytest.mark.parametrize("readout", READOUTS)
def test_image_embedding_does_not_depend_on_the_readout(
    family_model: Callable[[str], Any], family: str, readout: str
) -> None:
    """Every read-out leaves the image embedding as CLIP computes it, at any size."""
    visual, pixels = family_model(family).visual, torch.randn((1, 3, 32, 80))
    _, image = DenseViT(visual, readout)(pixels)
    _, expected = DenseViT(visual, "vanilla")(pixels)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)


def test_value_path_costs_less_than_the_trained_block(plain_model: open_clip.CLIP) -> None:
    """The class token takes one query, not a second pass through the last block."""
    pixels = torch.randn((1, 3, 128, 128))
    flops = {}
    for readout in ("vanilla", "maskclip"):
        with FlopCounterMode(display=False) as counter:
            DenseViT(plain_model.visual, readout)(pixels)
        flops[readout] = counter.get_total_flops()
    assert flops["maskclip"] < flops["vanilla"]
