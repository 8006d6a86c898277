"""What a segmentation returns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import BackendUnavailableError, ConfigError

if TYPE_CHECKING:
    from supervision import Detections


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The label map of an image for a class list.

    Attributes:
        labels: (H, W) uint8, or uint16 beyond 254 classes; 0 is background, i is
            `class_names[i - 1]`.
        class_names: the C classes asked for.
        scores: (C,) float32 in [0, 1]: mean probability of a class over the grid cells it wins.
        probability: (H, W) float32 in (0, 1] of the winning query, or 0 where denoising left none;
            None unless it was asked for.
        carried: whether the features are those of an earlier frame of a video, moved along.
    """

    labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    class_names: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    probability: npt.NDArray[np.float32] | None = None
    carried: bool = False

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """(C,) share of the pixels that each class covers."""
        if self.labels.dtype == np.uint8:  # twice as fast
            labels: npt.NDArray[np.uint8] = np.ascontiguousarray(self.labels, np.uint8)
            counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
        else:
            counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names) + 1)
        return counts[1 : len(self.class_names) + 1].astype(np.float64) / self.labels.size

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

    def to_detections(self, *, instances: bool = False) -> "Detections":
        """Convert to what `supervision` annotates, filters and counts.

        Args:
            instances: One detection for each 8-connected part of a class, not for each class.

        Returns:
            supervision.Detections of the classes present, in their order: mask (N, H, W) bool,
            xyxy (N, 4) float32 in pixels, right and lower ends exclusive, class_id (N,) the
            value in the label map, confidence (N,) the class's score, data["class_name"].

        Raises:
            BackendUnavailableError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as exc:
            raise BackendUnavailableError(
                "The package supervision is not installed; run `pip install supervision`."
            ) from exc
        ids, masks = self._objects(instances=instances)
        return Detections(
            xyxy=np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4),
            mask=np.array(masks, np.bool_).reshape(-1, *self.labels.shape),
            class_id=np.array(ids, np.int64),
            confidence=np.array([self.scores[i - 1] for i in ids], np.float32),
            data={"class_name": np.array([self.class_names[i - 1] for i in ids], np.str_)},
        )

    def _objects(self, *, instances: bool) -> tuple[list[int], list[npt.NDArray[np.bool_]]]:
        """Labels and masks of the classes present, or of their connected parts."""
        ids: list[int] = []
        masks: list[npt.NDArray[np.bool_]] = []
        for i in (np.flatnonzero(self.areas) + 1).tolist():
            mask = self.labels == i
            parts = [mask]
            if instances:
                count, numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
                parts = [numbers == part for part in range(1, count)]
            ids += [i] * len(parts)
            masks += parts
        return ids, masks


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return left, top, left + width, top + height
