"""Adaptive video: which frames are encoded, and what the others become."""

from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy import Segmenter
from atas_deploy.backends.base import ImageFeatures
from atas_deploy.core.errors import ConfigError
from atas_deploy.runtime.adaptive import Chooser, Turn, new_parts, thumbnail
from atas_deploy.runtime.carry import Motion
from atas_deploy.runtime.encode import ImageEncoder
from atas_deploy.runtime.temporal import Smoother
from atas_deploy.runtime.windows import PixelWindows, Windows


def scene(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Seeded blobs of colour, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def pan(frames: int, *, step: int) -> list[np.ndarray]:
    """A view of 180 x 240 that moves right over a scene."""
    whole = scene(180, 248 + frames * step)
    return [whole[:, i * step : i * step + 240] for i in range(frames)]


def still(frames: int) -> list[np.ndarray]:
    """The first view of a pan by 3, with a camera's noise on it."""
    view, rng = pan(5, step=3)[0].astype(float), np.random.default_rng(1)
    noisy = (view + rng.normal(0, 4, view.shape) for _ in range(frames))
    return [np.clip(image, 0, 255).astype(np.uint8) for image in noisy]


def turns(frames: list[np.ndarray], *, level: float = 0.1, every: int = 1) -> list[str]:
    """What becomes of each frame."""
    choose = Chooser(every=every, level=level)
    found = [choose(frame) for frame in frames]
    return ["carry" if isinstance(turn, Motion) else turn.value for turn in found]


def test_a_still_camera_is_encoded_once() -> None:
    """Its noise is nothing new."""
    assert turns(still(20)) == ["encode"] + ["hold"] * 19


def test_a_view_that_has_moved_is_held_when_it_stands_still() -> None:
    """What counts is the frame whose masks are shown, not the one that was encoded."""
    frames = pan(3, step=3)
    assert turns([*frames, frames[-1]], level=0.9) == ["encode", "carry", "carry", "hold"]


def test_a_cut_is_encoded() -> None:
    """Another scene has nothing of the one before."""
    frames = [*still(3), *[scene(180, 240, seed=5)] * 3]
    assert turns(frames) == ["encode", "hold", "hold"] * 2


def test_the_flow_of_a_pan() -> None:
    """The motion of a frame leads to where its parts were."""
    choose = Chooser(level=0.9)
    frames = pan(6, step=3)
    assert choose(frames[0]) is Turn.ENCODE
    for i, frame in enumerate(frames[1:], 1):
        motion = choose(frame)
        assert isinstance(motion, Motion)
        across, down = np.median(motion.flow, axis=(0, 1))
        assert 240 * across == pytest.approx(3 * i, abs=0.7)
        assert 180 * down == pytest.approx(0, abs=0.7)


def test_what_comes_in_is_new() -> None:
    """A pan uncovers a strip; moved along, the rest is explained."""
    a, b = (thumbnail(frame) for frame in (pan(2, step=24)))
    flow = np.zeros((*a.shape, 2), np.float32)
    flow[..., 0] = 12  # thumbnails have half the size
    found = new_parts(b, a, flow)
    assert found[:, -11:].all()
    assert found[:, :-13].mean() < 0.02
    assert new_parts(b, a, np.zeros_like(flow)).mean() > 0.5


def test_a_small_thing_that_appears_is_encoded_after_a_while() -> None:
    """However small it is: its share counts in each frame, also in those that stand still."""
    before = scene(180, 240)
    after = before.copy()
    after[80:104, 100:124] = 255 - after[80:104, 100:124]  # 1 in 75
    found = turns([before] * 3 + [after] * 40)
    assert found[:4] == ["encode", "hold", "hold", "carry"]
    assert Counter(found[3:])["encode"] == 1
    assert 6 < found.index("encode", 1) < 20
    assert found[-1] == "hold"


def test_slow_change_is_not_missed() -> None:
    """A scene that fades, unseen from one frame to the next, is encoded anew in the end."""
    view = scene(180, 240)
    frames = [(view * (1 - i / 100)).astype(np.uint8) for i in range(60)]
    assert turns(frames).count("encode") > 1


def test_a_lower_level_encodes_more() -> None:
    """At 0 whatever is new counts; a pan brings something new with each frame."""
    frames = pan(24, step=4)
    counts = [turns(frames, level=level).count("encode") for level in (0, 0.05, 0.2, 0.6)]
    assert counts[0] == 24
    assert counts == sorted(counts, reverse=True)
    assert counts[1] < counts[0]
    assert counts[-1] < counts[1]


def test_every_with_a_level() -> None:
    """Frames between are held whatever they show; the others are looked at."""
    found = turns(pan(7, step=2), every=3, level=0.9)
    assert found == ["encode", "hold", "hold", "carry", "hold", "hold", "carry"]


def test_another_size_is_encoded() -> None:
    """There is nothing to compare it with, nor the next one of the old size."""
    small, large = scene(96, 128), scene(96, 160)
    assert turns([small, large, large, small]) == ["encode", "encode", "hold", "encode"]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_pictures_of_any_size(height: int, width: int, seed: int) -> None:
    """Down to a pixel."""
    rng = np.random.default_rng(seed)
    frames = list(rng.integers(0, 256, (3, height, width, 3), np.uint8))
    assert turns(frames)[0] == "encode"


@pytest.mark.parametrize("size", [(2, 3000), (3000, 2), (17, 4000)])
def test_strips(size: tuple[int, int]) -> None:
    """They are compared, too."""
    rng = np.random.default_rng(0)
    assert len(turns(list(rng.integers(0, 256, (3, *size, 3), np.uint8)))) == 3


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Twenty classes and nothing else, a small input."""
    return Segmenter(classes="@voc20", background="none", short_side=96)


@pytest.mark.parametrize("level", [-0.1, 1.0, float("nan")])
def test_bad_levels(segmenter: Segmenter, level: float) -> None:
    """They are refused at once."""
    with pytest.raises(ConfigError, match="adaptive level"):
        segmenter.stream([], adaptive=level)


def test_a_stream_holds_and_carries(segmenter: Segmenter) -> None:
    """A held frame has the very same result; a carried one a result of its own, which says so."""
    frames = [*still(3), *pan(5, step=3)[1:]]
    results = list(segmenter.stream(frames, adaptive=0.5))
    assert results[0] is results[1] is results[2]
    assert [result.carried for result in results] == [False] * 3 + [True] * 4
    assert len({id(result) for result in results[2:]}) == 5


def test_masks_follow_the_picture(segmenter: Segmenter) -> None:
    """The masks of a carried frame are those of the key frame, moved as the picture moved."""
    frames = pan(5, step=6)
    first, *_, last = segmenter.stream(frames, adaptive=0.9)
    assert last.carried
    moved = (last.labels[:, :200] == first.labels[:, 24:224]).mean()
    stayed = (last.labels[:, :200] == first.labels[:, :200]).mean()
    assert moved > 0.85
    assert moved > stayed + 0.1


def test_all_is_encoded_where_all_is_new(segmenter: Segmenter) -> None:
    """Then the results are those of a full run."""
    frames = [scene(96, 128, seed=i) for i in range(4)]
    full, adaptive = (list(segmenter.stream(frames, adaptive=level)) for level in (None, 0.1))
    for a, b in zip(full, adaptive, strict=True):
        assert not b.carried
        np.testing.assert_array_equal(a.labels, b.labels)


class Spy:
    """An engine that notes the size of its batches."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.batches: list[int] = []
        self._backend = segmenter.backend

    def encode_images(self, images: np.ndarray) -> ImageFeatures:
        """Features of images."""
        self.batches.append(len(images))
        return self._backend.encode_images(images)


def test_batches_are_full(segmenter: Segmenter) -> None:
    """Carried frames take no place in them, and stand between the others in order."""
    frames = [frame for i in range(6) for frame in [scene(96, 128, seed=i)] * 2]
    wide = [
        cv2.warpAffine(frame, np.float32([[1, 0, 2], [0, 1, 0]]), (128, 96)) for frame in frames
    ]
    mixed = [frame for pair in zip(frames, wide, strict=True) for frame in pair]
    spy = Spy(segmenter)
    one, three = (ImageEncoder(spy, cell=16, short_side=96, batch_size=size) for size in (1, 3))
    alone = list(one.stream(mixed, adaptive=0.3))
    spy.batches.clear()
    together = list(three.stream(mixed, adaptive=0.3))
    assert spy.batches == [3, 3]
    for a, b in zip(alone, together, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.carried == b.carried
            np.testing.assert_allclose(a.dense, b.dense, atol=1e-4)


@pytest.mark.parametrize("windows", [Windows(4, 2), PixelWindows(64, 32), PixelWindows(None, None)])
def test_windows_are_carried(segmenter: Segmenter, windows: Windows | PixelWindows) -> None:
    """Features of windows keep their shape, and follow the picture better than they stay."""
    encoder = ImageEncoder(segmenter.backend, cell=16, short_side=96, windows=windows)
    frames = pan(4, step=6)
    *_, carried = encoder.stream(frames, adaptive=0.9)
    assert carried is not None
    assert carried.carried
    there, here = encoder(frames[0]), encoder(frames[-1])
    assert carried.dense.shape == here.dense.shape
    assert carried.tiles == here.tiles
    assert distance(carried.dense, here.dense) < distance(there.dense, here.dense)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Of features, on the average."""
    return float(np.linalg.norm(a - b, axis=-1).mean())


def test_carried_features_are_smoothed(segmenter: Segmenter) -> None:
    """The average runs over all frames that are not held."""
    frames = pan(4, step=4)
    smoother = Smoother(0.6)
    pictures = list(segmenter.encoder.stream(frames, adaptive=0.9))
    assert [picture.carried for picture in pictures if picture] == [False, True, True, True]
    results = segmenter.stream(frames, adaptive=0.9, smooth=0.6)
    for picture, result in zip(pictures, results, strict=True):
        assert picture is not None
        average = smoother(picture.dense)
        moved = type(picture)(picture.size, picture.fitted, average)
        np.testing.assert_array_equal(segmenter.label(moved).labels, result.labels)


def test_memory_is_flat(segmenter: Segmenter) -> None:
    """However many frames are carried, few are read ahead."""
    taken = []

    def frames() -> Iterator[np.ndarray]:
        view = pan(2, step=2)
        for i in range(400):
            taken.append(i)
            yield view[i % 2]

    results = segmenter.stream(frames(), adaptive=0.9)
    for _ in range(3):
        next(results)
    assert len(taken) <= 3 + 6
    results.close()
