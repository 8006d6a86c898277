"""A CLIP model in PyTorch: building it, filling it, and what belongs to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from atas_deploy.clip.text import OpenClip, check_text_tower
from atas_deploy.clip.vit import check_tower
from atas_deploy.core.bundle import MODEL_CONFIG
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.core.tokenizer import ClipTokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipModel:
    """An open_clip model with everything needed to use it.

    Attributes:
        model: open_clip `CLIP` or `CustomTextCLIP`, float32, in eval mode, on the CPU.
        config: content of open_clip_config.json: `model_cfg`, `preprocess_cfg`.
        name: short name.
        merges: the tokenizer's merges file.
        record: what is known about the weights: `architecture`, `readout`, `license`,
            `short_side`, `provenance`, each optional.
        folder: where it was loaded from; None for an open_clip name.
    """

    model: OpenClip
    config: Mapping[str, Any]
    name: str
    merges: Path
    record: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def mean(self) -> tuple[float, float, float]:
        """Pixel mean, RGB in [0, 1]."""
        r, g, b = self.config["preprocess_cfg"]["mean"]
        return float(r), float(g), float(b)

    @property
    def std(self) -> tuple[float, float, float]:
        """Pixel standard deviation, RGB in [0, 1]."""
        r, g, b = self.config["preprocess_cfg"]["std"]
        return float(r), float(g), float(b)

    @property
    def architecture(self) -> str:
        """open_clip's name of the architecture, or a description of the image tower."""
        vision = self.config["model_cfg"]["vision_cfg"]
        shape = f"ViT-{vision['layers']}x{vision['width']}/{vision['patch_size']}"
        return str(self.record.get("architecture", shape))

    def tokenizer(self) -> ClipTokenizer:
        """The model's tokenizer."""
        length = self.config["model_cfg"]["text_cfg"].get("context_length", 77)
        return ClipTokenizer.from_file(self.merges, context_length=length)


def build_model(config: Mapping[str, Any]) -> OpenClip:
    """Build an open_clip model with random weights, in eval mode.

    Args:
        config: content of open_clip_config.json.

    Raises:
        ConfigError: the architecture is not supported or the configuration is not open_clip's.
    """
    model_cfg = dict(config["model_cfg"])
    _refuse_foreign_parts(model_cfg)
    kind = open_clip.CustomTextCLIP if model_cfg.pop("custom_text", False) else open_clip.CLIP
    try:
        model: OpenClip = kind(**model_cfg)
    except (TypeError, AssertionError, ValueError, RuntimeError) as exc:
        raise ConfigError(
            f"open_clip cannot build a model from this configuration ({exc}); check {MODEL_CONFIG}."
        ) from exc
    check_tower(model.visual)
    check_text_tower(getattr(model, "text", model))
    model.eval()
    return model


def load_state(model: OpenClip, state: Mapping[str, Tensor], *, where: str | Path) -> None:
    """Copy weights of any float type into a model; every tensor must be there and fit.

    Args:
        model: the model to fill.
        state: tensors by name.
        where: the file they come from, for messages.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape or not finite.
    """
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - expected.keys()]
    problems += [
        f"{name} has shape {list(state[name].shape)}, expected {list(expected[name].shape)}"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"The weights {where} do not fit the model: {len(problems)} tensors differ, such as "
            f"{min(problems)}; check that they belong to this configuration."
        )
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"The weights {where} hold NaN or infinity in {len(broken)} tensors, such as "
            f"{min(broken)}; use a checkpoint from before training diverged."
        )
    model.load_state_dict(dict(state))


def with_checked_tokenizer(loaded: ClipModel) -> ClipModel:
    """Return the model if its tokenizer knows as many tokens as its text tower.

    Raises:
        CheckpointError: it knows more or fewer.
    """
    known, expected = loaded.tokenizer().vocab_size, loaded.model.vocab_size
    if known != expected:
        raise CheckpointError(
            f"The tokenizer {loaded.merges} has {known} tokens, but the text tower has {expected}; "
            "use the tokenizer that the model was trained with."
        )
    return loaded


def with_preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose `preprocess_cfg` holds what matters, CLIP's own values by default."""
    clip = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    given = config.get("preprocess_cfg", {})
    return {**config, "preprocess_cfg": {key: given.get(key, clip[key]) for key in clip}}


def _refuse_foreign_parts(model_cfg: Mapping[str, Any]) -> None:
    """Raise ConfigError if a tower or the tokenizer comes from another library."""
    vision, text = model_cfg.get("vision_cfg", {}), model_cfg.get("text_cfg", {})
    part = None
    if "timm_model_name" in vision or isinstance(vision.get("layers"), list):
        part = "image tower is not open_clip's own ViT"
    elif "hf_model_name" in text or "hf_tokenizer_name" in text:
        part = "text tower or tokenizer is not CLIP's own"
    elif "multimodal_cfg" in model_cfg:
        part = "text tower writes captions (CoCa)"
    if part:
        raise ConfigError(f"This model is not supported: its {part}; use one such as ViT-B-16.")
