"""What scores depend on: the model, the engine, the prompts, the encoder's input, the masks."""

from dataclasses import asdict
from typing import Any

from atas_deploy.backends.base import Backend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.templates import Templates
from atas_deploy.runtime.encode import ImageEncoder
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.windows import PixelWindows


def model_facts(bundle: Bundle, backend: Backend) -> dict[str, Any]:
    """Model, engine and device, JSON-ready."""
    manifest = bundle.manifest
    return {
        "model": manifest.name,
        "fingerprint": bundle.fingerprint[:16],
        "readout": manifest.readout,
        "precision": manifest.precision,
        "backend": backend.name,
        "device": backend.device,
    }


def template_facts(templates: Templates) -> dict[str, Any]:
    """Name of the prompts, and how many; the prompts themselves if they are the user's own."""
    own = {"prompts": list(templates.prompts)} if templates.name == "custom" else {}
    return {"templates": templates.name, "templates_count": len(templates.prompts), **own}


def encoder_facts(encoder: ImageEncoder) -> dict[str, Any]:
    """Size and windows of the encoder's input, JSON-ready; windows in cells or, merged, pixels."""
    windows = encoder.windows
    merge = "pixels" if isinstance(windows, PixelWindows) else "features"
    cut = None if windows is None else {"merge": merge, **asdict(windows)}
    return {"short_side": encoder.short_side, "windows": cut}


def segmenter_facts(segmenter: Segmenter) -> dict[str, Any]:
    """Everything that the masks of a segmenter depend on, JSON-ready."""
    protocol, vocabulary = segmenter.protocol, segmenter.vocabulary
    return {
        **model_facts(segmenter.bundle, segmenter.backend),
        "preset": segmenter.preset,
        "preset_row": segmenter.row if segmenter.preset else None,
        "class_count": len(vocabulary.classes),
        "names_hash": vocabulary.hash,
        "background": vocabulary.rule,
        "background_words": len(vocabulary.background),
        "threshold": protocol.threshold,
        "denoise": protocol.denoise,
        "logit_scale": segmenter.logit_scale,
        **template_facts(segmenter.templates),
        **encoder_facts(segmenter.encoder),
        "refine": protocol.refine,
    }
