"""Pictures through the GPU, on a model of CUDA: what comes out, and in which order it is done."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atas_deploy import Segmenter
from atas_deploy.backends.kernels import twins
from atas_deploy.core.errors import BackendError, InputError
from atas_deploy.core.geometry import encoder_size
from atas_deploy.core.masks import LabelMap, label_map
from atas_deploy.core.palette import class_palette
from atas_deploy.core.results import Segmentation
from atas_deploy.media.overlay import blend
from atas_deploy.media.video import Frame
from atas_deploy.media.video.planes import Planes
from atas_deploy.runtime.device.tools import Tint

Make = Callable[..., Segmenter]


def pictures(count: int, height: int = 24, width: int = 36) -> list[np.ndarray]:
    """Some pictures of large patches, each another."""
    rng = np.random.default_rng(height + width)
    small = rng.integers(0, 256, (count, 6, 8, 3), np.uint8)
    return [np.asarray(Image.fromarray(s).resize((width, height))) for s in small]


def expected(segmenter: Segmenter, image: np.ndarray, **settings: Any) -> LabelMap:
    """What must come out: the twin's pixels through the encoder, and the masks of the CPU."""
    size = image.shape[0], image.shape[1]
    fitted = twins.resize(image[None], encoder_size(size, short_side=32, multiple=16))
    dense = segmenter.backend.encode_images(fitted).dense[0]
    words = segmenter._words
    return label_map(dense, words.queries, words.vocabulary.query_class, size=size, **settings)


def as_frames(images: list[np.ndarray]) -> Iterator[Frame]:
    """Frames of a video that have no planes."""
    place = {"time": 0.0, "pts": 0, "duration": 1, "time_base": Fraction(1, 25)}
    for index, image in enumerate(images):
        yield Frame(index=index, convert=partial(np.copy, image), **place)  # type: ignore[arg-type]


