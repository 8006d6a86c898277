"""Tests of lossless masks of a video's frames."""

import json
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as coco

from atas_deploy.core.errors import OutputError
from atas_deploy.media.video import Frame, MaskLines, MaskSequence

PALETTE = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
LABELS = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 3)
)


def frame(index: int) -> Frame:
    """Make a frame that carries a number and a time."""
    return Frame(
        index=index,
        time=index * 1_001 / 30_000,
        pts=1_001 * index,
        duration=1_001,
        time_base=Fraction(1, 30_000),
        convert=lambda: np.zeros((1, 1, 3), np.uint8),
    )


def open_masks(kind: str, folder: Path) -> MaskLines | MaskSequence:
    """Open one of the two writers under the name "masks"."""
    path = folder / "masks"
    return MaskLines(path) if kind == "lines" else MaskSequence(path, PALETTE)


def labels_of(line: dict[str, Any]) -> np.ndarray:
    """Turn a line back into a label map, as any user of COCO's tools can."""
    labels = np.zeros(line["size"], np.int64)
    for label, code in line["rle"].items():
        labels[coco.decode(code).astype(bool)] = int(label)
    return labels


@settings(deadline=None, max_examples=50)
@given(maps=st.lists(LABELS, min_size=1, max_size=4))
def test_lines_round_trip(maps: list[np.ndarray]) -> None:
    """Every label of every frame comes back from its line."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "masks.jsonl")
        with MaskLines(path) as out:
            for index, labels in enumerate(maps):
                out.write(labels, frame(3 * index))
        lines = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    assert [line["frame"] for line in lines] == [3 * index for index in range(len(maps))]
    for line, labels in zip(lines, maps, strict=True):
        np.testing.assert_array_equal(labels_of(line), labels)
        assert "0" not in line["rle"]
        assert all(code["size"] == list(labels.shape) for code in line["rle"].values())


def test_lines_hold_many_classes_and_void(tmp_path: Path) -> None:
    """Labels beyond 255, void included, are lines too."""
    labels = np.array([[0, 300, 300], [65_535, 1, 0]], np.uint16)
    with MaskLines(tmp_path / "a") as out:
        out.write(labels, frame(1))
    line = json.loads((tmp_path / "a").read_text())
    np.testing.assert_array_equal(labels_of(line), labels)
    assert line["time"] == 0.033367


@settings(deadline=None, max_examples=20)
@given(maps=st.lists(LABELS, min_size=1, max_size=3))
def test_sequence_round_trip(maps: list[np.ndarray]) -> None:
    """Every label map comes back from the PNG with its frame's number."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "clip.masks")
        with MaskSequence(path, PALETTE) as out:
            for index, labels in enumerate(maps):
                out.write(labels, frame(5 * index))
        for index, labels in enumerate(maps):
            with Image.open(path / f"{5 * index:06d}.png") as image:
                np.testing.assert_array_equal(np.asarray(image), labels)
                assert image.getpalette()[:12] == PALETTE.ravel().tolist()
        assert len(list(path.iterdir())) == len(maps)


@pytest.mark.parametrize("kind", ["lines", "folder"])
def test_appears_at_the_end(tmp_path: Path, kind: str) -> None:
    """While masks are written there is only a part; afterwards only the result."""
    with open_masks(kind, tmp_path) as out:
        out.write(np.zeros((2, 2), np.uint8), frame(0))
        (part,) = tmp_path.iterdir()
        assert part.name.startswith("masks.")
        assert part.suffix == ".part"
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


@pytest.mark.parametrize("kind", ["lines", "folder"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(tmp_path: Path, kind: str, error: type[BaseException]) -> None:
    """After an exception neither the result nor its part is there."""

    def fail() -> None:
        with open_masks(kind, tmp_path) as out:
            out.write(np.zeros((2, 2), np.uint8), frame(0))
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["lines", "folder"])
def test_caught_errors_keep_what_is_there(tmp_path: Path, kind: str) -> None:
    """An error that is caught inside the block leaves the frames before it."""
    with open_masks(kind, tmp_path) as out:
        out.write(np.ones((2, 2), np.uint8), frame(0))
        with pytest.raises(RuntimeError):
            raise RuntimeError
    result = tmp_path / "masks"
    assert len(list(result.iterdir()) if result.is_dir() else result.read_text().splitlines()) == 1


@pytest.mark.parametrize("kind", ["lines", "folder"])
def test_earlier_results_are_replaced(tmp_path: Path, kind: str) -> None:
    """A second run replaces the masks of the first, all of them."""
    for count in (3, 1):
        with open_masks(kind, tmp_path) as out:
            for index in range(count):
                out.write(np.ones((2, 2), np.uint8), frame(index))
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    result = tmp_path / "masks"
    assert len(list(result.iterdir()) if result.is_dir() else result.read_text().splitlines()) == 1


@pytest.mark.parametrize("kind", ["lines", "folder"])
def test_failure_keeps_earlier_results(tmp_path: Path, kind: str) -> None:
    """A failed second run leaves the masks of the first."""
    with open_masks(kind, tmp_path) as out:
        out.write(np.ones((2, 2), np.uint8), frame(7))

    def fail() -> None:
        with open_masks(kind, tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    result = tmp_path / "masks"
    if kind == "folder":
        assert [path.name for path in result.iterdir()] == ["000007.png"]
    else:
        assert json.loads(result.read_text())["frame"] == 7


@pytest.mark.parametrize("kind", ["lines", "folder"])
def test_no_frames(tmp_path: Path, kind: str) -> None:
    """Nothing written is an empty result, not an error."""
    with open_masks(kind, tmp_path):
        pass
    assert (tmp_path / "masks").exists()


def test_foreign_folders_are_not_removed(tmp_path: Path) -> None:
    """A folder with other files in it is left alone."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "thesis.docx").touch()
    with pytest.raises(OutputError, match="in the way"):
        MaskSequence(tmp_path / "masks", PALETTE)
    assert (tmp_path / "masks" / "thesis.docx").exists()


@pytest.mark.parametrize("kind", ["lines", "folder"])
def test_missing_parent(tmp_path: Path, kind: str) -> None:
    """A missing folder is found out before the work."""
    with pytest.raises(OutputError, match="folder does not exist"):
        open_masks(kind, tmp_path / "no")
