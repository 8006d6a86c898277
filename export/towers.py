"""The two modules that become graphs."""

from dataclasses import dataclass

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Towers:
    """The two modules that become graphs."""

    image: ImageGraph
    text: TextEncoder


def build_towers(
    model: ClipModel, readout: str, stride: int | None = None, attention_window: int | None = None
) -> Towers:
    """The modules to export; they share the model's weights.

    Raises:
        ConfigError: the model, the read-out or another setting is not supported.
    """
    visual = DenseViT(model.model.visual, readout, stride=stride, attention_window=attention_window)
    largest = max(visual.trained_size) // visual.stride
    if attention_window is not None and attention_window > largest:
        raise ConfigError(
            f"The attention window is {attention_window} cells; expected up to {largest}, as many "
            f"as {model.name} was trained on (0 = no windows)."
        )
    image = ImageGraph(visual, mean=model.mean, std=model.std)
    return Towers(image=image.eval(), text=TextEncoder(model.model).eval())