def same(result: Segmentation, wanted: LabelMap) -> None:
    """Assert equal labels, ties within rounding aside, and scores."""
    assert result.labels.dtype == wanted.labels.dtype
    assert (result.labels == wanted.labels).mean() > 0.999
    np.testing.assert_allclose(result.scores, wanted.scores, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("capturable", [True, False])
def test_results_are_those_of_the_cpu(make: Make, capturable: bool, batch_size: int) -> None:
    """Of more pictures than there are slots, plain, captured and launched."""
    segmenter = make(capturable=capturable, batch_size=batch_size)
    images = pictures(9)
    results = segmenter.segment(images)
    assert len(results) == len(images)
    for image, result in zip(images, results, strict=True):
        assert result.class_names == ("sky", "tree", "water")
        same(result, expected(segmenter, image))


def test_a_segmenter_on_the_cpu_agrees(make: Make) -> None:
    """But for pixels that the two ways to resize round to another level."""
    segmenter = make()
    host = Segmenter(
        "atas-tiny", "sky,tree|bush,water", background="road", templates=["a {}"], short_side=32
    )
    for image, result in zip(pictures(3), segmenter.stream(pictures(3)), strict=True):
        assert (result.labels == host(image).labels).mean() > 0.98


def test_pictures_of_many_sizes(make: Make, tmp_path: Path) -> None:
    """Each size has memory of its own, also in between; paths are read."""
    segmenter = make(batch_size=2)
    images = [*pictures(2), *pictures(1, 32, 24), *pictures(3, 30, 33), *pictures(3)]
    Image.fromarray(images[2]).save(tmp_path / "tall.png")
    results = segmenter.stream([*images[:2], tmp_path / "tall.png", *images[3:]])
    for image, result in zip(images, results, strict=True):
        same(result, expected(segmenter, image))


def test_page_locked_memory_comes_in_few_sizes(make: Make, gpu: Any) -> None:
    """CuPy keeps each for ever, so pictures of ever new sizes must not ask for ever new ones."""
    list(make().stream(pictures(1, 20 + i, 30)[0] for i in range(8)))
    sizes = [int(line.split()[1]) for line in gpu.log if line.startswith("pin")]
    (words,) = {size for size in sizes if size.bit_count() > 1}
    assert sizes.count(words) == 1
    assert len(set(sizes)) == 4  # twice for pixels and twice for labels


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_a_threshold_holds(make: Make, threshold: float) -> None:
    """For labels and for scores."""
    segmenter = make(threshold=threshold)
    (image,) = pictures(1)
    (result,) = segmenter.segment([image])
    same(result, expected(segmenter, image, threshold=threshold))


def test_held_pictures_get_the_result_before(make: Make) -> None:
    """The very same object, and nothing is done for them."""
    segmenter = make(batch_size=2)
    images = pictures(7)
    results = list(segmenter.stream(images, every=3))
    assert results[0] is results[2]
    assert results[3] is results[5]
    for index in (0, 3, 6):
        same(results[index], expected(segmenter, images[index]))
    assert segmenter.backend.encoded == 2  # batches of two and one


def test_overlays_come_with_the_results(make: Make) -> None:
    """Blended as on the CPU, within one level; held pictures have none."""
    segmenter = make()
    palette = class_palette(3)
    images = pictures(8)
    found = list(segmenter.tinted_stream(as_frames(images), tint=Tint(palette, 0.4), every=2))
    assert [tinted is None for _, tinted in found] == [False, True] * 4
    for image, (result, tinted) in zip(images[::2], found[::2], strict=True):
        wanted = blend(image, result.labels, palette, opacity=0.4)
        assert tinted is not None
        assert np.abs(tinted.astype(int) - wanted).max() <= 1


def test_results_belong_to_the_caller(make: Make) -> None:
    """Later pictures, and changes by the caller, do not reach them."""
    segmenter = make()
    images = pictures(6)
    first = next(results := segmenter.stream(images))
    before = first.labels.copy()
    for result in results:
        result.labels[:] = 99
    np.testing.assert_array_equal(first.labels, before)


def test_frames_become_one_launch(make: Make, gpu: Any) -> None:
    """Each of three slots is captured at its second batch; from then on nothing is allocated."""
    segmenter = make()
    results = segmenter.stream(pictures(14))
    for _ in range(8):  # the last one whose slots may not have been captured is behind the sixth
        next(results)
    assert gpu.log.count("capture") == 3
    gpu.log.clear()
    list(results)
    assert gpu.log.count("launch") >= 4
    assert not [line for line in gpu.log if line.startswith(("allocate", "pin", "capture"))]
    assert segmenter.backend.encoded == 3 * 3  # plain, once more, and captured


def test_an_engine_that_cannot_be_captured_stays_outside(make: Make, gpu: Any) -> None:
    """What is done behind it is a graph all the same."""
    segmenter = make(capturable=False)
    list(segmenter.stream(pictures(10)))
    assert gpu.log.count("capture") == 3
    assert gpu.log.count("launch") == 4
    assert segmenter.backend.encoded == 10


def test_without_graphs_all_goes_on(make: Make, gpu: Any) -> None:
    """Where a capture fails it is not tried again, and the tools say why."""
    gpu.refuse_capture = True
    segmenter = make()
    images = pictures(8)
    for image, result in zip(images, segmenter.stream(images), strict=True):
        same(result, expected(segmenter, image))
    assert segmenter._gpu is not None
    assert "invalidated" in str(segmenter._gpu.capture_problem)
    assert "launch" not in gpu.log


def many(count: int) -> str:
    """A class list of so many words."""
    return ",".join(f"word{i}" for i in range(count))


@pytest.mark.parametrize("capturable", [True, False])
def test_words_may_change_between_pictures(make: Make, gpu: Any, capturable: bool) -> None:
    """The next result is in the new ones, though it was enqueued before; graphs stay."""
    segmenter = make(capturable=capturable)
    images = pictures(14)
    results = segmenter.stream(images)
    for index, image in enumerate(images):
        if index == 9:
            segmenter.set_classes("wall,floor")
        if index == 11:
            segmenter.set_classes("sky,tree,water,roof,snow", background="none")
        result = next(results)
        assert result.class_names == segmenter.vocabulary.names
        same(result, expected(segmenter, image))
    assert gpu.log.count("capture") == 3


def test_words_that_need_more_room(make: Make, gpu: Any) -> None:
    """Memory, plans and graphs are made anew, also for labels of 16 bits."""
    segmenter = make(background="none")
    images = pictures(22)
    results = segmenter.stream(images)
    for index, image in enumerate(images):
        if index == 8:
            segmenter.set_classes(many(300))
        if index == 20:
            segmenter.set_classes("sky,tree")
        same(next(results), expected(segmenter, image))
    assert gpu.log.count("capture") == 6
    assert gpu.log.count("launch") > 4


def test_pictures_of_one_batch_in_different_words(make: Make) -> None:
    """Each is in those of its time."""
    segmenter = make(batch_size=3)
    images = pictures(6)
    results = segmenter.stream(images)
    for index, image in enumerate(images):
        segmenter.set_classes(["sky,tree", "wall,floor"][index % 2])
        same(next(results), expected(segmenter, image))


def test_a_stream_that_is_left_early(make: Make, gpu: Any) -> None:
    """Its source is closed, all work is done and its memory is free."""
    closed = []

    def endless() -> Iterator[np.ndarray]:
        try:
            while True:
                yield from pictures(1)
        finally:
            closed.append(1)

    segmenter = make()
    results = segmenter.stream(endless())
    next(results)
    results.close()
    assert closed
    assert not any(stream.work for stream in gpu.streams.values())
    del results
    alive = {len(block.bytes) for block in gpu.blocks if block.alive and block.device is not None}
    assert 24 * 36 * 3 not in alive


def test_two_streams_of_one_segmenter(make: Make) -> None:
    """They take turns, of other sizes too."""
    segmenter = make()
    one, two = pictures(7), pictures(7, 20, 20)
    pairs = zip(segmenter.stream(one), segmenter.stream(two), strict=True)
    for first, second, (left, right) in zip(one, two, pairs, strict=True):
        same(left, expected(segmenter, first))
        same(right, expected(segmenter, second))


def test_what_is_no_picture(make: Make) -> None:
    """As on the CPU, after the results before."""
    results = make().stream([*pictures(1), np.zeros((4, 4), np.uint8)])
    next(results)
    with pytest.raises(InputError, match=r"\(H, W, 3\)"):
        next(results)


def test_what_fails_on_the_gpu_is_one_sentence(make: Make, gpu: Any) -> None:
    """Such as memory that runs out."""
    segmenter = make()
    gpu.room = 3_000
    with pytest.raises(BackendError, match=r"Out of memory.*--batch-size") as caught:
        segmenter.segment(pictures(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"probability": True},
        {"denoise": 0.1},
        {"refine": "pamr"},
        {"window": 32},
        {"window": 32, "merge": "pixels"},
    ],
)
def test_what_the_gpu_does_not_do(make: Make, gpu: Any, settings: Any) -> None:
    """It is done as ever."""
    segmenter = make(**settings)
    images = pictures(2, 64, 64)
    wanted = [segmenter(image).labels for image in images]
    found = [result.labels for result in segmenter.stream(images)]
    np.testing.assert_array_equal(found, wanted)
    assert not segmenter.backend.encoded


