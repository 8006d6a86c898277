"""Bundles in the model cache, found again by what they were made from."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from atas_deploy import __version__
from atas_deploy.clip.manifest import encoder_settings
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import REFERENCE, Bundle
from atas_deploy.core.errors import BundleError
from atas_deploy.core.hf_tokenizer import HfTokenizer
from atas_deploy.export.bundle import export_bundle
from atas_deploy.models.cache import discard

_DIGITS = 12


def export_cached(
    model: ClipModel,
    folder: Path,
    *,
    readout: str | None = None,
    stride: int | None = None,
    attention_window: int | None = None,
) -> Bundle:
    """The bundle of a model in a cache: the one that is there, if it is whole, or a new one.

    It keeps no weights; they are where the model came from. The caller holds the cache's lock.

    Args:
        model: what to export.
        folder: of the bundles.
        readout: as for `export_bundle`.
        stride: as for `export_bundle`.
        attention_window: as for `export_bundle`.

    Raises:
        ConfigError: the model or a setting is not supported.
        ExportError: the model cannot be exported.
        OutputError: the cache cannot be written.
    """
    settings = encoder_settings(
        model, readout=readout, stride=stride, attention_window=attention_window
    )
    key = cache_key(model, settings)
    for found in folder.glob(f"*-{key}"):
        bundle = _whole(found)
        if bundle:
            return bundle
        discard(found)
    name = re.sub(r"[^\w.-]+", "-", f"{model.name}-{settings['readout']}").strip(".-")
    return export_bundle(model, folder / f"{name}-{key}", **settings, weights=False)


def cache_key(model: ClipModel, settings: dict[str, Any]) -> str:
    """Hash over everything that decides what a bundle computes and says.

    Args:
        model: its weights, configuration, tokenizer and recorded licence and size count, not its
            name or where it lies.
        settings: read-out, stride and attention window.

    Returns:
        Hexadecimal digits.
    """
    content = hashlib.blake2b(digest_size=_DIGITS // 2)
    for part in _parts(model, settings):
        content.update(len(part).to_bytes(8, "little"))
        content.update(part)
    return content.hexdigest()


def _parts(model: ClipModel, settings: dict[str, Any]) -> Iterator[bytes | memoryview]:
    record = {key: model.record.get(key) for key in ("architecture", "license", "short_side")}
    head = [__version__, settings, record, model.config]
    yield json.dumps(head, sort_keys=True, default=str).encode()
    yield model.tokenizer_file.read_bytes()
    tokenizer = model.tokenizer()
    if isinstance(tokenizer, HfTokenizer):
        yield tokenizer.settings.to_json().encode()
    for name, tensor in sorted(model.model.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        yield f"{name} {array.dtype} {array.shape}".encode()
        yield memoryview(array.reshape(-1).view(np.uint8))


def _whole(folder: Path) -> Bundle | None:
    try:
        bundle = Bundle.open(folder)
        bundle.verify()
    except BundleError:
        return None
    return bundle if REFERENCE in bundle.manifest.files else None  # an earlier release wrote none
