"""How a model's dense features are read by default, and what a runtime must know about it."""

from typing import Any

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.bundle import Manifest
from atas_deploy.core.readouts import check_readout

_SHORT_SIDE = 336


def encoder_settings(
    model: ClipModel,
    *,
    readout: str | None = None,
    stride: int | None = None,
    attention_window: int | None = None,
) -> dict[str, Any]:
    """Arguments of `DenseViT`: as given, else as the model records, else sclip and its defaults.

    Raises:
        ConfigError: there is no such read-out.
    """
    record = model.record
    window = record.get("attention_window") if attention_window is None else attention_window
    return {
        "readout": check_readout(
            str(record.get("readout") or "sclip") if readout is None else readout
        ),
        "stride": record.get("stride") if stride is None else stride,
        "attention_window": window or None,
    }


def make_manifest(
    model: ClipModel,
    image: DenseViT,
    text: TextEncoder,
    *,
    opset: int,
    license_id: str | None = None,
    **facts: Any,
) -> Manifest:
    """The manifest of a model, without records of files.

    Args:
        model: whose it is.
        image: its image tower, as it is read.
        text: its text tower.
        opset: ONNX operator set of the graphs; 0 = there are none.
        license_id: SPDX expression of the weights; by default as the model records.
        facts: other fields of `Manifest`.
    """
    bias = getattr(model.model, "logit_bias", None)
    return Manifest(
        name=model.name,
        architecture=model.architecture,
        readout=image.readout,
        patch_size=image.patch_size,
        embed_dim=image.embed_dim,
        context_length=text.context_length,
        full_rows=text.full_rows,
        logit_scale=float(model.model.logit_scale.detach().exp()),
        logit_bias=None if bias is None else float(bias.detach()),
        mean=model.mean,
        std=model.std,
        opset=opset,
        license=license_id or str(model.record.get("license", "NOASSERTION")),
        stride=None if image.stride == image.patch_size else image.stride,
        size_multiple=None if image.multiple == image.stride else image.multiple,
        attention_window=image.attention_window,
        short_side=int(model.record.get("short_side", _SHORT_SIDE)),
        provenance=model.record.get("provenance", {}),
        **facts,
    )
