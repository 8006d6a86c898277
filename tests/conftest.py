"""Shared fixtures."""

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests out of the user's cache; commands run as processes inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("ATAS_DEPLOY_CACHE")
    os.environ["ATAS_DEPLOY_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["ATAS_DEPLOY_CACHE"]
    else:
        os.environ["ATAS_DEPLOY_CACHE"] = before


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of development data; skips where it is missing."""
    path = Path(os.environ.get("ATAS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"development data not found at {path}; set ATAS_SHARED_DATA to its folder")
    return path


NARROW_TEXT = {"context_length": 16, "vocab_size": 814, "width": 32, "heads": 2, "layers": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "native": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 64,
            "patch_size": 16,
            "width": 32,
            "head_width": 16,
            "layers": 3,
        },
        "text_cfg": NARROW_TEXT,
    },
    "eva": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "eva02_narrow_patch16_clip_64",
            "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": NARROW_TEXT,
    },
    "siglip": {
        "embed_dim": 32,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "vit_narrow_patch16_siglip_64",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": NARROW_TEXT
        | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        | {"norm_kwargs": {"eps": 1e-6}, "vocab_size": 600},
    },
}


@pytest.fixture(scope="session")
def family_config() -> Callable[[str], dict[str, Any]]:
    """Narrow models of the families "native", "eva" and "siglip": name -> `model_cfg`."""
    from timm.models import register_model
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    common = {"img_size": 64, "patch_size": 16, "depth": 3, "num_heads": 2}

    def eva02_narrow_patch16_clip_64(*, global_pool: str, num_classes: int, **_: Any) -> Eva:
        return Eva(
            **common,
            embed_dim=48,
            mlp_ratio=8 / 3,
            qkv_fused=False,
            swiglu_mlp=True,
            scale_mlp=True,
            scale_attn_inner=True,
            use_rot_pos_emb=True,
            ref_feat_shape=(16, 16),
            global_pool=global_pool,
            num_classes=num_classes,
        )

    def vit_narrow_patch16_siglip_64(
        *, global_pool: str, num_classes: int, **_: Any
    ) -> VisionTransformer:
        return VisionTransformer(
            **common,
            embed_dim=32,
            class_token=False,
            global_pool=global_pool,
            num_classes=num_classes,
        )

    register_model(eva02_narrow_patch16_clip_64)
    register_model(vit_narrow_patch16_siglip_64)
    return lambda family: deepcopy(FAMILIES[family])
