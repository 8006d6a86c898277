"""A picture as two views see it, and a browser to open pages in."""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.runtime.visual.maps import WordMaps
from atas_deploy.runtime.visual.viewer import Visual, Visualizer

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--enable-logging=stderr", "--window-size=1280,1600"),
    *("--virtual-time-budget=5000", "--dump-dom"),
)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A picture of some shapes, (72, 112, 3) uint8 RGB."""
    rows, columns = np.mgrid[:72, :112]
    image = np.stack([rows * 3, columns * 2, 255 - rows - columns], -1).astype(np.uint8)
    image[20:50, 30:60] = (220, 40, 30)
    image[(rows - 40) ** 2 + (columns - 85) ** 2 < 300] = (30, 160, 60)
    return image


@pytest.fixture(scope="session")
def visual(photo: np.ndarray) -> Visual:
    """It in one view of atas-tiny with three words, the patch in row 2 and column 3 chosen."""
    visualizer = Visualizer(classes="sky,tree|bush,<b>house</b>", short_side=96, cache=False)
    return visualizer(photo, point=(50, 36))


@pytest.fixture(scope="session")
def many_words(visual: Visual) -> Callable[[int], Visual]:
    """It with as many words, "word 0" and so on: the later one, the likelier."""

    def make(count: int) -> Visual:
        view = visual.views[0]
        peaks = np.arange(1, count + 1, dtype=np.float32) / count
        maps = np.random.default_rng(0).random((*view.grid, count), np.float32) * peaks
        maps[0, 0] = peaks
        names = tuple(f"word {number}" for number in range(count))
        words = replace(view, words=WordMaps(maps, maps / 2))
        return Visual(visual.image, (words,), names)

    return make


@pytest.fixture(scope="session")
def two_views(photo: np.ndarray) -> Visual:
    """It by atas-tiny on two grids, as before and after."""
    coarse, fine = (Visualizer(short_side=side, cache=False)(photo) for side in (96, 160))
    return Visual(photo, (*coarse.views, *fine.views), ())


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome; skips where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(
            f"no browser to test the page in: install one of {', '.join(BROWSERS)}, or set CHROMIUM"
        )
    return found


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Callable[..., tuple[str, list[str]]]:
    """Open a page: its DOM after its scripts ran, and the lines of the console."""

    def run(page: Path, *, address: str = "", script: str = "") -> tuple[str, list[str]]:
        if script:  # the page's own policy would refuse it
            text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
            page = tmp_path / f"scripted-{page.name}"
            page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
        done = subprocess.run(
            [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri() + address],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]

    return run


@pytest.fixture
def ask(browse: Callable[..., tuple[str, list[str]]]) -> Callable[..., Any]:
    """Run a function body in a page and return what it returns; the console must stay silent."""

    def run(page: Path, body: str, *, address: str = "") -> Any:
        script = (
            "const answer = document.createElement('pre'); answer.id = 'answer';"
            f"answer.textContent = JSON.stringify((() => {{ {body} }})());"
            "document.body.append(answer);"
        )
        dom, console = browse(page, address=address, script=script)
        assert console == []
        (answer,) = re.findall(r'<pre id="answer">(.*?)</pre>', dom, re.S)
        return json.loads(html.unescape(answer))

    return run
