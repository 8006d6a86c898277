"""What every score depends on: the model, the engine, the prompts."""

from typing import Any

from atas_deploy.backends.base import Backend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.templates import Templates


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
