"""The page in a real browser: clicks, keys, addresses, several models, hostile names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.palette import class_palette
from atas_deploy.media.heat import heat_colors
from atas_deploy.runtime.visual.page import write_page
from atas_deploy.runtime.visual.viewer import Visual

Ask = Callable[..., Any]
Browse = Callable[..., tuple[str, list[str]]]

CLICK = """
const box = parts[%(model)d].stage.getBoundingClientRect();
const x = box.left + box.width * (%(column)d + 0.5) / %(w)d;
const y = box.top + box.height * (%(row)d + 0.5) / %(h)d;
document.elementFromPoint(x, y).dispatchEvent(
  new MouseEvent("click", { clientX: x, clientY: y, bubbles: true }));
"""
SHOWN = "return { values: [...parts[0].values], hash: location.hash, state };"
PIXELS = """
const { canvas } = parts[0];
const got = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
return { size: [canvas.height, canvas.width], pixels: [...got] };
"""


@pytest.fixture
def page(visual: Visual, tmp_path: Path) -> Path:
    """The page of a picture in one view."""
    write_page(tmp_path / "photo.html", visual, title="photo.jpg")
    return tmp_path / "photo.html"


def click(row: int, column: int, visual: Visual, *, model: int = 0) -> str:
    """JavaScript that clicks into the middle of a patch."""
    h, w = visual.views[model].grid
    return CLICK % {"row": row, "column": column, "h": h, "w": w, "model": model}


def test_a_click_shows_the_similarity_of_the_patch(page: Path, visual: Visual, ask: Ask) -> None:
    """The values shown are numpy's cosines with the patch under the pointer."""
    view = visual.views[0]
    got = ask(page, click(4, 6, visual) + SHOWN, address="#view=pca")
    wanted = view.dense @ view.dense[4, 6]
    np.testing.assert_allclose(got["values"], wanted.ravel(), atol=0.02)
    assert (got["state"]["row"], got["state"]["column"]) == (4, 6)
    assert got["hash"] == "#patch=4,6&view=similarity"


def test_the_map_has_the_colours_of_its_values(page: Path, visual: Visual, ask: Ask) -> None:
    """Without smoothing the canvas is the heat colour of each cell."""
    view = visual.views[0]
    got = ask(page, 'byId("smooth").click();' + click(0, 1, visual) + PIXELS)
    values = view.dense @ view.dense[0, 1]
    level = (values - values.min()) / (values.max() - values.min())
    colors = heat_colors()[np.rint(255 * level).astype(int)].astype(int)
    assert got["size"] == list(view.grid)
    shown = np.reshape(got["pixels"], (*view.grid, 4))
    np.testing.assert_allclose(shown[..., :3], colors, atol=12)
    assert (shown[..., 3] == 255).all()


