"""Shared fixtures."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

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


@pytest.fixture(scope="session")
def cupy_model() -> ModuleType:
    """The module `cupy_model.py` beside this file, on `cuda_model.py`."""
    _load("cuda_model")
    return _load("cupy_model")


@pytest.fixture(scope="session")
def kernel_model(cupy_model: ModuleType) -> ModuleType:
    """The module `kernel_model.py`, on the other one."""
    return _load("kernel_model")


def _load(name: str) -> ModuleType:
    """Import a file beside this one, as what is shared by tests of several folders."""
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cuda(cupy_model: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """GPUs with CuPy, on a model of CUDA; at the end nothing may have been wrong."""
    with cupy_model.gpus(monkeypatch) as cuda:
        yield cuda


Segments = list[tuple[int, int, bool]]


@pytest.fixture(scope="session")
def write_panoptic() -> Callable[..., Path]:
    """Write a COCO panoptic data set with its pictures, each segment in a colour of its own.

    The function takes a folder, the categories, name and whether it is a thing, and for each
    picture the numbers of its segments (H, W), 0 = void, and of each segment its number, category
    and whether it is a crowd. It returns the JSON file; PNGs lie beside it in `panoptic/`, pictures
    in `images/`.
    """

    def write(
        folder: Path,
        categories: list[tuple[str, bool]],
        pictures: dict[str, tuple[np.ndarray, Segments]],
    ) -> Path:
        for name in ("images", "panoptic"):
            (folder / name).mkdir(parents=True)
        images, annotations = [], []
        for index, (name, (ids, segments)) in enumerate(pictures.items()):
            rgb = np.stack([ids % 256, ids // 256, 0 * ids], axis=-1).astype(np.uint8)
            Image.fromarray(rgb).save(folder / "panoptic" / f"{name}.png")
            colours = np.random.default_rng(7).integers(0, 256, (1000, 3), np.uint8)
            Image.fromarray(colours[ids]).save(folder / "images" / f"{name}.png")
            height, width = ids.shape
            images.append(
                {"id": index, "file_name": f"{name}.png"} | {"height": height, "width": width}
            )
            rows = [{"id": n, "category_id": c, "iscrowd": int(crowd)} for n, c, crowd in segments]
            annotations.append(
                {"image_id": index, "file_name": f"{name}.png", "segments_info": rows}
            )
        listed = [{"id": i, "name": n, "isthing": int(t)} for i, (n, t) in enumerate(categories)]
        content = {"images": images, "annotations": annotations, "categories": listed}
        (folder / "panoptic.json").write_text(json.dumps(content))
        return folder / "panoptic.json"

    return write


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


def write_t5(folder: Path) -> Path:
    """A Unigram tokenizer as SigLIP's: an end token behind each text, which pads it too."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁a", -1.0), ("▁dog", -2.0)]
    pieces += [("▁", -3.0), ("d", -5.0), ("o", -5.0), ("g", -5.0), ("s", -5.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    notes = {"pad_token": {"content": "</s>"}, "eos_token": "</s>", "model_max_length": 64}
    return _write_tokenizer(folder, tokenizer, notes)


def write_gemma(folder: Path) -> Path:
    """A BPE with byte fallback as SigLIP 2's, which has a padding token."""
    from tokenizers import Tokenizer, models, normalizers, processors

    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", "a", "d", "o", "g", "do", "dog", "▁dog"]
    merges = [("d", "o"), ("do", "g"), ("▁", "dog")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.add_special_tokens(tokens[:4])
    notes = {"pad_token": "<pad>", "eos_token": "<eos>", "add_eos_token": True}
    return _write_tokenizer(folder, tokenizer, notes)


def _write_tokenizer(folder: Path, tokenizer: Any, notes: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(notes))
    return folder / "tokenizer.json"


@pytest.fixture(scope="session")
def write_tokenizer() -> dict[str, Callable[[Path], Path]]:
    """Functions that write a synthetic tokenizer into a folder, by the family it is like."""
    return {"t5": write_t5, "gemma": write_gemma}
