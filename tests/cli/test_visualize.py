"""`atas-deploy visualize`: files, several models, video, refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from atas_deploy.cli.main import main

Visualize = Callable[..., Result]


@pytest.fixture
def visualize(tmp_path: Path) -> Visualize:
    """Run the command with a small encoder input, results in `out`."""
    fast = ["--short-side", "64", "--no-cache", "--out", str(tmp_path / "out")]
    return lambda *args: CliRunner().invoke(main, ["visualize", *map(str, args), *fast])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small picture, 60 x 80."""
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(image).resize((80, 60), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def names(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*ml")) + sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.png")
    )


def test_a_picture_becomes_a_grid_and_a_page(
    photo: Path, tmp_path: Path, visualize: Visualize
) -> None:
    """And a line that names the page."""
    result = visualize(photo, "--classes", "sky,tree")
    assert result.exit_code == 0
    assert names(tmp_path / "out") == ["photo.visual.html", "photo.visual.png"]
    assert result.stdout.startswith("1 of 1 input shown in ")
    assert result.stdout.rstrip().endswith("photo.visual.html in a browser")


def test_pages_are_called_by_the_name_of_the_file_alone(
    photo: Path, clip: Callable[..., Path], tmp_path: Path, visualize: Visualize
) -> None:
    """They tell nothing of the folders on this machine; of a video they tell the time."""
    assert visualize(photo, clip(tmp_path / "clip.mp4"), "--at", "0.2").exit_code == 0
    for name, title in (("photo", "photo.png"), ("clip", "clip.mp4 at 0.2 s")):
        page = (tmp_path / "out" / f"{name}.visual.html").read_text()
        assert f"<h1>{title}</h1>" in page
        assert str(tmp_path) not in page


