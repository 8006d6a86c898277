"""Results as arrays, for programs that read numpy."""

from pathlib import Path
from typing import Any

import numpy as np

from atas_deploy.core.files import atomic_path
from atas_deploy.core.results import Segmentation


def write_npz(path: Path, segmentation: Segmentation) -> None:
    """Write a segmentation as compressed arrays that load without pickle.

    labels (H, W) uint8 or uint16, class_names (C,) str, scores (C,) float32, and probability
    (H, W) float32 if the segmentation has one.

    Args:
        path: The file to create or replace.
        segmentation: What to write.

    Raises:
        OutputError: If the file cannot be written.
    """
    arrays: dict[str, Any] = {
        "labels": segmentation.labels,
        "class_names": np.array(segmentation.class_names, dtype=np.str_),
        "scores": segmentation.scores,
    }
    if segmentation.probability is not None:
        arrays["probability"] = segmentation.probability
    with atomic_path(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
