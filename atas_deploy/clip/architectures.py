"""Which of open_clip's architectures a checkpoint belongs to, told by names and shapes of tensors.

P patch size, V width of the image tower, D embedding width
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from atas_deploy.clip.checkpoints import adapt_state, load_state
from atas_deploy.clip.model import build_model
from atas_deploy.clip.text import OpenClip
from atas_deploy.core.errors import CheckpointError, ConfigError

_QUICK = "-quickgelu"
_FEW = 2  # differences that are told one by one
_NUMBERS = (
    "blocks in the image tower",
    "as width of the image tower",
    "as patch size",
    "blocks in the text tower",
    "as width of the text tower",
    "tokens",
    "as embedding width",
)


class Towers(NamedTuple):
    """What the tensors of a CLIP model tell about it.

    Attributes:
        native: whether the image tower is open_clip's own ViT, not one of timm.
        image: blocks, V and P of the image tower; None where they are not known.
        text: blocks and width of the text tower.
        tokens: size of the vocabulary.
        embed_dim: D.
    """

    native: bool
    image: tuple[int, int, int] | None
    text: tuple[int, int]
    tokens: int
    embed_dim: int

    def numbers(self) -> tuple[int, ...]:
        """In the order of `_NUMBERS`."""
        return *(self.image or (0, 0, 0)), *self.text, self.tokens, self.embed_dim

    def __str__(self) -> str:
        """One line for messages."""
        kind = "a ViT" if self.native else "a timm image tower"
        depth, width, patch = self.image or (0, 0, 0)
        size = f" of {depth} blocks, width {width} and patch {patch}" if self.image else ""
        text = f"a text tower of {self.text[0]} blocks, width {self.text[1]}"
        return f"{kind}{size}, {text} and {self.tokens} tokens, embedding width {self.embed_dim}"


def towers_of(state: Mapping[str, Tensor]) -> Towers | None:
    """What a state dict holds; None if it is no CLIP model that open_clip could have written."""
    text = "text." if "text.token_embedding.weight" in state else ""
    words = state.get(f"{text}token_embedding.weight")
    native = "visual.conv1.weight" in state
    patches = state.get("visual.conv1.weight", state.get("visual.trunk.patch_embed.proj.weight"))
    if words is None or words.ndim != 2 or patches is None or patches.ndim != 4:
        return None
    depth = _count(state, "visual.transformer.resblocks." if native else "visual.trunk.blocks.")
    if not depth:
        return None
    return Towers(
        native=native,
        image=(depth, patches.shape[0], patches.shape[-1]),
        text=(_count(state, f"{text}transformer.resblocks."), words.shape[1]),
        tokens=words.shape[0],
        embed_dim=_embed_dim(state, text, default=words.shape[1]),
    )


def fitting_architectures(state: Mapping[str, Tensor]) -> list[str]:
    """open_clip's names of supported architectures that a state dict fills, in any resolution.

    Those of the same resolution come alone if there are any. Only candidates of the right widths
    and depths are built, on the meta device.
    """
    towers = towers_of(state)
    if towers is None:
        return []
    fitting, exact = [], []
    for name in open_clip.list_models():
        config = {"model_cfg": open_clip.get_model_config(name)}
        if _expected_towers(config["model_cfg"]) not in (towers, towers._replace(image=None)):
            continue
        sized = with_sizes_of(config, state)
        if not any(_differences(sized, state)):
            fitting.append(name)
            exact += [name] if _sizes(sized) == _sizes(config) else []
    return exact or fitting


def with_sizes_of(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """A configuration with what belongs to a checkpoint and not to an architecture.

    These are the image size and the context length that its position embeddings are made for, which
    open_clip would resample instead, SigLIP's bias, and which of open_clip's two classes wrote it.
    """
    model_cfg = dict(config["model_cfg"])
    vision, text = dict(model_cfg["vision_cfg"]), dict(model_cfg["text_cfg"])
    if "text.token_embedding.weight" in state:
        model_cfg["custom_text"] = True
    if "logit_bias" in state:
        model_cfg.setdefault("init_logit_bias", 0.0)
    words = state.get("text.positional_embedding", state.get("positional_embedding"))
    if words is not None and words.ndim == 2 and not text.get("embed_cls"):
        text["context_length"] = words.shape[0]
    side = _image_side(state)
    size = vision.get("image_size", CLIPVisionCfg.image_size)
    if side and isinstance(size, int):
        patch = side[1]
        vision["image_size"] = size if size // patch == side[0] else side[0] * patch
    return {**config, "model_cfg": {**model_cfg, "vision_cfg": vision, "text_cfg": text}}


def fill_model(
    config: Mapping[str, Any], state: Mapping[str, Tensor], *, where: Path, asked: str
) -> OpenClip:
    """Build a model and fill it.

    Args:
        config: content of open_clip_config.json.
        state: the weights, from `read_state`.
        where: their file, for messages.
        asked: what the user calls the model, for messages.

    Raises:
        ConfigError: the model is not supported.
        CheckpointError: the weights belong to another model, are incomplete or not finite.
    """
    model = build_model(config)
    got, expected = towers_of(state), towers_of(model.state_dict())
    if got is None or got != expected:
        raise CheckpointError(
            f"The weights {where} do not fit {asked}: {_mismatch(state, got, expected)}; "
            f"{_advice(state, where)}."
        )
    load_state(model, adapt_state(model, state), where=where)
    return model


def describe(state: Mapping[str, Tensor]) -> str:
    """What a state dict holds, for messages."""
    towers = towers_of(state)
    if towers:
        return str(towers)
    if any(name.startswith("vision_model.") for name in state):
        return "a model of Hugging Face transformers"
    if "visual.layer1.0.conv1.weight" in state:
        return "a CLIP with a ResNet"
    return f"no CLIP model of open_clip's, with tensors such as {min(state)}"


def ways_to_write(names: list[str], path: Path) -> str:
    """How to name a checkpoint together with each of some architectures."""
    return " or ".join(f"{name}/{path}" for name in names)


def _mismatch(state: Mapping[str, Tensor], got: Towers | None, expected: Towers | None) -> str:
    """How the towers of a state dict differ from those expected: in a number or two, or in all."""
    if got is None or expected is None or got.native != expected.native:
        return f"they are {describe(state)}, but that is {expected}"
    pairs = zip(_NUMBERS, got.numbers(), expected.numbers(), strict=True)
    different = [f"{a} {name}, expected {b}" for name, a, b in pairs if a != b]
    if len(different) > _FEW:
        return f"they are {got}, but that is {expected}"
    return f"they have {' and '.join(different)}"


def _advice(state: Mapping[str, Tensor], where: Path) -> str:
    names = fitting_architectures(state)
    if names:
        return f"write {ways_to_write(names, where)}"
    return "give the checkpoint of an open_clip model"


def twin(architecture: str) -> str | None:
    """The architecture that only differs in its activation, if open_clip has a name for it."""
    other = architecture.removesuffix(_QUICK)
    other = other if other != architecture else architecture + _QUICK
    return other if other in open_clip.list_models() else None


def _image_side(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Patches a side and P that a checkpoint's position embeddings are made for, if square."""
    towers = towers_of(state)
    native = state.get("visual.positional_embedding")
    table = state.get("visual.trunk.pos_embed", native)
    if towers is None or towers.image is None or table is None:
        return None
    has_class = native is not None or "visual.trunk.cls_token" in state
    count = table.shape[-2] - has_class
    side = round(count**0.5)
    return (side, towers.image[2]) if side * side == count else None


