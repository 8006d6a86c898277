"""Regions of pictures: names for boxes and masks, proposals, and names that stay on a track."""

from atas_deploy.runtime.regions.classifier import RegionClassifier
from atas_deploy.runtime.regions.embedding import EMBEDS
from atas_deploy.runtime.regions.linker import TrackLinker
from atas_deploy.runtime.regions.proposals import grid_regions, propose
from atas_deploy.runtime.regions.tracks import TrackNames

__all__ = [
    "EMBEDS",
    "RegionClassifier",
    "TrackLinker",
    "TrackNames",
    "grid_regions",
    "propose",
]
