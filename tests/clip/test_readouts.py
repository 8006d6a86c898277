"""Read-outs of the last block against their formulas, written out head by head in float64."""

import open_clip
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from atas_deploy.clip.readouts import READOUTS
from atas_deploy.clip.vit import DenseViT


def vanilla(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Trained attention of one head; all arguments (T, E)."""
    return torch.softmax(q @ k.T / q.shape[1] ** 0.5, dim=1) @ v


def maskclip(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Identity attention."""
    return torch.eye(len(q), dtype=q.dtype) @ v


def sclip(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Correlative self-attention."""
    scale = q.shape[1] ** -0.5
    return (torch.softmax(q @ q.T * scale, 1) + torch.softmax(k @ k.T * scale, 1)) @ v


FORMULAS = {"vanilla": vanilla, "maskclip": maskclip, "sclip": sclip}


def written_out(model: open_clip.CLIP, pixels: Tensor, readout: str) -> Tensor:
    """Dense features (h * w, D) of one image (1, 3, H, W) at the trained size."""
    visual = model.visual
    x = visual._embeds(pixels)
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    last, x = visual.transformer.resblocks[-1], x[0]
    heads = []
    weights = last.attn.in_proj_weight.chunk(3)
    biases = last.attn.in_proj_bias.chunk(3)
    q, k, v = (last.ln_1(x) @ w.T + b for w, b in zip(weights, biases, strict=True))
    for part in range(last.attn.num_heads):
        mine = slice(part * last.attn.head_dim, (part + 1) * last.attn.head_dim)
        heads.append(FORMULAS[readout](q[:, mine], k[:, mine], v[:, mine]))
    mixed = torch.cat(heads, 1) @ last.attn.out_proj.weight.T + last.attn.out_proj.bias
    x = x + last.ls_1(mixed)
    x = x + last.ls_2(last.mlp(last.ln_2(x)))
    features = visual.ln_post(x[1:]) @ visual.proj
    return features / features.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("readout", READOUTS)
def test_dense_features_equal_the_formula(model: open_clip.CLIP, readout: str) -> None:
    """Each read-out computes its formula on each kind of tower."""
    model = model.double()
    pixels = torch.randn((2, 3, *model.visual.image_size), dtype=torch.float64)
    dense, _ = DenseViT(model.visual, readout)(pixels)
    for image, got in zip(pixels, dense, strict=True):
        expected = written_out(model, image[None], readout)
        torch.testing.assert_close(got.flatten(0, 1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("readout", READOUTS)
def test_class_token_does_not_depend_on_the_readout(
    plain_model: open_clip.CLIP, readout: str
) -> None:
    """Every read-out leaves the class token as CLIP computes it, at any size."""
    pixels = torch.randn((1, 3, 32, 80))
    _, image = DenseViT(plain_model.visual, readout)(pixels)
    _, expected = DenseViT(plain_model.visual, "vanilla")(pixels)
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
