"""The numpy twins against what the CPU path does, and against the formula."""

import io
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av import VideoFrame

from atas_deploy.backends.kernels import twins
from atas_deploy.core.geometry import resize_image
from atas_deploy.core.masks import label_map
from atas_deploy.media import overlay
from atas_deploy.media.video.colour import ToRgb

MPEG, JPEG = 1, 2  # colour ranges of FFmpeg
MATRICES = {"bt709": 1, "bt601": 5}  # its colour spaces


def differs(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference in levels."""
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("seed", range(8))
def test_resize_is_resize_image_to_a_level(seed: int) -> None:
    """Shrunk, enlarged, both at once, halved, doubled or unchanged."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        source, target = rng.integers(1, 60, (2, 2))
        target = (target, source // 2 + 1, source * 2, source)[rng.integers(4)]
        frames = rng.integers(0, 256, (2, *source, 3), np.uint8)
        size = int(target[0]), int(target[1])
        resized = twins.resize(frames, size)
        for frame, found in zip(frames, resized, strict=True):
            assert differs(found, resize_image(frame, size)) <= 1, (source, target)


def test_resize_of_a_frame_of_video_is_resize_image_to_a_level() -> None:
    """720p to the input of an encoder."""
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    assert differs(twins.resize(frame[None], (448, 800))[0], resize_image(frame, (448, 800))) <= 1


def test_labels_are_the_formula(cases: SimpleNamespace) -> None:
    """On every pixel of 300 random cases that is no tie."""
    for seed in range(300):
        case = cases.label(seed)
        labels, _, _ = twins.label_logits(
            case.logits, case.query_class, size=case.size, threshold=case.threshold
        )
        expected, clear = cases.formula(case)
        np.testing.assert_array_equal(labels[clear], expected[clear], err_msg=f"case {seed}")


def test_labels_are_those_of_the_cpu(cases: SimpleNamespace) -> None:
    """The two ways may differ at ties alone; nodes have the same winners and probabilities."""
    for seed in range(100):
        case = cases.label(seed)
        options: dict[str, Any] = {"size": case.size, "threshold": case.threshold}
        labels, winners, probability = twins.label_map(
            case.dense, case.queries, case.query_class, **options
        )
        other = label_map(case.dense, case.queries, case.query_class, **options)
        _, clear = cases.formula(case)
        assert labels.dtype == other.labels.dtype
        np.testing.assert_array_equal(labels[clear], other.labels[clear], err_msg=f"case {seed}")
        np.testing.assert_array_equal(winners, case.logits.argmax(axis=2))
        exponentials = np.exp(case.logits.astype(np.float64))
        expected = exponentials.max(axis=2) / exponentials.sum(axis=2)
        np.testing.assert_allclose(probability, expected, rtol=1e-5)


@pytest.mark.parametrize("opacity", [0.0, 0.55, 1.0])
def test_blend_is_the_overlay_to_a_level(cases: SimpleNamespace, opacity: float) -> None:
    """With background, void, and classes of 8 and 16 bits."""
    for seed in range(60):
        image, labels, palette = cases.picture(seed)
        blended = twins.blend(image, labels, palette, opacity=opacity)
        assert differs(blended, overlay.blend(image, labels, palette, opacity=opacity)) <= 1, seed


@pytest.mark.parametrize("per_outline", [40, 18, 9])
def test_wide_outlines_are_those_of_the_overlay(
    per_outline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large images have outlines of two pixels and more, as small ones would with these numbers."""
    for module in (twins, overlay):
        monkeypatch.setattr(module, "_PIXELS_PER_OUTLINE", per_outline)
    rng = np.random.default_rng(per_outline)
    for _ in range(10):
        height, width = (int(n) for n in rng.integers(60, 90, 2))
        labels = np.kron(rng.integers(0, 3, (4, 4)), np.ones((30, 30), int))[:height, :width]
        labels = labels.astype(np.uint8)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        palette = rng.integers(0, 256, (3, 3), np.uint8)
        blended = twins.blend(image, labels, palette, opacity=0.5)
        assert differs(blended, overlay.blend(image, labels, palette, opacity=0.5)) <= 1


def test_outlines_are_as_wide_and_as_light_as_those_of_the_overlay() -> None:
    """The numbers are written twice, as backends import nothing from media."""
    assert twins._PIXELS_PER_OUTLINE == overlay._PIXELS_PER_OUTLINE
    assert twins.OUTLINE == overlay._OUTLINE


def decoded(luma: np.ndarray, chroma: np.ndarray) -> VideoFrame:
    """A frame of these planes, coded and decoded without loss: it knows where colours lie."""
    frame = VideoFrame.from_ndarray(np.concatenate([luma, chroma]), format="nv12")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=1, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *luma.shape, "yuv420p"
        container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_nv12_is_converted_as_the_reader_does(matrix: str, full_range: bool) -> None:
    """Equal to a level, for colours that the range has."""
    rng = np.random.default_rng(0)
    low, high = (0, 256) if full_range else (16, 236)
    for _ in range(5):
        height, width = (2 * int(n) for n in rng.integers(4, 30, 2))
        luma = rng.integers(low, high, (height, width), np.uint8)
        chroma = rng.integers(low, high, (height // 2, width), np.uint8)
        frame = decoded(luma, chroma)
        frame.colorspace, frame.color_range = MATRICES[matrix], JPEG if full_range else MPEG
        expected = ToRgb((height, width), turns=0)(frame)
        found = twins.nv12_to_rgb(luma, chroma, matrix=matrix, full_range=full_range)
        assert differs(found, expected) <= 1
