"""MOT challenge text: "frame, id, x, y, w, h, conf, class, visibility", all counted from 1.

Objects whose conf is 0 are not to be counted. Detections have no object: the id -1. Ground truth
has nine values a line, where conf is no confidence; detections and results have seven or ten.

Source: Leal-Taixé et al., "MOTChallenge 2015", arXiv 1504.01942, section 3; the MOT16 benchmark.
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from atas_deploy.core.region import Region
from atas_deploy.media.annotations.entry import Entry, show
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.matching import NumberedEntries
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.annotations.text import read_text

_FEWEST, _MOST = 6, 10  # values of a line
_SCORED = (7, 10)
_NAMES = ("frame", "id", "x", "y", "width", "height", "conf")

Line = tuple[int, Region]  # its number, and what it says


def open_mot(path: Path) -> RegionFile:
    """The boxes of a video, or of pictures that are named by numbers.

    Raises:
        AnnotationError: a line is not as it should be, or an object is twice in a frame.
    """
    frames: dict[int, list[Line]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()
    faults = Faults()
    for number, line in enumerate(read_text(path, kind="MOT challenge text").splitlines(), 1):
        if not line.strip():
            continue
        entry = _entry(path, number)
        frame, region = _parse(line, entry)
        if region is None:
            continue
        if region.track is not None:
            if (frame, region.track) in seen:
                raise entry.error(
                    f"has the object {region.track} once more in frame {frame}", "remove one"
                )
            seen.add((frame, region.track))
        frames[frame].append((number, region))
    numbers = sorted(frames)

    def read(index: int, picture: Picture) -> list[Region]:
        def clip(line: Line) -> Region:
            number, region = line
            return replace(region, box=_entry(path, number).clip(region.box, picture.size))

        return faults.collect(frames[numbers[index]], clip)

    entries = NumberedEntries(path, numbers, noun="frame", first=1)
    return RegionFile(path, entries, read, faults=faults)


def _entry(path: Path, number: int) -> Entry:
    return Entry(path, f"line {number}")


def _parse(line: str, entry: Entry) -> tuple[int, Region | None]:
    """Frame and region of a line; no region where ground truth says that it does not count."""
    fields = line.strip().rstrip(",").split(",")
    if not _FEWEST <= len(fields) <= _MOST:
        raise entry.error(
            f"has {len(fields)} values ({show(line)}), expected frame, id, x, y, width, height and "
            "perhaps conf, class, visibility",
            "correct or remove it",
        )
    frame, track = (entry.parse_whole(fields[i], _NAMES[i]) for i in (0, 1))
    x, y, width, height = (entry.parse(fields[i], _NAMES[i]) for i in range(2, 6))
    if frame < 1:
        raise entry.error(f"has the frame {frame}, expected numbers from 1 on", "correct it")
    conf = entry.parse(fields[6], "conf") if len(fields) > _FEWEST else 1.0
    if track >= 0 and conf == 0:
        return frame, None
    return frame, Region(
        box=entry.box(x - 1, y - 1, width, height),
        track=track if track >= 0 else None,
        score=conf if len(fields) in _SCORED and 0 <= conf <= 1 else None,
    )
