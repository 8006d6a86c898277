"""Tests of the colours of classes."""

import numpy as np
import numpy.typing as npt
import pytest

from atas_deploy.core.classes import MAX_CLASSES, ClassSpec
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.palette import class_palette, class_palette_for, oklab, void_label

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
COLOUR_BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def seen_with(kind: str, colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Simulate how a colour-blind viewer sees sRGB colours (N, 3)."""
    encoded = colors / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ COLOUR_BLINDNESS[kind].T, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def nearest_pair(colors: npt.NDArray[np.uint8]) -> float:
    """Return the smallest Oklab distance between two of the colours (N, 3)."""
    places = oklab(colors)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return float(distances[np.triu_indices(len(colors), k=1)].min())


@pytest.mark.parametrize("kind", COLOUR_BLINDNESS)
def test_first_twelve_stay_apart_for_every_viewer(kind: str) -> None:
    """The first twelve colours and black differ visibly with and without colour blindness."""
    assert nearest_pair(seen_with(kind, class_palette(12))) > 0.08


def test_background_is_black() -> None:
    """Row 0 is black and no class is."""
    palette = class_palette(300)
    assert palette[0].tolist() == [0, 0, 0]
    assert palette[1:].max(axis=1).min() >= 100


@pytest.mark.parametrize("num_classes", [0, 1, 12, 13, 150, 256, 257, 1_203])
def test_colors_do_not_depend_on_the_number_of_classes(num_classes: int) -> None:
    """A class keeps its colour when others are added."""
    palette = class_palette(num_classes)
    assert palette.shape == (num_classes + 1, 3)
    assert palette.dtype == np.uint8
    np.testing.assert_array_equal(palette, class_palette(MAX_CLASSES)[: num_classes + 1])


def test_many_classes_stay_apart() -> None:
    """The first 150 colours are visibly different; all 65,535 are different."""
    assert nearest_pair(class_palette(150)) > 0.05
    assert len(np.unique(class_palette(MAX_CLASSES), axis=0)) == MAX_CLASSES + 1


@pytest.mark.parametrize(
    ("num_classes", "void"), [(1, 255), (254, 255), (255, 65_535), (MAX_CLASSES, 65_535)]
)
def test_void_is_no_class(num_classes: int, void: int) -> None:
    """Void is the highest value of a label map and never the label of a class."""
    assert void_label(num_classes) == void
    assert num_classes < void


def test_palettes_are_fresh_arrays() -> None:
    """Changing a palette changes no later one."""
    class_palette(3)[:] = 7
    assert class_palette(3)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("num_classes", [-1, MAX_CLASSES + 1])
def test_impossible_numbers_are_refused(num_classes: int) -> None:
    """A number of classes out of range is an error that names the range."""
    with pytest.raises(ConfigError, match="0 to 65534"):
        class_palette(num_classes)


def specs(*colors: tuple[int, int, int] | None) -> list[ClassSpec]:
    """Classes that ask for these colours."""
    return [ClassSpec(str(i), (str(i),), color) for i, color in enumerate(colors)]


def test_given_colors_are_kept() -> None:
    """A class gets the colour it asks for, even one that another has; others keep their own."""
    asked = specs(None, (7, 8, 9), (7, 8, 9), None)
    palette = class_palette_for(asked)
    assert palette[2].tolist() == palette[3].tolist() == [7, 8, 9]
    np.testing.assert_array_equal(palette[[0, 1, 4]], class_palette(4)[[0, 1, 4]])
    np.testing.assert_array_equal(class_palette_for(specs(None, None)), class_palette(2))


def test_others_move_away_from_given_colors() -> None:
    """A class whose own colour is asked for by another gets one that is unlike all."""
    first, second = class_palette(2)[1:].tolist()
    alike = (second[0] - 2, second[1], second[2])
    palette = class_palette_for(specs(None, None, tuple(first), alike, None))
    assert palette[3:5].tolist() == [first, list(alike)]
    assert nearest_pair(palette) > 0.1


@pytest.mark.parametrize("num_classes", [300, MAX_CLASSES])
def test_many_given_colors(num_classes: int) -> None:
    """With many classes, too, all colours differ."""
    reverse = class_palette(num_classes)[:0:-1].tolist()
    asked = [tuple(color) if i % 2 else None for i, color in enumerate(reverse)]
    palette = class_palette_for(specs(*asked))
    assert len(np.unique(palette, axis=0)) == num_classes + 1
    for row, color in zip(palette[1:][1::2], asked[1::2], strict=True):
        assert tuple(row) == color
