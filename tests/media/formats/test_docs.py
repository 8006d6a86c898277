"""The page on formats: its code runs, on the files that it names."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.palette import class_palette
from atas_deploy.core.results import Segmentation
from atas_deploy.media import formats

PAGE = Path(__file__).resolve().parents[3] / "docs" / "formats.md"
BLOCKS = re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photograph and all files that a run makes of it, in the working folder."""
    labels = np.zeros((48, 64), np.uint8)
    labels[4:20, 8:40], labels[30:, :] = 1, 2
    names, palette = ("dog", "grass"), class_palette(2)
    scores, probability = np.ones(2, np.float32), np.full(labels.shape, 0.75, np.float32)
    result = Segmentation(labels, names, scores, probability)

    def items() -> list[formats.Labelled]:
        return [formats.Labelled("photo", "photo.jpg", 48, 64, labels.copy, result.summary())]

    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48)).save("photo.jpg")
    formats.write_label_png(folder / "photo.labels.png", labels, palette)
    formats.write_npz(folder / "photo.npz", result)
    formats.write_coco_dataset(folder / "coco.json", items(), names)
    formats.write_coco_results(folder / "coco_results.json", items())
    formats.write_polygons(folder / "polygons.jsonl", items())
    formats.write_cvat(folder / "cvat.zip", items(), names, palette=palette)
    formats.write_label_studio(folder / "label_studio.json", items(), names, palette=palette)
    return folder


@pytest.mark.parametrize(("title", "code"), BLOCKS, ids=[title for title, _ in BLOCKS])
def test_code_runs(run: Path, title: str, code: str) -> None:
    """Each block of code runs where the results lie, and does what it says."""
    known: dict[str, object] = {}
    exec(compile(code, f"{PAGE.name}: {title}", "exec"), known)  # the page is ours
    mask = known.get("mask", known.get("dog"))
    if mask is not None:
        assert np.sum(mask) in {16 * 32, 18 * 64}
    if title == "CVAT":
        assert list(known["colors"]) == ["background", "dog", "grass"]
    if title == "Label Studio":
        assert "https://example.org/photos/photo.jpg" in (run / "label_studio.json").read_text()


def test_every_format_is_shown() -> None:
    """Each section has code."""
    assert [title for title, _ in BLOCKS] == re.findall(r"^## (.+)$", PAGE.read_text(), re.M)