def test_smoothing_is_done_on_the_host(make: Make) -> None:
    """With or without an overlay being wanted."""
    segmenter = make()
    results = segmenter.tinted_stream(
        as_frames(pictures(3)), tint=Tint(class_palette(3), 0.5), smooth=0.5
    )
    assert [tinted for _, tinted in results] == [None] * 3
    assert not segmenter.backend.encoded


def planes(count: int, *, matrix: str = "bt601") -> list[Planes]:
    """Frames as they were decoded."""
    rng = np.random.default_rng(3)
    luma = rng.integers(16, 236, (count, 4, 6), np.uint8).repeat(6, axis=1).repeat(6, axis=2)
    chroma = rng.integers(90, 160, (count, 12, 36), np.uint8)
    return [Planes(*pair, matrix, False) for pair in zip(luma, chroma, strict=True)]


@pytest.mark.parametrize("capturable", [True, False])
def test_frames_are_converted_on_the_gpu(make: Make, gpu: Any, capturable: bool) -> None:
    """Kinds do not mix in a batch: other colours, and pictures that are RGB already."""
    segmenter = make(capturable=capturable, batch_size=2)
    items: list[Any] = [*planes(15), *planes(3, matrix="bt709"), *pictures(2)]
    stream = segmenter._on_gpu(smooth=0, adaptive=None)
    assert stream is not None
    for item, (result, _) in zip(items, stream.tinted(items), strict=True):
        image = item
        if isinstance(item, Planes):
            image = twins.nv12_to_rgb(item.luma, item.chroma, matrix=item.matrix)
        same(result, expected(segmenter, image))
    assert gpu.log.count("launch") >= 1
