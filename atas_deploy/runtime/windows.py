"""Sliding windows: how the encoder's input is cut, and what is merged."""

from dataclasses import dataclass

from atas_deploy.core.errors import ConfigError

MERGES = ("features", "pixels")
_MOST_OVERLAP = 8  # windows along an axis that see one pixel, when all of their features are kept


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows on the grid, merged as features: a cell gets their mean.

    Attributes:
        side: length of a window in cells.
        stride: from one window to the next, in cells.
    """

    side: int
    stride: int


@dataclass(frozen=True, slots=True)
class PixelWindows:
    """Windows anywhere, merged as logits pixel by pixel, as the published protocols do.

    The picture is resized to exactly the short side, which need be no multiple of anything. A
    window is no longer than the picture. Its pixels are stretched to the nearest size that the
    encoder takes, and the logits of its cells are spread over the pixels it had: 224 pixels need no
    stretching with patches of 14, 16 or 32 pixels.

    The features of all windows of a picture are held at once: about (side / stride)^2 times those
    of the whole picture, four times at half a window and 64 times at the least stride that
    `check_windows` lets pass. A picture has 16,384 cells of its own at most, so that is up to
    64 x 16,384 x D float32, 2 GiB for D = 512, for each picture in work; a batch has one.

    Attributes:
        side: length of a window in pixels; None = the whole picture is the only one.
        stride: from one window to the next, in pixels; None with one window.
    """

    side: int | None
    stride: int | None


def check_windows(window: int | None, stride: int | None, *, merge: str) -> None:
    """Refuse windows that fit no model.

    Args:
        window: side in pixels of the encoder's input; None = no windows.
        stride: from one window to the next in pixels; None = half a window.
        merge: "features" or "pixels".

    Raises:
        ConfigError: a stride without a window, gaps between windows, or more overlap of windows
            merged as pixels than memory holds.
    """
    if stride is None:
        return
    if window is None:
        raise ConfigError(f"Got a stride of {stride} without a window; give --window too.")
    if stride > window:
        raise ConfigError(
            f"The stride, {stride}, is longer than the window, {window}, and would leave gaps; "
            "give a stride up to the window."
        )
    if merge == "pixels" and window > _MOST_OVERLAP * stride:
        raise ConfigError(
            f"The stride, {stride}, is less than 1/{_MOST_OVERLAP} of the window, {window}; give a "
            "longer one, or merge features, which need less memory."
        )


def fit_windows(
    window: int | None, stride: int | None, *, merge: str, cell: int, multiple: int
) -> Windows | PixelWindows | None:
    """Fit windows that passed `check_windows` to a model.

    Those whose features are merged are rounded to what the encoder takes.

    Args:
        window: as for `check_windows`, and the next two.
        stride: of the windows.
        merge: what is averaged.
        cell: pixels along a cell of the grid.
        multiple: of this, the encoder's inputs are multiples.

    Returns:
        None if the picture is encoded whole, stretched to the grid.

    Raises:
        ConfigError: a window or stride shorter than the model takes.
    """
    if window is None:
        return PixelWindows(None, None) if merge == "pixels" else None
    stride = max(cell, window // 2) if stride is None else stride
    for name, length, least in (("window", window, multiple), ("stride", stride, cell)):
        if length < least:
            raise ConfigError(
                f"The {name} is {length} pixels; expected at least {least}, which the model needs."
            )
    if merge == "pixels":
        return PixelWindows(window, stride)
    side = round(window / multiple) * multiple // cell
    return Windows(side, min(side, round(stride / cell)))
