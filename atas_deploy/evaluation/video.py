"""Video: region similarity J of objects, and flicker.

- j: intersection over union of an object and the mask of its class in a frame, 1 if both are empty;
  mean over the frames that have a mask, then over the objects of all videos. All such frames count:
  words need no first frame. (DAVIS leaves the first and the last one out where methods get the
  first one's masks, and counts all of them where they get none.)
- flicker: share of pixels that change class where the picture does not change, see
  `atas_deploy.evaluation.flicker`; over all videos together.
- still: share of the pixels that the flicker is a share of.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016 (J); Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object
Segmentation" (several objects). The flicker is ours.

F frames, C classes of a video, K classes of all videos
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.class_spec import shorten
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.metrics import count_areas, iou, ratio
from atas_deploy.evaluation.clips import Clip
from atas_deploy.evaluation.facts import segmenter_facts
from atas_deploy.evaluation.flicker import BLUR, STILL, Flicker
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.evaluation.truth import VOID
from atas_deploy.runtime.segment import Segmenter

Image = npt.NDArray[np.uint8]


def measure(totals: Counts) -> dict[str, FloatArray]:
    """Scores of sums over videos, see the module.

    Args:
        totals: "j" and "objects" (..., K): sum of the objects' means, and their number, if some
            video has masks; "flicker" (..., 3): pixels that changed class, pixels that stayed as
            they were, all pixels.
    """
    j = {}
    if "j" in totals:
        j["j"] = ratio(totals["j"].sum(-1), totals["objects"].sum(-1))
    changed, still, pixels = np.moveaxis(totals["flicker"], -1, 0)
    return {
        **j,
        "flicker": ratio(changed, still),
        "still": ratio(still, pixels),
    }


class VideoTask:
    """Masks of videos, see the module.

    Args:
        segmenter: with all settings, and the classes of clips without words of their own.
        clips: the videos.
        every: segment each N-th frame only; those between keep its masks.
        smooth: weight of the past in the average of features, see `Segmenter.stream`.
        tell: gets a sentence for each object with a word that is in no mask.

    Raises:
        ConfigError: the words of a clip cannot be used.
    """

    name, unit = "video", "video"
    measure = staticmethod(measure)

    def __init__(
        self,
        segmenter: Segmenter,
        clips: Sequence[Clip],
        *,
        every: int = 1,
        smooth: float = 0.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._tell = tell
        self._labelled = any(clip.labelled for clip in clips)
        self._unseen: list[str] = []  # of the last run
        self._segmenter, self._clips = segmenter, clips
        self._every, self._smooth = every, smooth
        self._own = [word for clip in clips for word in clip.words or ()]
        self._names = tuple(dict.fromkeys(self._own)) or segmenter.vocabulary.names
        self._facts = segmenter_facts(segmenter)
        self.total: int | None = len(clips)
        for clip in clips:  # before anything is segmented
            try:
                with self._words(clip):
                    pass
            except ConfigError as exc:
                raise ConfigError(f'Sequence "{shorten(clip.name)}": {exc}') from exc

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Segment each video and count."""
        self._unseen = []
        for clip in self._clips:
            with self._words(clip):
                counts = self._count(clip)
            self._note_unseen(clip)
            yield Row(clip.name, counts)
            advance()

    def facts(self) -> dict[str, Any]:
        """Model, words, settings."""
        facts = self._facts
        if self._own:  # each video has a class list of its own
            listing = json.dumps([[clip.name, clip.words] for clip in self._clips])
            digest = hashlib.sha256(listing.encode()).hexdigest()[:16]
            facts = facts | {"class_count": len(self._names), "names_hash": digest}
            facts = facts | {"background_words": "of each video"}
        return {
            **facts,
            "every": self._every,
            "smooth": self._smooth,
            "objects_in_no_mask": self._unseen or None,
            "flicker": f"grey values blurred by {BLUR:g} px that change by less than {STILL:g}",
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """J of each class that has an object, and how many videos have it."""
        if not self._labelled:
            return []
        each = ratio(totals["j"], totals["objects"])
        return [
            {"class": name, "j": float(value), "videos": int(count)}
            for name, value, count in zip(self._names, each, totals["objects"], strict=True)
            if count
        ]

    def _note_unseen(self, clip: Clip) -> None:
        """Tell which objects have a word and no pixel."""
        for number in clip.unseen():
            self._unseen.append(f"{clip.name} {number}")
            if self._tell is not None:
                self._tell(
                    f'Sequence "{shorten(clip.name)}" has a word for object {number}, which is in '
                    "no mask that was read; it does not count."
                )

    def _words(self, clip: Clip) -> AbstractContextManager[None]:
        """The segmenter with the words of a video."""
        if clip.words is None:
            return nullcontext()
        return self._segmenter.using(list(clip.words))

    def _count(self, clip: Clip) -> dict[str, npt.ArrayLike]:
        """What a video adds."""
        flicker, frames, seen = Flicker(), list[FloatArray](), list[FloatArray]()
        pending: deque[Image] = deque()
        classes = len(self._segmenter.vocabulary.classes) + 1
        results = self._segmenter.stream(
            _kept(clip, pending), every=self._every, smooth=self._smooth
        )
        with closing(results):
            for index, result in enumerate(results):
                flicker.add(pending.popleft(), result.labels)
                truth = clip.truth(index, (result.labels.shape[0], result.labels.shape[1]))
                if truth is not None:
                    areas = count_areas(truth, result.labels, classes=classes, void=VOID)
                    frames.append(np.nan_to_num(iou(areas), nan=1.0))
                    seen.append(areas.truth)
        if not self._labelled:
            return {"flicker": flicker.counts()}
        j, objects = np.zeros(len(self._names)), np.zeros(len(self._names))
        if frames:
            found = np.flatnonzero(np.sum(seen, axis=0)[1:])
            places = [self._place(clip, i) for i in found.tolist()]
            j[places] = np.mean(frames, axis=0)[1:][found]
            objects[places] = 1
        return {"j": j, "objects": objects, "flicker": flicker.counts()}

    def _place(self, clip: Clip, index: int) -> int:
        """Where a class of a video stands among those of all."""
        return index if clip.words is None else self._names.index(clip.words[index])


def _kept(clip: Clip, pending: deque[Image]) -> Iterator[Image]:
    """The frames, each kept until its result is there."""
    for image in clip.frames():
        pending.append(image)
        yield image
