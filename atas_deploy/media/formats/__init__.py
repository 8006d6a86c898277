"""Files that a run can write: pictures, label maps, arrays, and what annotation tools read.

A picture at a time: `write_image`, `write_label_png`, `write_npz`. A run at a time, from an
iterable of `Labelled`: `write_coco_dataset`, `write_coco_results`, `write_polygons`, `write_cvat`,
`write_label_studio`. Regions with names, as they come: `RegionsCsv`, `CocoRegionResults`.
"""

from atas_deploy.media.formats.coco import (
    ImageNumbers,
    write_coco_dataset,
    write_coco_results,
)
from atas_deploy.media.formats.cvat import write_cvat
from atas_deploy.media.formats.items import Labelled, read_label_png
from atas_deploy.media.formats.label_studio import write_label_studio
from atas_deploy.media.formats.named_regions import CocoRegionResults, NamedPicture, RegionsCsv
from atas_deploy.media.formats.npz import write_npz
from atas_deploy.media.formats.pictures import JPEG_MAX_SIDE, write_image, write_label_png
from atas_deploy.media.formats.polygons import write_polygons

__all__ = [
    "JPEG_MAX_SIDE",
    "CocoRegionResults",
    "ImageNumbers",
    "Labelled",
    "NamedPicture",
    "RegionsCsv",
    "read_label_png",
    "write_coco_dataset",
    "write_coco_results",
    "write_cvat",
    "write_image",
    "write_label_png",
    "write_label_studio",
    "write_npz",
    "write_polygons",
]
