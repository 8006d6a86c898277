"""The page as a file: whole, small, closed, and free of what users wrote."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import OutputError
from atas_deploy.runtime.visual import pack
from atas_deploy.runtime.visual.page import write_page
from atas_deploy.runtime.visual.viewer import Visual


def read_data(page: Path) -> dict:
    """The data of a page."""
    (text,) = re.findall(r'<script id="data"[^>]*>(.*?)</script>', page.read_text(), re.S)
    return json.loads(text)


def test_the_page_needs_nothing_else(visual: Visual, tmp_path: Path) -> None:
    """No address but data: in it; its policy names its own script and style by their hashes."""
    page = tmp_path / "page.html"
    assert write_page(page, visual, title="photo.jpg") == []
    text = page.read_text()
    assert not re.search(r"https?:|\burl\(|@import|<(link|iframe|object|embed)\b", text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        (source,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy


def test_features_come_back(visual: Visual, tmp_path: Path) -> None:
    """Decoded as the script does, they are the features in 8 bits."""
    page = tmp_path / "page.html"
    write_page(page, visual, title="photo.jpg")
    (model,) = read_data(page)["models"]
    values = np.frombuffer(base64.b64decode(model["features"]), np.int8)
    scales = np.frombuffer(base64.b64decode(model["scales"]), "<f4")
    restored = values.reshape(len(scales), -1) * scales[:, None]
    dense = visual.views[0].dense
    np.testing.assert_allclose(restored, dense.reshape(len(scales), -1), atol=scales.max() / 2)
    assert model["grid"] == list(visual.views[0].grid)


def test_names_cannot_leave_their_place(visual: Visual, tmp_path: Path) -> None:
    """No "<" in the data; in the markup it is escaped."""
    page = tmp_path / "page.html"
    write_page(page, visual, title="</script><script>alert(1)</script>.jpg")
    text = page.read_text()
    assert "<b>house</b>" in read_data(page)["words"]
    assert "<b>house" not in text
    assert "<script>alert" not in text
    assert "<h1>&lt;/script&gt;" in text


def test_names_that_are_no_text_are_written(visual: Visual, tmp_path: Path) -> None:
    """A file name of bytes that are no UTF-8 gets question marks."""
    page = tmp_path / "page.html"
    write_page(page, visual, title="caf\udce9.jpg")
    assert "<h1>caf?.jpg</h1>" in page.read_text(encoding="utf-8")


def test_large_grids_are_averaged_with_a_sentence(
    two_views: Visual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the models that do not fit, which the page says as well."""
    cells, width = 6 * 9, two_views.views[0].dense.shape[-1]
    monkeypatch.setattr(pack, "MAX_BYTES", 2 * cells * (width + 8))
    page = tmp_path / "page.html"
    (note,) = write_page(page, two_views, title="photo.jpg")
    assert re.search(r"on 5 x 9 patches instead of 10 x 16, .* a smaller --short-side", note)
    assert "instead of 10 x 16" in page.read_text()
    first, second = read_data(page)["models"]
    assert (first["grid"], second["grid"]) == ([6, 9], [5, 9])
    assert len(base64.b64decode(second["labels"])) == 5 * 9


def test_of_too_many_words_the_likeliest_stay(
    many_words: Callable[[int], Visual], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as fit on the whole grid, in their order, with their own maps and a sentence."""
    visual = many_words(200)
    view, most = visual.views[0], 150
    monkeypatch.setattr(pack, "MAX_BYTES", 54 * (view.dense.shape[-1] + 8 + 2 * most))
    page = tmp_path / "page.html"
    (note,) = write_page(page, visual, title="photo.jpg")
    assert re.fullmatch(r"The page has the 150 likeliest of 200 words, so .* MB\.", note)
    data = read_data(page)
    assert data["words"] == [f"word {number}" for number in range(50, 200)]
    (model,) = data["models"]
    assert model["grid"] == [6, 9]
    shown = model["words"]["probability"]
    cells = np.frombuffer(base64.b64decode(shown["cells"]), np.uint8).reshape(6, 9, most)
    wanted = view.words.probability[..., 50:]  # type: ignore[union-attr]
    np.testing.assert_allclose(cells / 255, wanted, atol=0.51 / 255)


def test_a_page_that_cannot_be_written_leaves_nothing(visual: Visual, tmp_path: Path) -> None:
    """One sentence, and no part of a file."""
    with pytest.raises(OutputError, match="folder does not exist"):
        write_page(tmp_path / "missing" / "page.html", visual, title="photo.jpg")
    assert list(tmp_path.iterdir()) == []
