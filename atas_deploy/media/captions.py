"""Captions of images: a CSV file, COCO's JSON, or Karpathy's `dataset_*.json` with its splits."""

import csv
import json
from pathlib import Path
from typing import Any

from atas_deploy.core.class_spec import shorten
from atas_deploy.core.errors import InputError

COLUMNS = ("image", "caption")

Captions = dict[str, list[str]]
"""By file name, the captions of an image, at least one, in the order of the file."""


def read_captions(path: Path, *, split: str | None = None) -> Captions:
    """Read the captions of a file.

    Args:
        path: CSV with the columns `image` and `caption`, several rows for an image; or JSON.
        split: which images of a file that has splits, such as "test".

    Raises:
        InputError: it is missing or malformed, holds no caption, or has no such split.
    """
    if path.suffix.lower() == ".json":
        return _read_json(path, split)
    if split is not None:
        raise InputError(f"{path} is a CSV file without splits; leave --split out.")
    return _read_csv(path)


def _read_csv(path: Path) -> Captions:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise InputError(
                    f'{path} has no column "{absent[0]}"; its first line must be '
                    f"{','.join(COLUMNS)}."
                )
            rows = [(row["image"] or "", row["caption"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InputError(
            f"{path} cannot be read ({exc}); give a UTF-8 CSV file with the columns "
            f"{', '.join(COLUMNS)}."
        ) from exc
    return _gathered(path, rows)


def _read_json(path: Path, split: str | None) -> Captions:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise InputError(
            f"{path} cannot be read as JSON ({exc}); give COCO's captions or dataset_*.json."
        ) from exc
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise InputError(
            f"{path} has no list \"images\"; give COCO's captions or Karpathy's dataset_*.json."
        )
    if "annotations" not in content:
        return _gathered(path, _karpathy(path, images, split))
    if split is not None:
        raise InputError(f"{path} holds COCO's captions, without splits; leave --split out.")
    return _gathered(path, _coco(path, images, content["annotations"]))


def _coco(path: Path, images: list[Any], annotations: Any) -> list[tuple[str, str]]:
    """File name and caption of each annotation."""
    names: dict[Any, str] = {}
    for number, image in enumerate(images):
        try:
            names[image["id"]] = str(image["file_name"])
        except (KeyError, TypeError) as exc:
            raise _malformed(path, "images", number, "id and file_name") from exc
    rows = []
    for number, annotation in enumerate(annotations if isinstance(annotations, list) else [None]):
        try:
            rows.append((names[annotation["image_id"]], str(annotation["caption"])))
        except (KeyError, TypeError) as exc:
            what = "caption and the image_id of one of its images"
            raise _malformed(path, "annotations", number, what) from exc
    return rows


def _karpathy(path: Path, images: list[Any], split: str | None) -> list[tuple[str, str]]:
    """File name and sentence of each sentence of a split."""
    rows, splits = [], set()
    for number, image in enumerate(images):
        try:
            splits.add(str(image["split"]))
            if image["split"] == split:
                rows += [(str(image["filename"]), str(s["raw"])) for s in image["sentences"]]
        except (KeyError, TypeError) as exc:
            what = "filename, split and sentences with raw"
            raise _malformed(path, "images", number, what) from exc
    if split not in splits:
        got = "no split was chosen" if split is None else f'got "{shorten(split)}"'
        raise InputError(
            f"{path} has the splits {', '.join(sorted(splits)) or '(none)'} and {got}; "
            "choose one of them with --split."
        )
    return rows


def _malformed(path: Path, part: str, number: int, what: str) -> InputError:
    return InputError(f'Entry {number} of "{part}" in {path} is malformed; it must have {what}.')


def _gathered(path: Path, rows: list[tuple[str, str]]) -> Captions:
    """Captions by image; those without words or without an image are left out."""
    texts: Captions = {}
    for name, text in rows:
        if name and (caption := " ".join(text.split())):
            texts.setdefault(name, []).append(caption)
    if not texts:
        raise InputError(f"{path} holds no caption; give one image and caption a line.")
    return texts