def test_each_map_as_a_picture_of_its_own(
    photo: Path, tmp_path: Path, visualize: Visualize
) -> None:
    """With `--separate`, in the size of the picture; words that look alike get other names."""
    result = visualize(photo, "--separate", "--no-page", "--classes", "a/b,a:b", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    maps = ["kmeans", "pca", "similarity", "word-a-b", "word-a-b-2"]
    wanted = ["photo.visual.png", *(f"photo.visual/{name}.png" for name in maps)]
    assert names(tmp_path / "out") == sorted(wanted)
    with Image.open(tmp_path / "out" / "photo.visual" / "pca.png") as image:
        assert image.size == (80, 60)


def test_a_part_of_the_words_is_said_to_be_one(
    photo: Path, tmp_path: Path, visualize: Visualize
) -> None:
    """The PNG has 12 of 14 words; `--separate` writes all."""
    command = [photo, "--classes", ",".join("abcdefghijklmn"), "--no-page"]
    summary = json.loads(visualize(*command, "--json").stdout)
    sentence = "photo.visual.png has the 12 likeliest of 14 words"
    assert summary["notes"] == [f"{sentence}; --separate writes them all."]
    result = visualize(*command, "--separate", "--force")
    assert f"{sentence}." in result.stderr
    maps = {path.stem for path in (tmp_path / "out" / "photo.visual").iterdir()}
    words = {f"word-{letter}" for letter in "abcdefghijklmn"}
    assert maps == {"kmeans", "pca", "similarity", *words}


def test_strips_are_shown(tmp_path: Path, visualize: Visualize) -> None:
    """High and wide ones, with one model and with two."""
    for name, size in (("high", (30, 800)), ("wide", (800, 8))):
        Image.new("RGB", size, (90, 140, 30)).save(tmp_path / f"{name}.png")
    pictures = tmp_path / "high.png", tmp_path / "wide.png"
    for more in ([], ["--model", "atas-tiny", "--model", "atas-tiny"]):
        result = visualize(*pictures, *more, "--force")
        assert (result.exit_code, result.exception) == (0, None)
        assert "2 of 2 inputs shown" in result.stdout


def test_maps_of_other_words_do_not_stay(photo: Path, tmp_path: Path, visualize: Visualize) -> None:
    """`--force` with other words leaves the maps of these alone, and what is no map."""
    maps = tmp_path / "out" / "photo.visual"
    assert visualize(photo, "--separate", "--classes", "sky").exit_code == 0
    (maps / "notes.txt").write_text("mine")
    assert visualize(photo, "--separate", "--classes", "tree", "--force").exit_code == 0
    assert (maps / "word-tree.png").exists()
    assert not (maps / "word-sky.png").exists()
    assert (maps / "notes.txt").exists()


def test_several_models_share_a_page(photo: Path, tmp_path: Path, visualize: Visualize) -> None:
    """Repeated `--model` makes views, in order; the summary lists them with their grids."""
    result = visualize(photo, "--model", "atas-tiny", "--model", "atas-tiny", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["complete"]
    (picture,) = summary["pictures"]
    assert [view["name"] for view in picture["views"]] == ["atas-tiny, sclip", "atas-tiny, sclip-2"]
    assert picture["views"][0]["grid"] == [4, 5]
    assert picture["files"] == ["photo.visual.png", "photo.visual.html"]


def test_a_frame_of_a_video(
    clip: Callable[..., Path], tmp_path: Path, visualize: Visualize
) -> None:
    """`--at` chooses it; each frame of the clip differs, and so do the pictures."""
    path = clip(tmp_path / "clip.mp4")
    shown = []
    for time in ("0", "0.3"):
        assert visualize(path, "--at", time, "--no-page", "--force").exit_code == 0
        shown.append((tmp_path / "out" / "clip.visual.png").read_bytes())
    assert shown[0] != shown[1]
    late = visualize(path, "--at", "9", "--no-page", "--force")
    assert late.exit_code == 1
    assert "clip.mp4" in late.stderr


def test_results_are_not_replaced_without_force(photo: Path, visualize: Visualize) -> None:
    """Exit code 2, before a model is opened; `--force` replaces them."""
    assert visualize(photo).exit_code == 0
    again = visualize(photo, "--model", "no-such-model")
    assert again.exit_code == 2
    assert "exists already; replace it with --force" in again.stderr
    assert visualize(photo, "--force").exit_code == 0


def test_an_input_is_never_replaced(photo: Path, tmp_path: Path, visualize: Visualize) -> None:
    """Not even with `--force`."""
    (tmp_path / "out").mkdir()
    trap = tmp_path / "out" / "photo.visual.png"
    trap.write_bytes(photo.read_bytes())
    result = visualize(photo, trap, "--force")
    assert result.exit_code == 2
    assert "is an input and would be replaced" in result.stderr
    assert trap.read_bytes() == photo.read_bytes()


def test_a_bad_input_does_not_spoil_the_others(
    photo: Path, tmp_path: Path, visualize: Visualize
) -> None:
    """Each gets a sentence that names it; exit code 1."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    result = visualize(tmp_path / "bad.png", photo, tmp_path / "missing.jpg")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2
    assert "bad.png" in errors[0]
    assert "missing.jpg does not exist" in errors[1]
    assert "1 of 3 inputs shown" in result.stdout


def test_results_in_a_folder_of_inputs_are_left_out(
    photo: Path, tmp_path: Path, visualize: Visualize
) -> None:
    """Results of an earlier run, by `--separate` too, are no inputs of the next."""
    photos = tmp_path / "photos"
    photos.mkdir()
    photo.rename(photos / "photo.png")
    for out in ("a", "b"):
        command = ["visualize", str(photos), "--short-side", "64", "--separate", "--json"]
        result = CliRunner().invoke(main, [*command, "--out", str(photos / out)])
        assert len(json.loads(result.stdout)["pictures"]) == 1


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["--patch", "80,10"], 1, r"photo.png: The point 80,10 is outside of the picture"),
        (["--patch", "10"], 2, "'10' is no point; write X,Y in pixels"),
        (["--kind", "pca,tsne"], 2, "Got 'tsne'; expected some of kmeans, pca, similarity, words"),
        (["--kind", "words"], 2, "Got --kind words without words; name some with --classes"),
        (["--kind", "words,pca"], 2, "Got --kind words without words; name some with --classes"),
        (["--clusters", "0"], 2, "0 is not in the range 1<=x<=64"),
        (["--classes", "sky", "--background", "none"], 2, "has nothing to compete with"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    photo: Path, tmp_path: Path, visualize: Visualize, args: list[str], code: int, sentence: str
) -> None:
    """Wrong options end with 2 and a picture that cannot be shown with 1; nothing is written."""
    result = visualize(photo, *args)
    assert result.exit_code == code
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert names(tmp_path / "out") == []
