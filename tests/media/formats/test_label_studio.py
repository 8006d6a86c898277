"""Tests of Label Studio's tasks; its bit stream is unpacked here as its description says."""

import json
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atas_deploy.core.palette import class_palette
from atas_deploy.media.formats import write_label_studio
from atas_deploy.media.formats.brush import encode_brush


def unpack(stream: list[int]) -> npt.NDArray[np.uint8]:
    """Unpack a stream: a head, then runs of one value or of single ones."""
    bits = "".join(f"{byte:08b}" for byte in stream)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        assert place <= len(bits)
        return int(bits[place - count : place], 2)

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < total:
        repeated, size = take(1), take(2)
        count = take(lengths[size]) + 1
        out += [take(word)] * count if repeated else [take(word) for _ in range(count)]
    assert len(bits) - place < 8
    return np.array(out, np.uint8)


@settings(deadline=None, max_examples=100)
@given(
    mask=hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)
    )
)
def test_masks_come_back(mask: npt.NDArray[np.uint8]) -> None:
    """Unpacked, a stream is RGBA: 255 inside the mask and 0 outside."""
    pixels = unpack(list(encode_brush(mask))).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(pixels, np.repeat(255 * mask[..., None], 4, axis=2))


@pytest.mark.parametrize("run", [1, 2, 3, 4, 5, 64, 65, 16_384, 16_385, 40_000])
def test_runs_of_every_length(run: int) -> None:
    """Runs at and beyond the limits of each length of count come back."""
    mask = np.zeros((1, run + 3), np.uint8)
    mask[0, 2 : 2 + run] = 1
    np.testing.assert_array_equal(unpack(list(encode_brush(mask)))[3::4], 255 * mask[0])


def test_tasks_hold_the_masks(tmp_path: Path, items, maps, names) -> None:
    """Each task has an image and one prediction, whose regions are the classes present."""
    write_label_studio(tmp_path / "tasks.json", items(), names, palette=class_palette(4))
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    for task, item in zip(tasks, items(), strict=True):
        assert task["data"]["image"] == f"/data/local-files/?d={item.image}"
        [prediction] = task["predictions"]
        assert prediction["model_version"] == "atas-deploy"
        back = np.zeros((item.height, item.width), np.uint8)
        for region, entry in zip(prediction["result"], item.classes, strict=True):
            assert region["type"] == "brushlabels"
            assert region["score"] == entry["score"]
            assert (region["original_height"], region["original_width"]) == back.shape
            assert region["value"]["format"] == "rle"
            [label] = region["value"]["brushlabels"]
            inside = unpack(region["value"]["rle"]).reshape(*back.shape, 4)[..., 3] > 0
            back[inside] = names.index(label) + 1
        np.testing.assert_array_equal(back, maps[item.name])


def test_score_of_a_task_is_weighted_by_area(tmp_path: Path, items) -> None:
    """The prediction's score is that of its classes, each as much as it covers."""
    labels = {"a": np.array([[1, 1, 1, 3]], np.uint8), "b": np.zeros((1, 1), np.uint8)}
    write_label_studio(
        tmp_path / "tasks.json", items(labels), ["dog", "cat", "sky"], palette=class_palette(3)
    )
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores == [pytest.approx((3 * 1 / 8 + 3 / 8) / 4, abs=1e-4), 0]


def test_interface_fits_the_tasks(tmp_path: Path, items, maps) -> None:
    """The XML has the tags that regions refer to, and each label once, in its colour."""
    odd = ['<"dog" & cat>', "a\x01b", "a_b", "犬"]
    palette = class_palette(4)
    write_label_studio(tmp_path / "tasks.json", items(names=odd), odd, palette=palette)
    view = ElementTree.fromstring((tmp_path / "tasks.xml").read_text(encoding="utf-8"))
    labels = view.findall("BrushLabels/Label")
    values = [label.get("value") for label in labels]
    assert values == ['<"dog" & cat>', "a_b", "a_b_2", "犬"]
    assert [label.get("background") for label in labels] == [
        "#" + bytes(color).hex() for color in palette[1:]
    ]
    used = set()
    for task in json.loads((tmp_path / "tasks.json").read_text()):
        for region in task["predictions"][0]["result"]:
            brush, image = view.find("BrushLabels"), view.find("Image")
            assert brush is not None
            assert image is not None
            assert region["from_name"] == brush.get("name")
            assert region["to_name"] == image.get("name") == brush.get("toName")
            assert image.get("value") == "$image"
            used |= set(region["value"]["brushlabels"])
    assert used == set(values[:3])


def test_addresses_are_quoted(tmp_path: Path, items, maps) -> None:
    """Signs that mean something in an address are escaped; the beginning can be chosen."""
    odd = {"/data/a b#1?&é": maps["blobs"], "\udcff": maps["blobs"]}
    write_label_studio(
        tmp_path / "tasks.json",
        items(odd),
        ["dog", "cat"],
        palette=class_palette(2),
        image_root="https://example.org/",
    )
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    addresses = [task["data"]["image"] for task in tasks]
    assert addresses[0] == "https://example.org/data/a%20b%231%3F%26%C3%A9.jpg"
    assert unquote(addresses[1], errors="surrogateescape").endswith("/\udcff.jpg")
