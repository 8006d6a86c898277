"""The models that ship inside the package."""

from atas_deploy.core.bundle import EMBEDDED, MANIFEST


def embedded_models() -> list[str]:
    """Names of the bundles that ship inside the package."""
    return sorted(folder.parent.name for folder in EMBEDDED.glob(f"*/{MANIFEST}"))


def weights_source(model: str) -> str:
    """Where to load weights from: the folder of an embedded model, else the name as given."""
    return str(EMBEDDED / model) if model in embedded_models() else model
