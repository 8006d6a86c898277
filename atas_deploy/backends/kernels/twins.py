"""What the kernels compute, in numpy: each function defines the method of its name of `Kernels`.

They round where the kernels do, so that results are equal; all but the product of features and
words and exponentials, whose last digits may differ. Plain and slow.

B frames, H W pixels, h w grid, D embedding width, Q queries, C classes
"""

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.kernels.taps import Taps, resize_taps
from atas_deploy.core.geometry import Size
from atas_deploy.core.masks.axis import Axis, pixel_axis
from atas_deploy.core.masks.definition import FloatArray, Labels, as_labels

Pixels = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.integer]

OUTLINE = 0.8  # share of white in an outline, as in `atas_deploy.media.overlay`
_PIXELS_PER_OUTLINE = 900  # as there
_LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # weights of red and blue


def resize(frames: Pixels, size: Size) -> Pixels:
    """Stretch frames (B, H, W, 3) uint8 to (B, *size, 3), as `core.geometry.resize_image`.

    OpenCV works with weights of 11 bits for some sizes: a value may differ by one level.
    """
    rows, columns = resize_taps((frames.shape[1], frames.shape[2]), size)
    out: FloatArray = np.zeros((len(frames), *size, 3), np.float32)
    for y, row_weight in _each_tap(rows, frames.shape[1]):
        line = np.zeros_like(out)
        for x, weight in _each_tap(columns, frames.shape[2]):
            line += weight[:, None] * frames[:, y[:, None], x]
        out += row_weight[:, None, None] * line
    return _levels(out)


def label_map(
    dense: FloatArray,
    queries: FloatArray,
    query_class: IntArray,
    *,
    size: Size,
    threshold: float | None = None,
) -> tuple[Labels, npt.NDArray[np.int32], FloatArray]:
    """Label every pixel, as defined in `atas_deploy.core.masks.definition`.

    Args:
        dense: (h, w, D) features of the grid.
        queries: (D, Q) text features times the logit scale.
        query_class: (Q,) class of each query, ascending.
        size: (H, W).
        threshold: least probability of a pixel that keeps its class; None keeps all.

    Returns:
        (H, W) labels, uint8, or uint16 beyond 254 classes; (h, w) int32 winning query of each node;
        (h, w) float32 its softmax probability.
    """
    return label_logits(dense @ queries, query_class, size=size, threshold=threshold)


def label_logits(
    logits: FloatArray, query_class: IntArray, *, size: Size, threshold: float | None = None
) -> tuple[Labels, npt.NDArray[np.int32], FloatArray]:
    """As `label_map`, from the logits (h, w, Q) of the nodes."""
    winners = logits.argmax(axis=2)
    logits = logits - logits.max(axis=2, keepdims=True)
    axes = pixel_axis(logits.shape[0], size[0]), pixel_axis(logits.shape[1], size[1])
    best, won = np.full(size, -np.inf, np.float32), np.zeros(size, np.intp)
    for query in range(logits.shape[2]):
        current = _interpolate(logits[..., query], *axes)
        np.copyto(won, query, where=current > best)
        np.maximum(best, current, out=best)
    labels = as_labels(query_class)[won]
    if threshold:
        total = np.zeros(size, np.float32)
        for query in range(logits.shape[2]):
            total += np.exp(_interpolate(logits[..., query], *axes) - best)
        labels[total > np.float32(1 / threshold)] = 0
    return labels, winners.astype(np.int32), 1 / np.exp(logits).sum(axis=2)


def blend(image: Pixels, labels: Labels, palette: Pixels, *, opacity: float) -> Pixels:
    """Tint each class in its colour and outline it, as `atas_deploy.media.overlay.blend`.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 or uint16; the type's highest value is void, 0 background.
        palette: (C + 1, 3) uint8 RGB.
        opacity: share of the tint, in [0, 1].
    """
    classes = np.where(labels == np.iinfo(labels.dtype).max, 0, labels)
    tint = palette[classes].astype(np.float32) * np.float32(opacity)
    keep = np.float64(np.float32(1 - opacity))
    tinted = _levels((image * keep + tint).astype(np.float32))  # fused: rounded once
    tinted[classes == 0] = image[classes == 0]
    width = outline_width(classes.shape) + 1
    near = _window(classes, width, pad="edge")
    changes = (near != near[..., :1]).any(axis=-1)
    delta, scale = mean_weights(width**2)
    count = _window(changes, width, pad="reflect").sum(axis=-1, dtype=np.int32)
    line = ((255 * count + delta) * scale >> 16).astype(np.float32)
    light = np.rint(255 - line * np.float32(OUTLINE))
    dark = (255 - tinted.astype(np.float32)) * light[..., None]
    return _levels(255 - np.rint(dark * np.float32(1 / 255)))


