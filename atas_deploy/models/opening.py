"""From what a user calls a model to an open bundle."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from atas_deploy.core.bundle import EMBEDDED, MANIFEST, MODEL_CONFIG, WEIGHTS, Bundle
from atas_deploy.core.classes import shorten
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.readouts import check_readout
from atas_deploy.models.cache import ModelCache
from atas_deploy.models.embedded import embedded_models
from atas_deploy.models.exporting import export_once
from atas_deploy.models.sources import check_folder, check_source, split_source

_ARCHITECTURE = re.compile(r"(ViT|EVA\d\d)-[\w.-]{1,60}", re.ASCII)


def open_model(
    model: str | Path | Bundle,
    *,
    readout: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Bundle:
    """Find and open a bundle; export what is none, once, into the user's cache.

    Args:
        model: the name of an embedded or cached model, a bundle folder, an open bundle, a model
            folder written by training, a checkpoint, or an open_clip name: "ViT-B-16/openai",
            "ViT-B-16/FILE" or "hf-hub:ORGANISATION/REPOSITORY".
        readout: how dense features are read; None = the bundle's own, or as the model records.
        tell: called with one line when an export starts or is waited for; None = say nothing.

    Raises:
        ConfigError: no such model, no such read-out, or a bundle without the weights to change it.
        BundleError: the folder holds no valid bundle.
        CheckpointError: the weights cannot be fetched or read.
        ExportError: the model cannot be exported.
        BackendUnavailableError: an export is needed and its packages are missing.
        OutputError: the cache cannot be written.
    """
    if readout is not None:
        check_readout(readout)
    bundle = _ready(model)
    if bundle is None:
        return export_once(_exportable(str(model)), readout=readout, tell=tell)
    name = bundle.manifest.name if isinstance(model, Bundle) else str(model)
    if readout in (None, bundle.manifest.readout):
        return bundle
    if WEIGHTS not in bundle.manifest.files:
        raise ConfigError(
            f"The bundle {bundle.path} has the read-out {bundle.manifest.readout} and no weights "
            f'to make "{readout}" from; name the model that it was exported from.'
        )
    return export_once(str(bundle.path), readout=readout, called=name, tell=tell)


def find_bundles(model: str) -> list[Bundle]:
    """Open the bundle of this name or folder, or all that a model was exported to before.

    Args:
        model: as for `open_model`.

    Raises:
        ConfigError: no such model, or one that was never exported.
        BundleError: a bundle is damaged.
    """
    if bundle := _ready(model):
        return [bundle]
    cache = ModelCache()
    if names := cache.exported(_exportable(model)):
        return [Bundle.open(cache.folder / name) for name in names]
    raise ConfigError(
        f'"{shorten(model)}" is not a bundle; check the path, or, if it is a model that has not '
        "been exported yet, `atas-deploy segment --model` does that by itself."
    )


def _ready(model: str | Path | Bundle) -> Bundle | None:
    """The bundle that is meant, None if the name is not that of a bundle."""
    if isinstance(model, Bundle):
        return model
    if str(model) in embedded_models():
        return Bundle.open(EMBEDDED / str(model))
    _, folder = split_source(str(model))
    if folder and folder.is_dir():
        check_folder(folder)
        is_model = (folder / MODEL_CONFIG).is_file() and not (folder / MANIFEST).exists()
        return None if is_model else Bundle.open(folder)
    return ModelCache().named(str(model))


def _exportable(model: str) -> str:
    """The name, if it may be that of a model to export; what is wrong with it, the exporter says.

    Raises:
        ConfigError: it is neither a path that exists nor written like an open_clip name.
        CheckpointError: the file is no checkpoint.
    """
    check_source(model)
    remote = "/" in model.strip("/") and model.isprintable() and model[0] not in "./~-"
    if remote or split_source(model)[1]:
        return model
    if _ARCHITECTURE.fullmatch(model):
        raise ConfigError(
            f'"{model}" names no weights; write {model}/FILE, or {model}/WEIGHTS as open_clip '
            f"lists them, such as ViT-B-16/openai (`atas-deploy export --model {model}` names "
            "some)."
        )
    known = [*embedded_models(), *ModelCache().names()]
    near = get_close_matches(model, known, n=2)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise ConfigError(
        f'Unknown model "{shorten(model)}"{hint}: expected {", ".join(embedded_models())}, '
        "the folder of a bundle or a model, a checkpoint, or an open_clip name such as "
        "ViT-B-16/openai; `atas-deploy models` lists what is there."
    )
