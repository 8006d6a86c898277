"""Models by name: the embedded bundle, or any bundle folder."""

import os
from pathlib import Path

from atas_deploy.core.bundle import MANIFEST, Bundle
from atas_deploy.core.classes import shorten
from atas_deploy.core.errors import ConfigError

EMBEDDED = Path(__file__).parent / "bundles"


def embedded_models() -> list[str]:
    """Names of the bundles that ship inside the package."""
    return sorted(folder.parent.name for folder in EMBEDDED.glob(f"*/{MANIFEST}"))


def weights_source(model: str) -> str:
    """Where to load weights from: the folder of an embedded model, else the name as given."""
    return str(EMBEDDED / model) if model in embedded_models() else model


def open_model(model: str | Path | Bundle) -> Bundle:
    """Find and open a bundle.

    Args:
        model: the name of an embedded model, the path of a bundle folder, or an open bundle.

    Raises:
        ConfigError: neither a known name nor a folder.
        BundleError: the folder holds no valid bundle.
    """
    if isinstance(model, Bundle):
        return model
    if str(model) in embedded_models():
        return Bundle.open(EMBEDDED / str(model))
    if os.path.isdir(model):  # noqa: PTH112  (False for impossible names, where Path raises)
        return Bundle.open(model)
    raise ConfigError(
        f'Unknown model "{shorten(str(model))}": expected {", ".join(embedded_models())} or '
        "a bundle folder; "
        "`atas-deploy export --model NAME --out FOLDER` makes one."
    )
