"""A CLIP model in PyTorch: building it, filling it, and what belongs to it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from atas_deploy.clip.text import OpenClip, TextEncoder, check_text_tower
from atas_deploy.clip.towers import open_tower
from atas_deploy.core.bundle import HF_SETTINGS, HF_TOKENIZER, MERGES, MODEL_CONFIG
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.core.files import atomic_path, output_error
from atas_deploy.core.hf_tokenizer import HfTokenizer, Tokenizer, find_settings
from atas_deploy.core.tokenizer import ClipTokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipModel:
    """An open_clip model with everything needed to use it.

    Attributes:
        model: open_clip `CLIP` or `CustomTextCLIP`, float32, in eval mode, on the CPU.
        config: content of open_clip_config.json: `model_cfg`, `preprocess_cfg`.
        name: short name.
        tokenizer_file: CLIP's merges, or a tokenizer.json.
        record: what is known about the weights: `architecture`, `readout`, `license`,
            `short_side`, `provenance`, each optional.
        folder: where it was loaded from; None for an open_clip name.
    """

    model: OpenClip
    config: Mapping[str, Any]
    name: str
    tokenizer_file: Path
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
        if "architecture" in self.record:
            return str(self.record["architecture"])
        if vision.get("timm_model_name"):
            return str(vision["timm_model_name"])
        tower = CLIPVisionCfg(**vision)
        return f"ViT-{tower.layers}x{tower.width}/{tower.patch_size}"

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            BundleError: its file is missing or damaged.
            ConfigError: its settings are not supported.
            BackendUnavailableError: it needs a package that is not installed.
        """
        text = self.config["model_cfg"]["text_cfg"]
        length = int(text.get("context_length", CLIPTextCfg.context_length))
        if self.tokenizer_file.suffix == ".json":
            settings = find_settings(self.tokenizer_file, text.get("tokenizer_kwargs") or {})
            return HfTokenizer(self.tokenizer_file, settings, context_length=length)
        full = TextEncoder(self.model).full_rows
        return ClipTokenizer.from_file(self.tokenizer_file, context_length=length, full_rows=full)

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files into a model folder or bundle, each file whole.

        Raises:
            OutputError: a file cannot be written.
        """
        tokenizer, foreign = self.tokenizer(), self.tokenizer_file.suffix == ".json"
        target = folder / (HF_TOKENIZER if foreign else MERGES)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise output_error(target.parent, exc) from exc
        if self.tokenizer_file.resolve() != target.resolve():
            with atomic_path(target) as part:
                shutil.copyfile(self.tokenizer_file, part)
        if isinstance(tokenizer, HfTokenizer):
            with atomic_path(folder / HF_SETTINGS) as part:
                part.write_text(tokenizer.settings.to_json(), encoding="utf-8")


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
    except Exception as exc:  # settings of the wrong kind fail in many ways
        raise ConfigError(
            f"open_clip cannot build a model from this configuration ({exc}); check {MODEL_CONFIG}."
        ) from exc
    open_tower(model.visual)
    check_text_tower(getattr(model, "text", model))
    model.eval()
    return model


def with_checked_tokenizer(loaded: ClipModel) -> ClipModel:
    """Return the model if its tokenizer and its text tower know each other's tokens.

    CLIP's tokenizer must have as many tokens as the tower has embeddings. Another one may have
    fewer, as towers are padded to round numbers, but not fewer than half: that is another model's.

    Raises:
        CheckpointError: they do not.
    """
    tokenizer, rows = loaded.tokenizer(), loaded.model.vocab_size
    known = tokenizer.vocab_size
    fewest = rows if isinstance(tokenizer, ClipTokenizer) else rows // 2
    if not fewest <= known <= rows:
        raise CheckpointError(
            f"The tokenizer {loaded.tokenizer_file} has {known} tokens, but the text tower has "
            f"{rows}; use the tokenizer that the model was trained with."
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
    """Raise ConfigError if a tower or the tokenizer is of a kind that open_clip has no ViT for."""
    vision, text = model_cfg.get("vision_cfg", {}), model_cfg.get("text_cfg", {})
    options = {} if text.get("hf_tokenizer_name") else text.get("tokenizer_kwargs") or {}
    part = None
    if isinstance(vision.get("layers"), list):
        part = "image tower is a ResNet, not a ViT"
    elif text.get("hf_model_name"):
        part = "text tower comes from Hugging Face transformers"
    elif "multimodal_cfg" in model_cfg:
        part = "text tower writes captions (CoCa)"
    elif text.get("tokenizer_mode"):
        part = f"tokenizer works in the mode {text['tokenizer_mode']!r}"
    elif not isinstance(text.get("tokenizer_kwargs") or {}, dict):
        part = "tokenizer_kwargs are no table"
    elif options.get("clean", "lower") != "lower" or options.keys() - {"clean"}:
        part = "tokenizer changes CLIP's own settings"
    if part:
        raise ConfigError(
            f"This model is not supported: its {part}; use one such as ViT-B-16/openai."
        )
