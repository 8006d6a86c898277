"""The images of a job: read ahead, encoded in batches, written one by one."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.core.results import Segmentation
from atas_deploy.media.images import read_image
from atas_deploy.media.sources import Source
from atas_deploy.runtime.work import Work

Image = npt.NDArray[np.uint8]


def segment_images(work: Work, sources: Iterable[Source], *, total: int | None) -> None:
    """Segment images; those that cannot be read or written are noted and skipped.

    Args:
        work: the parts of the job.
        sources: images.
        total: how many there are, None if unknown.

    Raises:
        OutputError: nothing more can be written, as when the disk is full.
        BackendError: the engine fails.
    """
    pending: deque[tuple[Source, Image]] = deque()
    work.progress.begin("images", total=total, unit="image")
    results = work.segmenter.stream(_read(work, sources, pending))
    with closing(results):  # its threads end before the journal
        for result in results:
            source, image = pending.popleft()
            with work.stops.hold():
                try:
                    _write(work, source, image, result)
                except OutputError as exc:
                    work.fail(source, exc)
            work.progress.advance()
    work.progress.end()


def _read(
    work: Work, sources: Iterable[Source], pending: deque[tuple[Source, Image]]
) -> Iterator[Image]:
    """Yield the images that can be read; note the others. Runs ahead of the results."""
    for source in sources:
        try:
            work.folder.check_room(source, force=work.force)
            image = read_image(source.location)
            work.folder.check_room(source, force=work.force, size=image.shape[:2])
        except (InputError, OutputError) as exc:
            work.fail(source, exc)
            work.progress.advance()
            continue
        pending.append((source, image))
        yield image


def _write(work: Work, source: Source, image: Image, result: Segmentation) -> None:
    targets = work.folder.make_room(source, size=image.shape[:2])
    name = source.shown
    with work.journal.writing(name, targets):
        classes = work.folder.write_image(image, result, targets)
        work.journal.write(
            {
                "source": name,
                "kind": "image",
                "height": image.shape[0],
                "width": image.shape[1],
                **work.names(targets),
                "classes": classes,
            }
        )
