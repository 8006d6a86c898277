"""A segmentation job as a Ray Data pipeline: workers in processes of their own, one folder."""

from atas_deploy.runtime.ray_job.job import RayJob
from atas_deploy.runtime.ray_job.refuse import refuse_early

__all__ = ["RayJob", "refuse_early"]
