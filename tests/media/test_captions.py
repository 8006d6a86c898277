"""Captions from CSV files, COCO's JSON and Karpathy's, and what is wrong with bad ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from atas_deploy.core.errors import InputError
from atas_deploy.media.captions import read_captions

COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 3, "caption": "a dog"},
        {"id": 2, "image_id": 7, "caption": " a  cat\n"},
        {"id": 3, "image_id": 3, "caption": "a puppy"},
    ],
}
KARPATHY = {
    "dataset": "flickr8k",
    "images": [
        {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "a cat"}]},
        {"filename": "b.jpg", "split": "test", "sentences": [{"raw": "a dog"}, {"raw": "dogs"}]},
    ],
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a JSON file of captions."""

    def write(content: Any) -> Path:
        path = tmp_path / "captions.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_csv_gathers_the_rows_of_an_image(tmp_path: Path) -> None:
    """In the order of the file; rows without words do not count."""
    path = tmp_path / "captions.csv"
    path.write_text('image,caption\nb.jpg,"one, two"\na.jpg,three\nb.jpg,\nb.jpg,four\n')
    assert read_captions(path) == {"b.jpg": ["one, two", "four"], "a.jpg": ["three"]}


def test_coco_joins_images_and_annotations(write: Any) -> None:
    """By the id of the image."""
    assert read_captions(write(COCO)) == {"b.jpg": ["a dog", "a puppy"], "a.jpg": ["a cat"]}


def test_karpathy_gives_a_split(write: Any) -> None:
    """The others are left out."""
    assert read_captions(write(KARPATHY), split="test") == {"b.jpg": ["a dog", "dogs"]}


@pytest.mark.parametrize("split", [None, "val"])
def test_an_unknown_split_is_refused(write: Any, split: str | None) -> None:
    """Those that there are get named; a choice is never made for the user."""
    with pytest.raises(InputError, match=r"has the splits test, train .*--split"):
        read_captions(write(KARPATHY), split=split)


def test_a_split_of_a_file_without_splits_is_refused(write: Any, tmp_path: Path) -> None:
    """CSV and COCO have none."""
    (tmp_path / "a.csv").write_text("image,caption\na.jpg,a cat\n")
    for path in (tmp_path / "a.csv", write(COCO)):
        with pytest.raises(InputError, match="leave --split out"):
            read_captions(path, split="test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "cannot be read as JSON"),
        ("[]", 'no list "images"'),
        ({"images": [{"id": 1}], "annotations": []}, 'Entry 0 of "images"'),
        ({**COCO, "annotations": [{"image_id": 9, "caption": "x"}]}, 'Entry 0 of "annotations"'),
        ({**COCO, "annotations": [{"image_id": 7}]}, 'Entry 0 of "annotations"'),
        ({**COCO, "annotations": 5}, 'Entry 0 of "annotations"'),
        ({**COCO, "annotations": []}, "holds no caption"),
        ({"images": [{"filename": "a.jpg", "split": "test"}]}, 'Entry 0 of "images"'),
    ],
)
def test_malformed_json_is_refused(write: Any, content: Any, message: str) -> None:
    """One sentence names the file and the entry."""
    split = None if "annotations" in str(content) else "test"
    path = write(content)
    with pytest.raises(InputError, match=message) as caught:
        read_captions(path, split=split)
    assert str(path) in str(caught.value)
