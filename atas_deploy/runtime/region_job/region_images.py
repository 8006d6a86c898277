"""The images of a job: read ahead with their regions, named in batches, written one by one."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.media.annotations import Picture
from atas_deploy.media.formats import write_image
from atas_deploy.media.images import read_image
from atas_deploy.media.sources import Source
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.region_job.region_work import RegionWork
from atas_deploy.runtime.region_job.regions_from import Finder

_Pending = deque[tuple[Source, Image]]


def name_images(work: RegionWork, sources: Iterable[Source], *, total: int | None) -> None:
    """Name the regions of images; those that cannot be used are noted and skipped.

    An image without regions is not encoded and gets no overlay.

    Args:
        work: the parts of the job.
        sources: images.
        total: how many there are, None if unknown.

    Raises:
        OutputError: nothing more can be written, as when the disk is full.
        BackendError: the engine fails.
    """
    pending: _Pending = deque()
    work.progress.begin("images", total=total, unit="image")
    results = work.classifier.stream(_read(work, sources, pending))
    with closing(results):  # its threads end before the tables
        for found in results:
            source, image = pending.popleft()
            with work.stops.hold():
                try:
                    _write(work, source, image, found)
                except OutputError as exc:
                    work.fail(source, exc)
            work.progress.advance()
    work.progress.end()


def _read(
    work: RegionWork, sources: Iterable[Source], pending: _Pending
) -> Iterator[tuple[Image, Sequence[Region] | Finder]]:
    """Yield the images that can be read and have regions. Runs ahead of the results."""
    for source in sources:
        try:
            work.folder.check_room(source, force=work.options.force)
            work.folder.clear(source)
            image = read_image(source.location)
            size = image.shape[0], image.shape[1]
            work.folder.check_room(source, force=work.options.force, size=size)
            regions = work.regions_from.regions(_picture(source, image))
        except (InputError, OutputError) as exc:
            work.fail(source, exc)
            work.progress.advance()
            continue
        if not callable(regions) and not regions:
            work.count({"kind": "image"})
            work.progress.advance()
            continue
        pending.append((source, image))
        yield image, regions


def _write(work: RegionWork, source: Source, image: Image, found: NamedRegions) -> None:
    size = image.shape[0], image.shape[1]
    targets = work.folder.make_room(source, size=size)
    if "overlay" in targets and found:
        write_image(targets["overlay"], work.draw(image, found))
    picture = _picture(source, image)
    work.tables.write(source.shown, picture, found, name=source.name)
    work.count({"kind": "image"}, found)


def _picture(source: Source, image: Image) -> Picture:
    return Picture(str(source.location), (image.shape[0], image.shape[1]))
