"""A job of names for regions: pictures and videos in, tables and overlays out."""

from atas_deploy.runtime.region_job.job import RegionJob, refuse_early
from atas_deploy.runtime.region_job.region_tally import RegionTally
from atas_deploy.runtime.region_job.regions_from import (
    FileRegions,
    GridRegions,
    ProposedRegions,
    RegionsFrom,
)

__all__ = [
    "FileRegions",
    "GridRegions",
    "ProposedRegions",
    "RegionJob",
    "RegionTally",
    "RegionsFrom",
    "refuse_early",
]
