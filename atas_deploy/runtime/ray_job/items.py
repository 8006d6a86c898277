"""What a worker gets at a time: some images in a row, or a video."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, groupby, islice

from atas_deploy.media.sources import Source

_MOST = 256  # images in an item
_ITEMS_PER_WORKER = 8  # at least, so that all workers end at about the same time


@dataclass(frozen=True, slots=True)
class Item:
    """Sources of one kind that go to a worker together.

    Attributes:
        name: unlike that of any other item, also of earlier runs; see `RunFiles.item`.
        sources: images, or one video.
    """

    name: str
    sources: tuple[Source, ...]


def images_per_item(total: int, *, workers: int, batch_size: int) -> int:
    """How many images an item has: whole batches, and enough items to keep all workers busy."""
    fair = min(_MOST, total // (_ITEMS_PER_WORKER * workers))
    return batch_size * max(1, fair // batch_size)


def divide(sources: Iterable[Source], *, images: int) -> Iterator[Item]:
    """Divide sources into items, in their order.

    Args:
        sources: of a run.
        images: at most so many in an item; a video is one by itself.
    """
    run, number = secrets.token_hex(4), count()
    for kind, group in groupby(sources, key=lambda source: source.kind):
        most = images if kind == "image" else 1
        while part := tuple(islice(group, most)):
            yield Item(f"{run}-{next(number)}", part)
