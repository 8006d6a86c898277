"""`atas-deploy segment --format`: what annotation tools read, made at the end of a run."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from click.testing import Result
from PIL import Image

Segment = Callable[..., Result]

ALL = "coco,polygons,cvat,label-studio"


def test_all_formats(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path], clip: Callable[..., Path]
) -> None:
    """Images, and frames whose masks were kept, stand in each format under names like theirs."""
    folder, out = photos(tmp_path / "in", 3), tmp_path / "out"
    clip(folder / "clip.mp4", 2)
    options = ["--format", ALL, "--save-masks", "png", "--background", "none"]
    assert segment(folder, "--out", out, *options).exit_code == 0
    names = ["001.png", "002.png", "clip/000000.png", "clip/000001.png", "sub/000.png"]
    coco = json.loads((out / "coco.json").read_text())
    assert sorted(image["file_name"] for image in coco["images"]) == names
    assert [category["name"] for category in coco["categories"]] == ["sky", "tree"]
    ids = {image["id"] for image in coco["images"]}
    scored = json.loads((out / "coco_results.json").read_text())
    assert {row["image_id"] for row in scored} == ids
    polygons = [json.loads(line) for line in (out / "polygons.jsonl").read_text().splitlines()]
    assert sorted(row["image"] for row in polygons) == names
    tasks = json.loads((out / "label_studio.json").read_text())
    assert len(tasks) == 5
    assert (out / "label_studio.xml").exists()
    record = json.loads((out / "run.json").read_text())
    assert all((out / name).exists() for names in record["formats"].values() for name in names)
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        listed = archive.read("ImageSets/Segmentation/default.txt").decode().split()
    assert sorted(listed) == [name.removesuffix(".png") for name in names]


def test_areas_agree(tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path]) -> None:
    """The areas of COCO's annotations are those of the label maps."""
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    options = ["--format", "coco", "--background", "none"]
    assert segment(folder, "--out", out, *options).exit_code == 0
    coco = json.loads((out / "coco.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    for annotation in coco["annotations"]:
        path = out / names[annotation["image_id"]].replace(".png", ".labels.png")
        with Image.open(path) as labels:
            count = int((np.asarray(labels) == annotation["category_id"]).sum())
        assert annotation["area"] == count


def test_a_format_in_the_way(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path]
) -> None:
    """A file of that name is kept, before any work is done; --force replaces it."""
    folder, out = photos(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir()
    (out / "coco.json").write_text("mine")
    refused = segment(folder, "--out", out, "--format", "coco")
    assert refused.exit_code == 2
    assert "coco.json exists already" in refused.output
    assert not (out / "results.jsonl").exists()
    assert segment(folder, "--out", out, "--format", "coco", "--force").exit_code == 0
    assert json.loads((out / "coco.json").read_text())["images"]


def test_formats_of_an_earlier_run_go(
    tmp_path: Path, segment: Segment, photos: Callable[[Path, int], Path]
) -> None:
    """--force, and a run that goes on, leave none that may tell of other results."""
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    assert segment(folder, "--out", out, "--format", "coco").exit_code == 0
    assert segment(folder, "--out", out, "--force", "--format", "polygons").exit_code == 0
    assert not list(out.glob("coco*"))
    assert segment(folder, "--out", out, "--resume", "--format", "polygons").exit_code == 0
    assert (out / "polygons.jsonl").exists()
    (out / "coco.json").write_text("mine")
    assert segment(folder, "--out", out, "--resume").exit_code == 0
    assert not (out / "polygons.jsonl").exists()
    assert json.loads((out / "run.json").read_text())["formats"] == {}
    assert (out / "coco.json").read_text() == "mine"
