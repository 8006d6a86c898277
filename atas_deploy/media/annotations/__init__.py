"""Boxes and masks that others made: COCO, YOLO, CSV, MOT challenge, label PNGs.

`open_boxes` and `open_masks` tell the format of a file and give its regions picture by picture;
`CocoFile` and `PanopticFile` give a whole data set. What is not as it should be is an
`AnnotationError` that names the file and the entry; regions of which nothing can be seen are left
out and told by `Faults`. See docs/annotations.md.
"""

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations.coco import CocoFile
from atas_deploy.media.annotations.coco_lists import CocoCategory, CocoImage
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.label_maps import read_label_map
from atas_deploy.media.annotations.opening import open_boxes, open_masks
from atas_deploy.media.annotations.panoptic import PanopticFile, PanopticSegment
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile

__all__ = [
    "AnnotationError",
    "CocoCategory",
    "CocoFile",
    "CocoImage",
    "Faults",
    "PanopticFile",
    "PanopticSegment",
    "Picture",
    "RegionFile",
    "open_boxes",
    "open_masks",
    "read_label_map",
]
