"""Which entry belongs to which picture: never a guess."""

from pathlib import Path

import pytest

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations.matching import NamedEntries, NumberedEntries
from atas_deploy.media.annotations.picture import Picture

FILE = Path("x.json")


def find(names: list[str], name: str, frame: int | None = None) -> str | None:
    """The entry among names that a picture gets."""
    index = NamedEntries(FILE, names).find(Picture(name, (1, 1), frame))
    return None if index is None else names[index]


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        (["a.jpg", "b.jpg"], "b.jpg", "b.jpg"),
        (["a.jpg", "b.jpg"], "c.jpg", None),
        (["a.jpg"], "photos/a.jpg", "a.jpg"),
        (["train/a.jpg"], "a.jpg", "train/a.jpg"),
        (["C:\\data\\s\\a.jpg"], "photos/s/a.jpg", "C:\\data\\s\\a.jpg"),
        (["val/a.jpg"], "train/a.jpg", "val/a.jpg"),
        (["val/a.jpg", "test/a.jpg"], "train/a.jpg", None),
        (["C:\\data\\a.jpg"], "photos/a.jpg", "C:\\data\\a.jpg"),
        (["val/a.jpg", "train/a.png"], "train/a.jpg", "train/a.png"),
        (["a.jpg", "s/a.jpg"], "photos/t/a.jpg", "a.jpg"),
        (["s/a.jpg", "t/s/a.jpg"], "u/s/a.jpg", "s/a.jpg"),
        (["val/labels/a.txt", "train/labels/a.txt"], "x/train/images/a.jpg", "train/labels/a.txt"),
        (["labels/val/a.txt", "labels/train/a.txt"], "images/train/a.jpg", "labels/train/a.txt"),
        (["images/a.jpg"], "photos/a.jpg", "images/a.jpg"),
        (["./a.jpg"], "a.jpg", "./a.jpg"),
        (["a.jpg", "s/a.jpg"], "a.jpg", "a.jpg"),
        (["a.jpg", "s/a.jpg"], "photos/s/a.jpg", "s/a.jpg"),
        (["/data/s/a.jpg", "/data/t/a.jpg"], "photos/t/a.jpg", "/data/t/a.jpg"),
        (["a.png"], "a.jpg", "a.png"),
        (["a.png", "a.jpg"], "s/a.jpg", "a.jpg"),
        (["a.b.png", "a.png"], "a.b.jpg", "a.b.png"),
        (["s/a", "t/a"], "t/a.jpg", "t/a"),
        (["A.jpg"], "a.jpg", None),
    ],
)
def test_names(names: list[str], name: str, expected: str | None) -> None:
    """The whole name, then the last part, then that without suffix; folders decide."""
    assert find(names, name) == expected


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["s/a.jpg", "t/a.jpg"], "a.jpg"),
        (["x/s/a.jpg", "y/s/a.jpg"], "u/s/a.jpg"),
        (["a.png", "a.webp"], "a.jpg"),
    ],
)
def test_ambiguous_names(names: list[str], name: str) -> None:
    """Where two entries fit as well, both are named."""
    with pytest.raises(AnnotationError, match=f'{name} may be "{names[0]}" or "{names[1]}": name'):
        find(names, name)


@pytest.mark.parametrize("order", [1, -1])
def test_two_pictures_for_an_entry(order: int) -> None:
    """Two pictures of a name need its folders in the file, whichever comes first."""
    entries = NamedEntries(FILE, ["a.jpg"])
    first, second = [Picture(f"{folder}/a.jpg", (1, 1)) for folder in "st"][::order]
    assert entries.find(first) == entries.find(first) == 0
    with pytest.raises(AnnotationError, match=f'"a.jpg" may be {first} or {second}: name the'):
        entries.find(second)


def test_the_same_name_twice() -> None:
    """A file that lists a picture twice is refused."""
    with pytest.raises(AnnotationError, match=r'x.json: the picture "./a.jpg" is listed twice'):
        NamedEntries(FILE, ["a.jpg", "./a.jpg"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["clip/000012.png", "other/000012.png"], "clip/000012.png"),
        (["clip.mp4/000012.png"], "clip.mp4/000012.png"),
        (["s/clip.masks/000012.png", "t/clip.masks/000012.png"], "s/clip.masks/000012.png"),
        (["000012.png"], "000012.png"),
        (["clip/00012.png", "clip/00120.png"], "clip/00012.png"),
        (["clip/12.png"], "clip/12.png"),
        (["clip.mp4"], "clip.mp4"),
        (["other/000012.png", "clip.mov"], "clip.mov"),
        (["other/000012.png"], None),
        (["clip/000013.png"], None),
    ],
)
def test_frames(names: list[str], expected: str | None) -> None:
    """A frame is a numbered picture in a folder named like its video, or else the video."""
    assert find(names, "s/clip.mp4", 12) == expected


def test_numbers() -> None:
    """Frames count from `first` on; pictures by the number that is their name."""
    entries = NumberedEntries(FILE, [3, 8], noun="frame", first=1)
    assert entries.find(Picture("a.mp4", (1, 1), 2)) == 0
    assert entries.find(Picture("img/000008.jpg", (1, 1))) == 1
    assert entries.find(Picture("img/000009.jpg", (1, 1))) is None
    assert entries.unmatched() == []


@pytest.mark.parametrize("name", ["a.jpg", "-3.jpg", "٣.jpg", "3a.jpg", "²"])
def test_names_that_are_no_numbers(name: str) -> None:
    """They are told."""
    with pytest.raises(AnnotationError, match=r"by frame only, and the name of .* is no number"):
        NumberedEntries(FILE, [3], noun="frame").find(Picture(name, (1, 1)))


def test_the_better_match_owns_an_entry() -> None:
    """Whichever is asked for first; a picture that got its regions before is told."""
    near, far = Picture("y/s/a.jpg", (1, 1)), Picture("x/s/a.jpg", (1, 1))
    entries = NamedEntries(FILE, ["/data/y/s/a.jpg"])
    assert entries.find(near) == 0
    with pytest.raises(AnnotationError, match=r"may be y/s/a.jpg or x/s/a.jpg"):
        entries.find(far)
    entries = NamedEntries(FILE, ["/data/y/s/a.jpg"])
    assert entries.find(far) == entries.find(near) == 0
    (sentence,) = entries.faults.sentences
    assert '"/data/y/s/a.jpg" is y/s/a.jpg, but x/s/a.jpg, which was asked for first' in sentence


def test_many_pictures_of_a_name() -> None:
    """Folders tell 30,000 pictures apart, and each look-up compares a few only."""
    names = [f"scene{i}/rgb.png" for i in range(30_000)]
    entries = NamedEntries(FILE, names)
    found = [entries.find(Picture(f"/data/{name}", (1, 1))) for name in names]
    assert found == list(range(30_000))
    assert entries.find(Picture("/data/other/rgb.png", (1, 1))) is None
