"""Models by name: embedded bundles, bundle folders, and everything that can be exported to one."""

from atas_deploy.models.cache import ModelCache
from atas_deploy.models.embedded import embedded_models, weights_source
from atas_deploy.models.opening import find_bundles, open_model

__all__ = ["ModelCache", "embedded_models", "find_bundles", "open_model", "weights_source"]