def test_smooth_maps_are_interpolated_as_in_the_png(page: Path, visual: Visual, ask: Ask) -> None:
    """The page's bicubic interpolation is OpenCV's."""
    import cv2

    view = visual.views[0]
    size = [side * 8 for side in view.grid]
    got = ask(page, f"return [...enlarge(parts[0].values, models[0].grid, 1, {size})];")
    wanted = cv2.resize(view.similarity, size[::-1], interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(np.reshape(got, size), wanted, atol=0.02)


def test_arrow_keys_move_the_patch_and_stop_at_the_edge(
    page: Path, visual: Visual, ask: Ask
) -> None:
    """From row 0, column 0: right, Shift+down, and far to the left."""
    keys = """
    for (const [key, shiftKey] of [["ArrowRight", false], ["ArrowDown", true],
        ["ArrowLeft", true], ["ArrowUp", false]])
      parts[0].stage.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
    """
    got = ask(page, keys + SHOWN, address="#patch=0,0")
    row = min(5, visual.views[0].grid[0] - 1) - 1
    assert (got["state"]["row"], got["state"]["column"]) == (row, 0)


def test_the_address_restores_the_view(page: Path, browse: Browse) -> None:
    """`#patch=row,column` and the rest are obeyed by the unchanged page, its policy included."""
    dom, console = browse(page, address="#patch=3,7&view=picture")
    assert console == []
    assert "Patch in row 4 of 6, column 8 of 9" in dom
    canvas = re.search(r'<canvas class="layer[^>]*>', dom)
    assert canvas is not None
    assert "hidden" in canvas[0]


@pytest.mark.parametrize(
    "address", ["#patch=-1,2", "#patch=99999,99999", "#view=x&model=7&word=no&scores=z", "#%zz&&=="]
)
def test_odd_addresses_do_no_harm(page: Path, visual: Visual, ask: Ask, address: str) -> None:
    """What cannot be is passed over or clamped."""
    state = ask(page, SHOWN, address=address)["state"]
    h, w = visual.views[0].grid
    assert 0 <= state["row"] < h
    assert 0 <= state["column"] < w
    assert state["view"] == "similarity"


@pytest.mark.parametrize("scores", ["probability", "cosine"])
def test_word_buttons_show_their_maps(page: Path, visual: Visual, ask: Ask, scores: str) -> None:
    """A word's values are those of Python within half of an 8-bit step."""
    script = """
    document.querySelector('#views input[value="words"]').click();
    document.querySelector('#words input[value="1"]').click();
    document.querySelector('#scores input[value="%s"]').click();
    """
    got = ask(page, script % scores + SHOWN)
    maps = getattr(visual.views[0].words, scores)
    step = (maps.max() - min(maps.min(), 0)) / 255
    np.testing.assert_allclose(got["values"], maps[..., 1].ravel(), atol=0.51 * step)


def test_clusters_have_the_colours_of_the_png(page: Path, visual: Visual, ask: Ask) -> None:
    """Without smoothing each cell has its cluster's colour."""
    got = ask(page, 'byId("smooth").click();' + PIXELS, address="#view=kmeans")
    view = visual.views[0]
    palette = class_palette(view.clusters.scores.shape[-1])[1:]
    shown = np.reshape(got["pixels"], (*view.grid, 4))[..., :3]
    np.testing.assert_array_equal(shown, palette[view.clusters.labels])


def test_a_click_chooses_the_same_place_in_all_models(
    two_views: Visual, tmp_path: Path, ask: Ask
) -> None:
    """Grids of other sizes get the patch that holds the place; each shows its own similarity."""
    write_page(tmp_path / "two.html", two_views, title="two")
    body = click(1, 1, two_views) + "return parts.map((part) => [...part.values]);"
    for view, got in zip(two_views.views, ask(tmp_path / "two.html", body), strict=True):
        (h, w), (h0, w0) = view.grid, two_views.views[0].grid
        patch = int(1.5 / h0 * h), int(1.5 / w0 * w)
        np.testing.assert_allclose(got, (view.dense @ view.dense[patch]).ravel(), atol=0.02)


def test_names_are_text_and_nothing_else(visual: Visual, tmp_path: Path, ask: Ask) -> None:
    """Neither a file name nor a word makes an element or runs."""
    title = '</title><script>document.body.id="hit"</script><img src=x onerror=alert(1)>&amp;'
    write_page(tmp_path / "hostile.html", visual, title=title)
    got = ask(
        tmp_path / "hostile.html",
        'return [document.title, document.querySelector("h1").textContent, document.body.id,'
        ' document.querySelectorAll("b, header img").length,'
        ' [...document.querySelectorAll("#words span")].map((span) => span.textContent)];',
    )
    assert got[1] == title
    assert got[0].startswith(title)
    assert got[2:] == ["", 0, ["sky", "tree", "<b>house</b>"]]


def test_no_foreign_script_runs(page: Path, browse: Browse) -> None:
    """The page's policy refuses a script that somebody put into it."""
    planted = page.with_name("planted.html")
    text = page.read_text().replace("</body>", '<script>document.body.id="hit"</script></body>')
    planted.write_text(text)
    dom, console = browse(planted)
    assert '<body id="hit"' not in dom
    assert any("Content Security Policy" in line for line in console)
