"""Videos to evaluate: files, and folders of frames with the masks of objects, as DAVIS has them.

A folder holds `JPEGImages/SEQUENCE/00000.jpg …` and `Annotations/SEQUENCE/00000.png …`; both may
have a folder of a resolution, such as `480p`, in between. The values of a PNG are objects, 0 is
background. DAVIS 2016 has one object, which it writes as 255: so 255 is object 1 where the first
mask that is not empty has no other value, and void otherwise, unless it has a word of its own.

DAVIS names no classes: words come from a file, or object i is class i of one list.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.core.class_spec import shorten
from atas_deploy.core.errors import AnnotationError, InputError
from atas_deploy.core.geometry import Size
from atas_deploy.evaluation.truth import VOID, LabelMap
from atas_deploy.media.annotations import read_label_map
from atas_deploy.media.images import IMAGE_SUFFIXES, read_image
from atas_deploy.media.video import VideoReader

Image = npt.NDArray[np.uint8]
Words = Mapping[str, Mapping[int, str | None]]
"""By sequence and object: its word, "dog|puppy", or None to leave it out."""

_BINARY = 255  # of DAVIS 2016; void in sequences with other values


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A video.

    Attributes:
        name: of the row.
        frames: gives its frames, (H, W, 3) uint8 RGB.
        words: what competes in it, (C,); None = the classes in use.
        truth: gives the label map of frame i for its size (H, W), 0..C or `VOID`; None where the
            frame has none.
        labelled: whether some frame may have a truth.
        unseen: objects with a word that no truth asked for so far has.
    """

    name: str
    frames: Callable[[], Iterator[Image]]
    words: tuple[str, ...] | None = None
    truth: Callable[[int, Size], LabelMap | None] = lambda index, size: None
    labelled: bool = False
    unseen: Callable[[], list[int]] = list


def video_clip(path: Path, *, max_frames: int | None = None) -> Clip:
    """A video file, without truth."""

    def frames() -> Iterator[Image]:
        with VideoReader(path, max_frames=max_frames) as reader:
            for frame in reader:
                yield frame.image

    return Clip(path.name, frames)


def davis_clips(
    folder: Path,
    *,
    words: Words | None = None,
    classes: int | None = None,
    max_frames: int | None = None,
) -> list[Clip]:
    """The sequences of a folder, in the order of their names; see the module.

    Objects with the same words cannot be told apart by words: they count as one.

    Args:
        folder: that holds `JPEGImages` and `Annotations`.
        words: of the objects; the sequences that it names are taken. None = object i is class i.
        classes: without words, how many classes there are.
        max_frames: take the first so many frames of each only.

    Raises:
        InputError: a folder or a sequence is missing.
    """
    pictures, masks = _sequences(folder / "JPEGImages"), _sequences(folder / "Annotations")
    names = sorted(masks if words is None else words)
    clips = []
    for name in names:
        for where, found in {"JPEGImages": pictures, "Annotations": masks}.items():
            if name not in found:
                raise InputError(f'The sequence "{name}" is not in {folder / where}; check both.')
        objects = None if words is None else words[name]
        frames, maps = _frames_and_maps(pictures[name], masks[name])
        clips.append(_davis_clip(name, frames[:max_frames], maps, objects, classes or 0))
    return clips


def _frames_and_maps(pictures: Path, masks: Path) -> tuple[list[Path], dict[str, Path]]:
    """The frames of a sequence, and the masks by the frame's name without suffix.

    Raises:
        InputError: there are none, or a mask has no frame.
    """
    frames = _files(pictures, IMAGE_SUFFIXES)
    maps = {path.stem: path for path in _files(masks, {".png"})}
    if extra := sorted(maps.keys() - {path.stem for path in frames}):
        raise AnnotationError(f"{maps[extra[0]]} has no frame in {pictures}; add it.")
    return frames, maps


def _davis_clip(
    name: str,
    frames: Sequence[Path],
    maps: Mapping[str, Path],
    objects: Mapping[int, str | None] | None,
    classes: int,
) -> Clip:
    words = None
    label_of: dict[int, int] = {i: i for i in range(1, classes + 1)}
    if objects is not None:
        words = tuple(dict.fromkeys(word for word in objects.values() if word))
        label_of = {i: words.index(word) + 1 if word else VOID for i, word in objects.items()}

    seen: set[int] = set()

    @cache
    def labels() -> dict[int, int]:
        return _with_binary(label_of, (maps[path.stem] for path in frames if path.stem in maps))

    def truth(index: int, size: Size) -> LabelMap | None:
        path = maps.get(frames[index].stem)
        if path is None:
            return None
        found, values = _read(path, size, labels())
        seen.update(values)
        return found

    def unseen() -> list[int]:
        named = {i for i, word in (objects or {}).items() if word}
        whole = {1} if _BINARY in seen and _BINARY not in named else set()
        return sorted(named - seen - whole)

    frames_of = partial(map, read_image, frames)
    return Clip(name, frames_of, words, truth, labelled=True, unseen=unseen)


def _with_binary(label_of: Mapping[int, int], maps: Iterable[Path]) -> dict[int, int]:
    """Labels of all values of a sequence, also of 0 and 255.

    The masks are read until one is not empty, which most often is the first.
    """
    values = (set(np.unique(read_label_map(path)).tolist()) - {0} for path in maps)
    if next(filter(None, values), None) != {_BINARY}:
        return {0: 0, _BINARY: VOID, **label_of}
    whole = label_of.get(_BINARY, label_of.get(1))
    return {0: 0} if whole is None else {0: 0, _BINARY: whole}


def _read(path: Path, size: Size, label_of: Mapping[int, int]) -> tuple[LabelMap, list[int]]:
    """A PNG's objects as labels, and its values.

    Raises:
        AnnotationError: it cannot be read, or an object has no word.
    """
    values = read_label_map(path, size)
    labels = np.full(values.shape, VOID, np.uint16)
    drawn: list[int] = np.unique(values).tolist()
    for value in drawn:
        if value not in label_of:
            named = [str(i) for i, label in sorted(label_of.items()) if label not in (0, VOID)]
            raise AnnotationError(
                f"{path} has the object {value}, but its sequence has words for "
                f"{shorten(', '.join(named) or 'none')} only; add a word or, to leave it out, an "
                "empty one."
            )
        labels[values == value] = label_of[value]
    return labels, drawn


def _sequences(folder: Path) -> dict[str, Path]:
    """Folders of files by name, also below one folder of a resolution.

    Raises:
        InputError: there are none, or several resolutions.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; expected JPEGImages and Annotations, as DAVIS.")
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    levels = [path for path in inside if any(child.is_dir() for child in path.iterdir())]
    if len(levels) > 1:
        names = ", ".join(path.name for path in levels)
        raise InputError(f"{folder} has several resolutions ({names}); keep one of them.")
    if levels:
        inside = sorted(path for path in levels[0].iterdir() if path.is_dir())
    if not inside:
        raise InputError(f"{folder} holds no sequences; expected a folder of files for each.")
    return {path.name: path for path in inside}


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files of a folder in order.

    Raises:
        InputError: there are none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not found:
        raise InputError(f"{folder} holds no frames; remove it or add them.")
    return found
