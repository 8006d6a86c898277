"""Label Studio: tasks with brush masks as predictions, and the labelling interface for them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from atas_deploy.core.files import atomic_path
from atas_deploy.media.formats.brush import encode_brush
from atas_deploy.media.formats.items import Labelled, class_masks, read_labels
from atas_deploy.media.formats.names import safe_names
from atas_deploy.media.formats.rows import open_text, write_list

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves the files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""

_IMAGE, _BRUSH = "image", "mask"  # names of the two tags of the interface


def write_label_studio(
    path: Path,
    items: Iterable[Labelled],
    names: Sequence[str],
    *,
    palette: npt.NDArray[np.uint8],
    image_root: str = LOCAL_FILES,
    model_version: str = "atas-deploy",
) -> None:
    """Write tasks to import, and beside them, as .xml, the labelling interface to paste in.

    Args:
        path: The JSON file to create or replace; the other is named after it.
        items: The images; consumed once, held one at a time.
        names: The classes.
        palette: (C + 1, 3) uint8 RGB.
        image_root: What comes before the percent-encoded path of an image to make its address.
        model_version: Shown beside the predictions.

    Raises:
        InputError: If a label map cannot be read.
        OutputError: If a file cannot be written.
    """
    labels = safe_names(names)
    with atomic_path(path) as part, open_text(part) as out:
        write_list(out, (_task(item, labels, image_root, model_version) for item in items))
    with atomic_path(path.with_suffix(".xml")) as part:
        part.write_text(_interface(labels, palette), encoding="utf-8")


def _task(
    item: Labelled, labels: Sequence[str], image_root: str, model_version: str
) -> dict[str, Any]:
    regions = list(_regions(item, labels))
    covered = sum(entry["area"] for entry in item.classes)
    score = sum(entry["area"] * entry["score"] for entry in item.classes) / (covered or 1)
    path = quote(item.image.lstrip("/"), errors="surrogateescape")
    prediction = {"model_version": model_version, "score": round(score, 4), "result": regions}
    return {"data": {_IMAGE: image_root + path}, "predictions": [prediction]}


def _regions(item: Labelled, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    for entry, mask in class_masks(read_labels(item), item.classes):
        value = {
            "format": "rle",
            "rle": list(encode_brush(mask)),
            "brushlabels": [labels[entry["id"] - 1]],
        }
        yield {
            "id": f"class-{entry['id']}",
            "type": "brushlabels",
            "from_name": _BRUSH,
            "to_name": _IMAGE,
            "original_width": item.width,
            "original_height": item.height,
            "image_rotation": 0,
            "value": value,
            "score": entry["score"],
        }


def _interface(labels: Sequence[str], palette: npt.NDArray[np.uint8]) -> str:
    colors = [f"#{bytes(color).hex()}" for color in palette[1:]]
    lines = [
        f'    <Label value={quoteattr(label)} background="{color}"/>'
        for label, color in zip(labels, colors, strict=True)
    ]
    return "\n".join(
        [
            "<View>",
            f'  <Image name="{_IMAGE}" value="${_IMAGE}" zoom="true"/>',
            f'  <BrushLabels name="{_BRUSH}" toName="{_IMAGE}">',
            *lines,
            "  </BrushLabels>",
            "</View>\n",
        ]
    )
