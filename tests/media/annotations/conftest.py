"""Files of annotations, written as they are needed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from atas_deploy.media.formats import Labelled

Maps = dict[str, npt.NDArray[np.uint8]]
Items = Callable[..., Iterator[Labelled]]
Write = Callable[[str, Any], Path]
Data = dict[str, Any]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write text, bytes, JSON data or the pixels of a PNG into a file; returns its path."""

    def make(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return make


@pytest.fixture
def coco() -> Data:
    """A COCO data set: a box, a polygon and a crowd in a picture of 6 x 4 pixels."""
    return {
        "images": [
            {"id": 7, "file_name": "a/one.jpg", "height": 4, "width": 6},
            {"id": 9, "file_name": "two.jpg", "height": 5, "width": 5},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "grass", "isthing": 0}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 1, 2.5, 2]},
            {
                "id": 2,
                "image_id": 7,
                "category_id": 3,
                "bbox": [2, 1, 3, 2],
                "segmentation": [[2, 1, 5, 1, 5, 3, 2, 3]],
            },
            {
                "id": 3,
                "image_id": 7,
                "category_id": 18,
                "iscrowd": 1,
                "bbox": [0, 0, 1, 4],
                "segmentation": {"size": [4, 6], "counts": [0, 4, 20]},
            },
        ],
    }


@pytest.fixture
def labels() -> npt.NDArray[np.uint8]:
    """A label map (6, 8): 1 in two parts, 2 in one, 200 in a pixel."""
    values = np.zeros((6, 8), np.uint8)
    values[0, :3], values[5, 6:], values[2:4, 1:5], values[1, 7] = 1, 1, 2, 200
    return values


@pytest.fixture
def names() -> list[str]:
    """Four classes, the last of which never occurs."""
    return ["dog", "grass", "sky", "absent"]


@pytest.fixture
def maps() -> Maps:
    """Label maps of a run, by the name of the image: blobs, noise and nothing."""
    random = np.random.default_rng(0)
    blobs = np.zeros((30, 50), np.uint8)
    blobs[2:20, 4:30], blobs[8:12, 10:20], blobs[25:, :] = 1, 0, 2
    noise = random.integers(0, 4, (17, 23)).astype(np.uint8)
    return {"blobs": blobs, "sub/noise.2": noise, "nothing": np.zeros((5, 7), np.uint8)}


@pytest.fixture
def items(maps: Maps, names: list[str]) -> Items:
    """Make items of a run that can be consumed once, of these maps or of others."""

    def make(maps: Maps = maps, suffix: str = ".jpg") -> Iterator[Labelled]:
        for name, labels in maps.items():
            classes = [
                {"id": i, "name": names[i - 1], "score": i / 8, "area": float((labels == i).mean())}
                for i in np.unique(labels).tolist()
                if i
            ]
            yield Labelled(name, name + suffix, *labels.shape, labels.copy, classes)

    return make