def _sizes(config: Mapping[str, Any]) -> tuple[Any, int]:
    """Image size and context length of a configuration."""
    vision, text = config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"]
    return CLIPVisionCfg(**vision).image_size, CLIPTextCfg(**text).context_length


def _expected_towers(model_cfg: Mapping[str, Any]) -> Towers | None:
    """What the tensors of an architecture would tell; None if its towers are of another kind."""
    vision, text = dict(model_cfg["vision_cfg"]), model_cfg["text_cfg"]
    if isinstance(vision.get("layers"), list) or text.get("hf_model_name"):
        return None
    image, words = CLIPVisionCfg(**vision), CLIPTextCfg(**text)
    native = not image.timm_model_name
    return Towers(
        native=native,
        image=(int(str(image.layers)), image.width, image.patch_size) if native else None,
        text=(words.layers, words.width),
        tokens=words.vocab_size,
        embed_dim=int(model_cfg["embed_dim"]),
    )


def _differences(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Iterator[str]:
    """Names that only one of a model and a state dict has, or that differ in shape."""
    try:
        with torch.device("meta"):
            model = build_model(config)
    except ConfigError as exc:
        yield str(exc)
        return
    expected, found = model.state_dict(), adapt_state(model, state)
    yield from expected.keys() ^ found.keys()
    shared = expected.keys() & found.keys()
    yield from (name for name in shared if expected[name].shape != found[name].shape)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks have tensors below a prefix."""
    names = (name.removeprefix(prefix) for name in state if name.startswith(prefix))
    return len({name.partition(".")[0] for name in names})


def _embed_dim(state: Mapping[str, Tensor], text: str, *, default: int) -> int:
    """D, the width behind the text tower's projection."""
    projection = state.get(f"{text}text_projection")
    if projection is not None:
        return projection.shape[-1]
    linear = state.get(f"{text}text_projection.weight")
    return default if linear is None else linear.shape[0]
