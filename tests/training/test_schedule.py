"""Learning rates over time and over parameters."""

from collections.abc import Callable
from typing import Any

import pytest

from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.training.schedule import learning_rate, parameter_groups


def test_warm_up_is_linear_and_the_end_is_zero() -> None:
    """Half the peak in the middle of the warm-up, the peak after it, nothing at the end."""
    rates = [learning_rate(s, peak=2.0, warmup_steps=4, total_steps=20) for s in range(21)]
    assert rates[1] == pytest.approx(1.0)
    assert rates[3] == rates[4] == pytest.approx(2.0)
    assert rates[12] == pytest.approx(1.0)
    assert rates[20] == pytest.approx(0.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_gains_biases_and_positions_are_not_decayed(tiny_clip: ClipModel) -> None:
    """CLIP's rule: only matrices decay."""
    named = dict(tiny_clip.model.named_parameters())
    groups = parameter_groups(named.items(), weight_decay=0.3)
    kept = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    free = {name for name, p in named.items() if id(p) in kept}
    assert {"visual.class_embedding", "visual.positional_embedding", "logit_scale"} <= free
    assert not any(name.endswith("proj.weight") for name in free)
    assert all(named[n].ndim <= 1 or n.endswith("positional_embedding") for n in free)


def test_layer_decay_slows_blocks_by_their_depth(tiny_clip: ClipModel) -> None:
    """The stem is slower than the first block, which is slower than the last; the rest is not."""
    named = dict(tiny_clip.model.named_parameters())
    groups = parameter_groups(named.items(), weight_decay=0.1, layer_decay=0.5)
    scales = {id(p): g["scale"] for g in groups for p in g["params"]}
    assert scales[id(named["visual.conv1.weight"])] == 0.125
    assert scales[id(named["visual.transformer.resblocks.0.ln_1.weight"])] == 0.25
    assert scales[id(named["visual.transformer.resblocks.1.ln_1.weight"])] == 0.5
    assert scales[id(named["visual.proj"])] == scales[id(named["text_projection"])] == 1.0


def test_frozen_parameters_are_left_out(tiny_clip: ClipModel) -> None:
    """Each trainable parameter is in one group, the others in none."""
    tiny_clip.model.visual.requires_grad_(False)
    groups = parameter_groups(tiny_clip.model.named_parameters(), weight_decay=0.1)
    listed = [id(p) for g in groups for p in g["params"]]
    assert sorted(listed) == sorted(id(p) for p in tiny_clip.model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("family", "tokens"),
    [("eva", {"pos_embed", "cls_token"}), ("siglip", {"pos_embed", "attn_pool.latent"})],
)
def test_towers_of_timm_follow_the_same_rules(
    family_config: Callable[[str], dict[str, Any]], family: str, tokens: set[str]
) -> None:
    """Matrices alone decay, though tokens have three axes; blocks are slower further in front."""
    model = build_model({"model_cfg": family_config(family), "preprocess_cfg": {}})
    named = dict(model.named_parameters())
    groups = parameter_groups(named.items(), weight_decay=0.1, layer_decay=0.5)
    facts = {id(p): (g["weight_decay"], g["scale"]) for g in groups for p in g["params"]}
    kept = {name for name, p in named.items() if p.ndim > 1 and facts[id(p)][0] == 0}
    assert kept == {f"visual.trunk.{name}" for name in tokens} | {"text.positional_embedding"}
    scales = {name.removeprefix("visual.trunk."): facts[id(p)][1] for name, p in named.items()}
    assert scales["patch_embed.proj.weight"] == scales["pos_embed"] == 0.5**4
    assert [scales[f"blocks.{i}.norm1.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert scales["text.token_embedding.weight"] == 1.0
    assert scales["norm.weight"] == 1.0
