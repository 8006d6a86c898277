"""From features and words to label maps, exactly, at a cost that hardly grows with the words."""

from atas_deploy.core.masks.definition import FloatArray, LabelMap, Labels, as_labels
from atas_deploy.core.masks.denoise import background_only, competing_queries, widen
from atas_deploy.core.masks.label import label_map
from atas_deploy.core.masks.merged import merged_label_map
from atas_deploy.core.masks.refined import refined_label_map, refined_merged_label_map

__all__ = [
    "FloatArray",
    "LabelMap",
    "Labels",
    "as_labels",
    "background_only",
    "competing_queries",
    "label_map",
    "merged_label_map",
    "refined_label_map",
    "refined_merged_label_map",
    "widen",
]