def nv12_to_rgb(luma: Pixels, chroma: Pixels, *, matrix: str, full_range: bool = False) -> Pixels:
    """Convert a decoded frame; what lies between its colours is linear.

    Colours lie between two rows, at the left one of two columns: the default of H.264 and HEVC.

    Args:
        luma: (H, W) uint8.
        chroma: (ceil(H / 2), 2 ceil(W / 2)) uint8, Cb and Cr in turn.
        matrix: "bt709" or "bt601".
        full_range: whether values use all of 0 to 255.

    Returns:
        (H, W, 3) uint8 RGB.

    Source: ITU-R BT.709 and BT.601.
    """
    height, width = luma.shape
    pairs = chroma.reshape(len(chroma), -1, 2).astype(np.float32)
    rows = _doubled(pairs, height)
    column = np.arange(width)
    colours = rows[:, column // 2] + rows[:, np.minimum((column + 1) // 2, rows.shape[1] - 1)]
    scale, offset, red, green_b, green_r, blue = yuv_weights(matrix, full_range=full_range)
    grey = (luma.astype(np.float32) - offset) * scale
    cb, cr = (colours[..., k] / np.float32(8) - np.float32(128) for k in (0, 1))
    green = grey + green_b * cb + green_r * cr
    return _levels(np.stack([grey + red * cr, green, grey + blue * cb], axis=-1))


def outline_width(size: tuple[int, ...]) -> int:
    """Width of the outlines in an image of a size (H, W), in pixels."""
    return max(1, round(min(size) / _PIXELS_PER_OUTLINE))


def mean_weights(count: int) -> tuple[int, int]:
    """A mean in integers, as OpenCV's `blur` takes it: (sum + delta) * scale >> 16."""
    scale, rest = divmod(65_536, count)
    return (count // 2 + 1, scale) if 2 * rest < count else (count // 2, scale + 1)


def yuv_weights(matrix: str, *, full_range: bool) -> npt.NDArray[np.float32]:
    """What to multiply with: scale and offset of luma; Cr in red; Cb, Cr in green; Cb in blue."""
    red, blue = _LUMA[matrix]
    green = 1 - red - blue
    luma, offset, chroma = (1, 0, 1) if full_range else (255 / 219, 16, 255 / 224)
    in_red, in_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    weights = luma, offset, in_red, -in_blue * blue / green, -in_red * red / green, in_blue
    return np.array(weights, np.float32)


def _each_tap(taps: Taps, length: int) -> list[tuple[IntArray, FloatArray]]:
    """Pixels (M,) and weights (M,) of one tap after the other."""
    return [
        (np.clip(taps.first + k, 0, length - 1), taps.weights[:, k])
        for k in range(taps.weights.shape[1])
    ]


def _interpolate(grid: FloatArray, rows: Axis, columns: Axis) -> FloatArray:
    """(h, w) to (H, W), with the rounding of `atas_deploy.core.masks.cells`."""
    padded = np.pad(grid, 1, mode="edge")
    fy, fx = rows.fraction[:, None], columns.fraction
    upper, lower = padded[rows.cell], padded[rows.cell + 1]
    ends = upper + fy * (lower - upper)
    left, right = ends[:, columns.cell], ends[:, columns.cell + 1]
    values: FloatArray = left + (right - left) * fx
    return values


def _window(values: npt.NDArray[np.generic], width: int, *, pad: str) -> npt.NDArray[np.generic]:
    """The neighbours of each pixel, (H, W, width^2): from width // 2 before it on."""
    before, after = width // 2, width - 1 - width // 2
    for axis in (0, 1):
        n = values.shape[axis]
        place = np.arange(-before, n + after)
        if pad == "edge":
            place = np.clip(place, 0, n - 1)
        else:
            place = (n - 1) - np.abs((n - 1) - np.abs(place)) if n > 1 else 0 * place
        values = values.take(place, axis=axis)
    windows = np.lib.stride_tricks.sliding_window_view(values, (width, width))
    return windows.reshape(*windows.shape[:2], -1)


def _doubled(values: FloatArray, length: int) -> FloatArray:
    """Four times the linear interpolation to twice the rows, cut to a length."""
    place = np.arange(length)
    near = place // 2
    far = np.clip(near + np.where(place % 2, 1, -1), 0, len(values) - 1)
    doubled: FloatArray = 3 * values[near] + values[far]
    return doubled


def _levels(values: npt.NDArray[np.floating]) -> Pixels:
    """The nearest levels, halves to even ones."""
    levels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels
