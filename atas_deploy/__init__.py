"""Open-vocabulary segmentation with dense CLIP: words in, masks out.

>>> from atas_deploy import Segmenter
>>> result = Segmenter("atas-tiny", classes="sky,building,tree")("photo.jpg")
>>> result.labels  # (H, W) uint8: 0 = background, 1 = sky, 2 = building, 3 = tree
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "NamedRegions",
    "Region",
    "RegionClassifier",
    "Segmentation",
    "Segmenter",
    "__version__",
]

if TYPE_CHECKING:
    from atas_deploy.core.region import NamedRegions, Region
    from atas_deploy.core.results import Segmentation
    from atas_deploy.runtime.regions import RegionClassifier
    from atas_deploy.runtime.segment import Segmenter

_HOMES = {
    "NamedRegions": "atas_deploy.core.region",
    "Region": "atas_deploy.core.region",
    "RegionClassifier": "atas_deploy.runtime.regions",
    "Segmentation": "atas_deploy.core.results",
    "Segmenter": "atas_deploy.runtime.segment",
}


def __getattr__(name: str) -> Any:
    """Import public names at first use, so that `atas-deploy --help` starts at once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
