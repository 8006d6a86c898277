"""Counted operations, against the sum written out."""

import json
from pathlib import Path

import pytest

from atas_deploy.bench.flops import count_flops
from atas_deploy.core.bundle import MODEL_CONFIG, Bundle
from atas_deploy.core.errors import BundleError
from atas_deploy.models import open_model


def expected(size: tuple[int, int]) -> int:
    """The operations of atas-tiny, which reads its last block by sclip."""
    bundle = open_model("atas-tiny")
    config = json.loads((bundle.path / MODEL_CONFIG).read_text())["model_cfg"]
    tower, embed = config["vision_cfg"], config["embed_dim"]
    width, depth, patch = tower["width"], tower["layers"], tower["patch_size"]
    patches = size[0] // patch * (size[1] // patch)
    tokens = patches + 1
    embedding = 2 * patches * 3 * patch**2 * width
    products = 2 * tokens * width**2 * (3 + 1 + 4 + 4)  # q k v, output, both halves of the MLP
    attention = 2 * 2 * tokens**2 * width
    return embedding + depth * products + (depth - 1) * attention + 2 * patches * width * embed


def test_count_is_that_of_the_architecture() -> None:
    """All but the last attention and the class token are as written; those are a tenth at most."""
    size = (64, 96)
    (counted,) = count_flops(open_model("atas-tiny"), [size])
    assert open_model("atas-tiny").manifest.readout == "sclip"
    assert expected(size) < counted < 1.1 * expected(size)


def test_four_times_the_pixels_are_more_than_four_times_the_work() -> None:
    """Attention grows with the square of the patches."""
    small, large = count_flops(open_model("atas-tiny"), [(128, 128), (256, 256)])
    assert 4 * small < large < 16 * small


def test_a_bundle_without_configuration_says_so(tmp_path: Path) -> None:
    """One sentence, with the cure."""
    bundle = Bundle(tmp_path, open_model("atas-tiny").manifest)
    with pytest.raises(BundleError, match="cannot be counted: it has no readable open_clip_config"):
        count_flops(bundle, [(64, 64)])
