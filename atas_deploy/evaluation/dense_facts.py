"""What dense features and masks depend on."""

from dataclasses import asdict
from typing import Any

from atas_deploy.evaluation.facts import model_facts, template_facts
from atas_deploy.runtime.encode import ImageEncoder
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.windows import PixelWindows


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
