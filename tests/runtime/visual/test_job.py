"""Sources in, files out: what goes wrong with one does not touch the others."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import BackendError, ConfigError, OutputError
from atas_deploy.media.sources import find_sources
from atas_deploy.runtime.visual.job import VisualOptions, show_all
from atas_deploy.runtime.visual.viewer import Visual, Visualizer


class Stumbling(Visualizer):
    """Fails at pictures of 50 pixels in height."""

    error: Exception

    def __call__(self, image: np.ndarray, **settings: object) -> Visual:
        """As `Visualizer`, but for that."""
        if image.shape[0] == 50:
            raise self.error
        return super().__call__(image, **settings)  # type: ignore[arg-type]


class Silent:
    """Progress that nobody sees."""

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (BackendError("The engine ran out of memory."), "b.png: The engine ran out of memory."),
        (OutputError("c.html cannot be written."), "b.png: c.html cannot be written."),
        (ValueError("broadcast"), "b.png could not be shown (ValueError: broadcast)"),
        (MemoryError(), "b.png could not be shown (MemoryError);"),
    ],
)
def test_what_goes_wrong_with_a_picture_spares_the_others(
    tmp_path: Path, error: Exception, sentence: str
) -> None:
    """Those before and after it are shown; one sentence names it."""
    for name, height in (("a", 40), ("b", 50), ("c", 60)):
        Image.new("RGB", (60, height)).save(tmp_path / f"{name}.png")
    visualizer = Stumbling(short_side=32, cache=False)
    visualizer.error = error
    shown = show_all(
        visualizer,
        find_sources([str(tmp_path)], exclude=tmp_path / "out"),
        tmp_path / "out",
        options=VisualOptions(page=False),
        progress=Silent(),
    )
    assert [Path(entry["source"]).name for entry in shown.pictures] == ["a.png", "c.png"]
    (failure,) = shown.failures
    assert sentence in failure["error"]
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a.visual.png", "c.visual.png"]


@pytest.mark.parametrize(
    "setting", [{"opacity": float("nan")}, {"opacity": True}, {"point": (1,)}, {"kinds": ()}]
)
def test_options_that_cannot_be_used_are_refused(setting: dict[str, object]) -> None:
    """One sentence."""
    with pytest.raises(ConfigError):
        VisualOptions(**setting)  # type: ignore[arg-type]
