"""Outlines of classes as polygons with holes, exact to the pixel, in GeoJSON's geometry."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.files import atomic_path
from atas_deploy.media.formats.items import Labelled, class_masks, read_labels
from atas_deploy.media.formats.rows import open_text, to_json
from atas_deploy.media.formats.trace import trace_polygons


def write_polygons(path: Path, items: Iterable[Labelled], *, tolerance: float = 0.0) -> None:
    """Write one line of JSON an image: image, height, width, and classes with their geometry.

    A geometry is a GeoJSON MultiPolygon in pixels, see `trace_polygons`.

    Args:
        path: The JSON Lines file to create or replace.
        items: The images; consumed once, held one at a time.
        tolerance: How far, in pixels, a simplified outline may be off; 0 keeps it exact.

    Raises:
        ConfigError: If the tolerance is negative.
        InputError: If a label map cannot be read.
        OutputError: If the file cannot be written.
    """
    if not 0 <= tolerance < float("inf"):
        raise ConfigError(f"The tolerance is {tolerance}; expected a number of pixels from 0 on.")
    with atomic_path(path) as part, open_text(part) as out:
        for row in _rows(items, tolerance=tolerance):
            out.write(to_json(row) + "\n")


def _rows(items: Iterable[Labelled], *, tolerance: float) -> Iterator[dict[str, object]]:
    for item in items:
        classes = []
        for entry, mask in class_masks(read_labels(item), item.classes):
            coordinates = trace_polygons(mask, tolerance=tolerance)
            geometry = {"type": "MultiPolygon", "coordinates": coordinates}
            classes.append({**entry, "geometry": geometry})
        size = {"height": item.height, "width": item.width}
        yield {"image": item.image, **size, "classes": classes}
