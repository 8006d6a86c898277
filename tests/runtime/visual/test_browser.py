"""The page in a real browser: clicks, keys, addresses, several models, hostile names."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.palette import class_palette
from atas_deploy.media.heat import heat_colors
from atas_deploy.runtime.visual.page import write_page
from atas_deploy.runtime.visual.viewer import Visual, Visualizer

Ask = Callable[..., Any]
Words = Callable[[int], Visual]
Browse = Callable[..., tuple[str, list[str]]]

CLICK = """
const box = parts[%(model)d].stage.getBoundingClientRect();
const x = box.left + box.width * (%(column)d + 0.5) / %(w)d;
const y = box.top + box.height * (%(row)d + 0.5) / %(h)d;
document.elementFromPoint(x, y).dispatchEvent(
  new MouseEvent("click", { clientX: x, clientY: y, bubbles: true }));
"""
SHOWN = """
return { values: [...parts[0].values], hash: address(), state,
  patches: models.map((model) => patchAt(model, state.y, state.x)),
  status: byId("status").textContent };
"""
KEYS = """
for (const [key, shiftKey] of %(keys)s)
  parts[%(model)d].stage.dispatchEvent(
    new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
"""
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


def press(*keys: str, model: int = 0) -> str:
    """JavaScript that presses keys: arrows by their directions, "Enter"; "Shift+" before one."""
    named = [
        [key if key == "Enter" else f"Arrow{key.removeprefix('Shift+')}", key.startswith("Shift+")]
        for key in keys
    ]
    return KEYS % {"keys": json.dumps(named), "model": model}


def test_a_click_shows_the_similarity_of_the_patch(page: Path, visual: Visual, ask: Ask) -> None:
    """The values shown are numpy's cosines with the patch under the pointer."""
    view = visual.views[0]
    got = ask(page, click(4, 6, visual) + SHOWN, address="#view=pca")
    wanted = view.dense @ view.dense[4, 6]
    np.testing.assert_allclose(got["values"], wanted.ravel(), atol=0.02)
    assert got["patches"] == [[4, 6]]
    x, y = (float(part) for part in got["hash"].split("=")[1].split("&")[0].split(","))
    assert (y, x) == pytest.approx((4.5 / 6, 6.5 / 9), abs=0.01)
    assert got["hash"].endswith("&view=similarity")


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
    got = ask(page, press("Right", "Shift+Down", "Shift+Left", "Up") + SHOWN, address="#point=0,0")
    row = min(5, visual.views[0].grid[0] - 1) - 1
    assert got["patches"] == [[row, 0]]


def test_keys_keep_the_map_and_enter_shows_what_is_alike(page: Path, ask: Ask) -> None:
    """So that values of words and clusters can be read by keyboard."""
    word = "#point=0,0&view=words&word=1"
    got = ask(page, press("Right") + SHOWN, address=word)
    assert (got["state"]["view"], got["patches"]) == ("words", [[0, 1]])
    got = ask(page, press("Enter") + SHOWN, address=word)
    assert (got["state"]["view"], got["patches"]) == ("similarity", [[0, 0]])


def test_the_address_restores_the_view(page: Path, browse: Browse) -> None:
    """`#point=x,y` and the rest are obeyed by the unchanged page, its policy included."""
    dom, console = browse(page, address="#point=0.8,0.6&view=picture")
    assert console == []
    assert "Patch in row 4 of 6, column 8 of 9" in dom
    canvas = re.search(r'<canvas class="layer[^>]*>', dom)
    assert canvas is not None
    assert "hidden" in canvas[0]


@pytest.mark.parametrize(
    "address",
    [
        "#point=-1,2",
        "#point=99999,99999",
        "#point=..,1",
        "#view=x&model=7&word=no&scores=z",
        "#%zz&&==",
    ],
)
def test_odd_addresses_do_no_harm(page: Path, visual: Visual, ask: Ask, address: str) -> None:
    """What cannot be is passed over or clamped."""
    got = ask(page, SHOWN, address=address)
    (row, column), (h, w) = got["patches"][0], visual.views[0].grid
    assert 0 <= row < h
    assert 0 <= column < w
    assert got["state"]["view"] == "similarity"


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
    """Grids of other sizes get the patch that holds the point; each shows its own similarity."""
    write_page(tmp_path / "two.html", two_views, title="two")
    body = click(1, 1, two_views) + "return parts.map((part) => [...part.values]);"
    for view, got in zip(two_views.views, ask(tmp_path / "two.html", body), strict=True):
        (h, w), (h0, w0) = view.grid, two_views.views[0].grid
        patch = int(1.5 / h0 * h), int(1.5 / w0 * w)
        np.testing.assert_allclose(got, (view.dense @ view.dense[patch]).ravel(), atol=0.02)


def test_the_address_follows_what_is_shown(page: Path, visual: Visual, browse: Browse) -> None:
    """Some moments after a click, so that a held key does not flood the history."""
    script = click(4, 6, visual) + (
        "const answer = document.createElement('pre'); document.body.append(answer);"
        "setTimeout(() => { answer.textContent = 'at ' + location.hash; }, 1000);"
    )
    dom, console = browse(page, address="#view=pca", script=script)
    assert console == []
    assert re.search(r"at #point=0\.7\d*,0\.7\d*&amp;view=similarity", dom)


def test_a_click_on_any_patch_of_any_model_chooses_that_patch(
    two_views: Visual, tmp_path: Path, ask: Ask
) -> None:
    """On both grids, the address that it leaves leads to it again, and keys move on its grid."""
    write_page(tmp_path / "two.html", two_views, title="two")
    body = """
    const wrong = [];
    parts.forEach((part, number) => {
      const [h, w] = part.model.grid, box = part.stage.getBoundingClientRect();
      const check = (what, row, column) => {
        const got = patchAt(part.model, state.y, state.x).join();
        if (got !== [row, column].join()) wrong.push([what, number, row, column, got]);
      };
      for (let row = 0; row < h; row++) for (let column = 0; column < w; column++) {
        const clientX = box.left + box.width * (column + 0.5) / w;
        const clientY = box.top + box.height * (row + 0.5) / h;
        part.stage.dispatchEvent(new MouseEvent("click", { clientX, clientY }));
        check("click", row, column);
        const hash = address();
        Object.assign(state, { y: 0.3, x: 0.3 });
        readAddress(hash);
        check("address", row, column);
        part.stage.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        check("key", row, Math.min(column + 1, w - 1));
      }
    });
    return wrong;
    """
    assert ask(tmp_path / "two.html", body) == []


@pytest.mark.parametrize("point", [(25, 25), (0, 0), (111.9, 71.9), (56, 36), (37.4, 12)])
def test_the_page_begins_with_the_patches_of_the_png(
    photo: np.ndarray, tmp_path: Path, ask: Ask, point: tuple[float, float]
) -> None:
    """Each model's own patch that holds the point, whatever its grid; its address leads there."""
    coarse, fine = (
        Visualizer(short_side=side, cache=False)(photo, point=point) for side in (96, 160)
    )
    visual = Visual(photo, (*coarse.views, *fine.views), (), coarse.place)
    page = tmp_path / "two.html"
    write_page(page, visual, title="two")
    wanted = [list(view.patch) for view in visual.views]
    got = ask(page, SHOWN)
    assert got["patches"] == wanted
    assert ask(page, SHOWN, address=got["hash"])["patches"] == wanted


def test_the_status_tells_what_was_chosen_and_its_value(
    page: Path, visual: Visual, ask: Ask
) -> None:
    """In words: the value of the patch, the ends of the map, and where it is largest."""
    got = ask(page, click(4, 6, visual) + press("Right") + SHOWN, address="#view=words")
    assert got["status"].startswith("Patch in row 5 of 6, column 8 of 9 (pixel ")
    got = ask(page, press("Right") + SHOWN, address="#point=0,0&view=words&word=1")
    maps = visual.views[0].words.probability[..., 1]  # type: ignore[union-attr]
    told = re.search(
        r"tree (\S+) here, from (\S+) to (\S+), the largest in row (\d+), column (\d+)\.$",
        got["status"],
    )
    assert told is not None
    numbers = [float(part) for part in told.groups()[:3]]
    assert numbers == pytest.approx([maps[0, 1], maps.min(), maps.max()], abs=0.01)
    assert maps[int(told[4]) - 1, int(told[5]) - 1] == pytest.approx(maps.max(), abs=0.01)


def test_pointing_at_a_patch_leaves_the_status_alone(
    two_views: Visual, tmp_path: Path, ask: Ask
) -> None:
    """The value stands beside each model's name, in no live region, and goes with the pointer."""
    write_page(tmp_path / "two.html", two_views, title="two")
    body = """
    const before = byId("status").textContent, box = parts[1].stage.getBoundingClientRect();
    const at = { clientX: box.left + box.width * 0.7, clientY: box.top + box.height * 0.3 };
    let writes = 0;
    parts[1].stage.dispatchEvent(new PointerEvent("pointermove", { ...at, pointerType: "mouse" }));
    const values = parts.map((part) => part.value.textContent);
    const live = parts.some((part) => part.value.closest("[role=status], [aria-live]"));
    parts[1].stage.dispatchEvent(new PointerEvent("pointerleave"));
    return { same: byId("status").textContent === before, values, live,
      after: parts.map((part) => part.value.textContent + part.over.hidden) };
    """
    got = ask(tmp_path / "two.html", body)
    wanted = [
        view.similarity[int(0.3 * view.grid[0]), int(0.7 * view.grid[1])]
        for view in two_views.views
    ]
    assert [float(value) for value in got["values"]] == pytest.approx(wanted, abs=0.02)
    assert (got["same"], got["live"], got["after"]) == (True, False, ["true", "true"])


def test_many_words_can_be_filtered(many_words: Words, tmp_path: Path, ask: Ask) -> None:
    """The field leaves the words that contain a text; Enter chooses the first of them."""
    write_page(tmp_path / "many.html", many_words(200), title="many")
    body = """
    const field = byId("filter");
    field.value = "WORD 15";
    field.dispatchEvent(new Event("input"));
    const left = [...document.querySelectorAll("#words label:not([hidden])")].length;
    const found = byId("found").textContent;
    field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    return { shown: !byId("search").hidden, left, found, word: state.word };
    """
    got = ask(tmp_path / "many.html", body, address="#view=words")
    assert got == {"shown": True, "left": 11, "found": "11 of 200", "word": 15}


def test_a_word_of_the_address_is_in_sight(many_words: Words, tmp_path: Path, ask: Ask) -> None:
    """Of 1,200 words the box shows the chosen one."""
    write_page(tmp_path / "many.html", many_words(1200), title="many")
    body = """
    const box = byId("words").getBoundingClientRect();
    const checked = document.querySelector("#words input:checked");
    const label = checked.parentElement.getBoundingClientRect();
    return label.top >= box.top - 1 && label.bottom <= box.bottom + 1;
    """
    assert ask(tmp_path / "many.html", body, address="#view=words&word=900")


def test_few_words_have_no_filter(page: Path, ask: Ask) -> None:
    """Three buttons are found without."""
    assert ask(page, 'return byId("search").hidden;', address="#view=words")


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
