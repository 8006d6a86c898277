"""The folder of a run: its name, and what may be written there."""

from pathlib import Path

import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.run_folder import default_folder, settle


def test_a_run_does_not_write_over_its_start(start: Path, photo_folder: Path) -> None:
    """Its teacher would be gone when it goes on."""
    said = {"images": (str(photo_folder),), "model": str(start)}
    with pytest.raises(ConfigError, match="holds the model to start from; name another folder"):
        settle(said, config=None, out=start, resume=False)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("photos", "photos"),
        ("photos/", "photos"),
        ("my/photos/**/*.jpg", "photos"),
        ("photos/dog-*.jpg", "dog"),
        ("lists/good.txt", "good"),
        ("data/shard-{0000..0099}.tar", "shard"),
        ("photos.2024", "photos.2024"),
    ],
)
def test_a_run_is_called_as_its_images(source: str, name: str) -> None:
    """Its folder lies in runs/ unless it is named."""
    assert default_folder([source]) == Path("runs") / name


def test_the_current_folder_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot alone is none."""
    monkeypatch.chdir(tmp_path)
    assert default_folder(["."]) == default_folder(["*.jpg"]) == Path("runs") / tmp_path.name
