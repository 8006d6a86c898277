"""What a segmentation returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The label map of an image for a class list.

    Attributes:
        labels: (H, W) uint8, or uint16 beyond 254 classes; 0 is background, i is
            `class_names[i - 1]`.
        class_names: the C classes asked for.
        scores: (C,) float32 in [0, 1]: mean probability of a class over the grid cells it wins.
        probability: (H, W) float32 in (0, 1] of the winning query; None without a threshold.
    """

    labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    class_names: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    probability: npt.NDArray[np.float32] | None = None

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """(C,) share of the pixels that each class covers."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names) + 1)
        return counts[1 : len(self.class_names) + 1] / self.labels.size

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """(H, W) bool: the pixels of a class.

        Raises:
            ConfigError: the class was not asked for.
        """
        if name not in self.class_names:
            raise ConfigError(
                f"Unknown class {name!r}; this result has {', '.join(self.class_names)}."
            )
        return np.asarray(self.labels == self.class_names.index(name) + 1)

    def summary(self) -> list[dict[str, Any]]:
        """The classes that are present, as JSON-ready objects: id, name, score, area."""
        rows = zip(self.class_names, self.scores.tolist(), self.areas.tolist(), strict=True)
        return [
            {"id": i, "name": name, "score": round(score, 4), "area": round(area, 6)}
            for i, (name, score, area) in enumerate(rows, 1)
            if area > 0
        ]
