"""Images and captions from folders, tar files and CSV files."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.core.errors import InputError
from atas_deploy.training.pairs import crop, open_pairs, read_captions


def test_folder_and_tar_give_the_same_pairs(
    photo_folder: Path, captions_file: Path, tmp_path: Path
) -> None:
    """Names, captions and pixels are equal."""
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photo_folder, arcname="photos")
    folder, packed = (
        open_pairs(photo_folder, captions_file),
        open_pairs(tmp_path / "photos.tar", captions_file),
    )
    assert folder.names == packed.names
    assert folder.captions == packed.captions
    for i in range(len(folder)):
        first, second = folder.image(i), packed.image(i)
        assert first is not None
        assert second is not None
        assert np.array_equal(first, second)


def test_captions_without_image_are_counted(photo_folder: Path, captions_file: Path) -> None:
    """They are named, not fatal."""
    (photo_folder / "05.png").unlink()
    pairs = open_pairs(photo_folder, captions_file)
    assert pairs.missing == ["05.png"]
    assert len(pairs) == 11


def test_a_subset_keeps_the_order_asked_for(photo_folder: Path, captions_file: Path) -> None:
    """Captions follow their images."""
    part = open_pairs(photo_folder, captions_file).subset(["07.png", "00.png"])
    assert part.captions == [["a green wall", "green"], ["a red wall", "red"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", 'no column "image"'),
        ("image,text\na.png,hello\n", 'no column "caption"'),
        ("image,caption\n", "holds no caption"),
        ("image,caption\na.png\n", "holds no caption"),
        ("image,caption\nelsewhere.png,a dog\n", "None of the 1 images"),
    ],
)
def test_bad_captions_files_are_refused(
    photo_folder: Path, tmp_path: Path, content: str, message: str
) -> None:
    """One sentence says what is wrong."""
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        open_pairs(photo_folder, path)


def test_binary_captions_are_refused(tmp_path: Path) -> None:
    """A file of another kind is not read as text."""
    path = tmp_path / "captions.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot be read"):
        read_captions(path)


def test_missing_folders_and_broken_tars_are_refused(captions_file: Path, tmp_path: Path) -> None:
    """Both are user errors."""
    with pytest.raises(InputError, match="neither a folder"):
        open_pairs(tmp_path / "nowhere", captions_file)
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="uncompressed tar"):
        open_pairs(tmp_path / "broken.tar", captions_file)


@given(
    height=st.integers(8, 60),
    width=st.integers(8, 60),
    scale=st.floats(0.1, 1.0),
    mode=st.sampled_from(["squash", "shortest"]),
    seed=st.integers(0, 100),
)
def test_crops_are_square_and_inside(
    height: int, width: int, scale: float, mode: str, seed: int
) -> None:
    """Any image gives a crop of the size asked for, of the image's own colours."""
    image = np.full((height, width, 3), 77, np.uint8)
    got = crop(image, np.random.default_rng(seed), size=32, scale=scale, mode=mode)
    assert got.shape == (32, 32, 3)
    assert np.abs(got.astype(int) - 77).max() <= 1


def test_an_image_of_the_right_size_is_kept() -> None:
    """Nothing is resampled when nothing has to be."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    got = crop(image, np.random.default_rng(0), size=32, scale=1.0, mode="squash")
    assert np.array_equal(got, image)
