"""Names that stay on a track: what was seen of an object is averaged as long as it is followed.

K regions, D embedding width
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.region import Region
from atas_deploy.runtime.settle import check_whole

FloatArray = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Track:
    """Mean of the embeddings of an object (D,), of how many, and the frame of the last."""

    mean: npt.NDArray[np.float64]
    count: int
    frame: int


class TrackNames:
    """Running means of embeddings along tracks.

    It is linear, so it equals averaging the logits since the track began, or the logarithms of the
    probabilities, and its state does not depend on the words.

    Args:
        patience: frames after which a track that was not seen is forgotten; its number may then
            belong to another object.
        most: tracks that are remembered; beyond them the one not seen for longest is forgotten.

    Raises:
        ConfigError: an argument is not a whole number above 0.
    """

    def __init__(self, *, patience: int = 300, most: int = 10_000) -> None:
        self.patience = check_whole("patience", patience, "a whole number of frames above 0")
        self.most = check_whole("most", most, "a whole number of tracks above 0")
        self._tracks: OrderedDict[int, _Track] = OrderedDict()  # not seen for longest first
        self._frame = 0

    def __len__(self) -> int:
        """How many tracks are remembered."""
        return len(self._tracks)

    def __call__(self, regions: Sequence[Region], embeddings: FloatArray) -> FloatArray:
        """Average the embeddings of the next frame's regions into their tracks.

        Args:
            regions: K of them; those without a track keep their embedding.
            embeddings: (K, D) float32. Zeros, of a region that could not be seen, do not count.

        Returns:
            (K, D) float32, for each region the mean over its track.
        """
        self._forget()
        for region, embedding in zip(regions, embeddings, strict=True):
            if region.track is not None and embedding.any():
                self._add(region.track, embedding)
        averaged = embeddings.copy()
        for index, region in enumerate(regions):
            if region.track is not None and (track := self._tracks.get(region.track)):
                averaged[index] = track.mean
        while len(self._tracks) > self.most:
            self._tracks.popitem(last=False)
        self._frame += 1
        return averaged

    def _add(self, number: int, embedding: FloatArray) -> None:
        track = self._tracks.setdefault(
            number, _Track(np.zeros(len(embedding), np.float64), 0, self._frame)
        )
        track.count += 1
        track.mean += (embedding - track.mean) / track.count
        track.frame = self._frame
        self._tracks.move_to_end(number)

    def _forget(self) -> None:
        """Drop the tracks that were not seen for too long."""
        while self._tracks:
            number = next(iter(self._tracks))
            if self._frame - self._tracks[number].frame <= self.patience:
                break
            del self._tracks[number]
