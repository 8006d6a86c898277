"""Images through an engine: memory, streams, graphs and batches, on a model of CUDA."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from atas_deploy.backends.base import ImageFeatures
from atas_deploy.backends.driver import Driver
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.trt import session as module
from atas_deploy.backends.trt.execution import Engine
from atas_deploy.backends.trt.flavour import Flavour
from atas_deploy.backends.trt.session import Session
from atas_deploy.core.errors import InputError
from atas_deploy.models import open_model

WIDE = ((1, 32, 32), (2, 32, 48), (4, 64, 64))
WIDTH = open_model("atas-tiny").manifest.embed_dim
BIG = ((2, 80, 80), (2, 80, 80), (2, 96, 96))


@pytest.fixture(scope="module")
def ort() -> OrtBackend:
    """ONNX Runtime on whole batches: what must come out."""
    return OrtBackend(open_model("atas-tiny"))


class Runner:
    """A session with the driver that it runs on."""

    def __init__(self, plan: bytes, flavour: Flavour, **settings: Any) -> None:
        self.driver = Driver("cuda:1")
        with self.driver.active():
            self.session = Session(Engine(plan, flavour=flavour), self.driver, **settings)

    def __call__(self, images: np.ndarray) -> ImageFeatures:
        """Encode, and wait for the features."""
        return self.start(images).to_host()

    def start(self, images: np.ndarray) -> Any:
        """Encode without waiting."""
        with self.driver.active():
            return self.session.encode(images)


@pytest.fixture
def open_runner(
    cuda: Any, plan: Callable[..., bytes], make_flavour: Callable[[str], Flavour]
) -> Callable[..., Runner]:
    """Open an engine with the two profiles of this module."""

    def make(name: str = "tensorrt", *, settings: Any = (), **facts: Any) -> Runner:
        return Runner(plan(WIDE, BIG, **facts), make_flavour(name), **dict(settings))

    return make


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    """(B, H, W, 3) of noise, each picture another."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def same(got: ImageFeatures, expected: ImageFeatures) -> None:
    """Assert equal features; batches of other lengths may differ in the last bits."""
    np.testing.assert_allclose(got.dense, expected.dense, atol=1e-5)
    np.testing.assert_allclose(got.image, expected.image, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_batches_of_any_length(
    open_runner: Callable[..., Runner], ort: OrtBackend, count: int
) -> None:
    """Split in parts where the profile takes four, each picture gets its own features."""
    images = pictures(count, 32, 48)
    same(open_runner()(images), ort.encode_images(images))


def test_a_single_picture_is_filled_up(open_runner: Callable[..., Runner], ort: OrtBackend) -> None:
    """The second profile takes two pictures at least; nothing of the second comes out."""
    images = pictures(1, 96, 80)
    features = open_runner()(images)
    assert len(features.dense) == len(features.image) == 1
    same(features, ort.encode_images(images))


def test_shapes_by_turns(open_runner: Callable[..., Runner], ort: OrtBackend) -> None:
    """Plain, captured and launched executions of shapes of both profiles do not disturb another."""
    run, shapes = open_runner(), [(2, 32, 48), (4, 64, 64), (2, 96, 96), (1, 48, 32)]
    for turn in range(4):
        for shape in shapes:
            images = pictures(*shape, seed=turn)
            same(run(images), ort.encode_images(images))


def test_a_shape_that_comes_back_becomes_one_launch(
    open_runner: Callable[..., Runner], cuda: Any
) -> None:
    """First it is executed, then executed once more and captured in a context of its own."""
    run = open_runner()
    steps = []
    for _ in range(4):
        cuda.log.clear()
        run(pictures(2, 32, 48))
        steps.append([line for line in cuda.log if not line.startswith("allocate")])
    assert steps == [["execute"], ["context", "execute", "capture"], ["launch"], ["launch"]]


def test_nothing_is_allocated_but_features(open_runner: Callable[..., Runner], cuda: Any) -> None:
    """All other memory is there from the start, so that the addresses in graphs stay true."""
    run = open_runner()
    cuda.log.clear()
    for shape in [(2, 32, 48), (4, 64, 64), (2, 96, 96)] * 3:
        run(pictures(*shape))
    width = 4 * open_model("atas-tiny").manifest.embed_dim
    cells = {2 * 2 * 3, 4 * 4 * 4, 2 * 6 * 6}
    sizes = {count * width for count in cells | {2, 4}}
    allocated = {line for line in cuda.log if line.startswith(("allocate", "pin"))}
    assert allocated == {f"allocate {size}" for size in sizes}


def test_the_shapes_used_last_keep_their_graphs(
    open_runner: Callable[..., Runner], ort: OrtBackend, cuda: Any
) -> None:
    """With room for two, a third makes the oldest go, once its work is done."""
    run = open_runner(settings={"shapes": 2})
    first, second, third = pictures(1, 32, 32), pictures(1, 48, 32), pictures(1, 64, 32)
    for images in (first, first, second, second, first):
        run(images)
    waiting = run.start(second), run.start(first)
    cuda.log.clear()
    run(third)
    assert "synchronize" in cuda.log
    cuda.log.clear()
    run(first)
    assert "launch" in cuda.log
    cuda.log.clear()
    same(run(second), ort.encode_images(second))
    assert "launch" not in cuda.log
    for features, images in zip(waiting, (second, first), strict=True):
        same(features.to_host(), ort.encode_images(images))


def test_features_wait_for_nobody(open_runner: Callable[..., Runner], ort: OrtBackend) -> None:
    """Many batches are under way at once, more than there are buffers; each gives its own."""
    run = open_runner()
    batches = [pictures(3, 64, 48, seed=seed) for seed in range(6)]
    started = [run.start(images) for images in batches]
    for features, images in reversed(list(zip(started, batches, strict=True))):
        same(features.to_host(), ort.encode_images(images))


def test_two_buffers_take_turns(open_runner: Callable[..., Runner]) -> None:
    """The second batch waits for nothing, the third for the copy of the first."""
    run = open_runner()
    work = run.driver.stream.work
    run.start(pictures(4, 32, 32))
    first = list(work)
    run.start(pictures(4, 32, 48))
    assert list(work)[: len(first)] == first
    run.start(pictures(4, 48, 48))
    assert 0 < len(first) - sum(item in first for item in work) < len(first)


def test_the_callers_pictures_are_free_at_once(
    open_runner: Callable[..., Runner], ort: OrtBackend
) -> None:
    """What is written over them after the call is not what is encoded."""
    run, images = open_runner(), pictures(2, 32, 32)
    expected = ort.encode_images(images)
    features = run.start(images)
    images[:] = 0
    same(features.to_host(), expected)


def test_reading_too_early_would_be_seen(open_runner: Callable[..., Runner]) -> None:
    """The model of CUDA does no work that nobody waits for: without `ready` there is no result."""
    features = open_runner().start(pictures(1, 32, 32))
    assert np.isnan(features.dense.get()).all()


def test_features_belong_to_the_caller(open_runner: Callable[..., Runner], ort: OrtBackend) -> None:
    """Later batches of the same shape, by the same graph, leave them alone."""
    run = open_runner()
    images = pictures(2, 32, 48)
    kept = [run.start(images) for _ in range(4)]
    run(pictures(2, 32, 48, seed=1))
    for features in kept:
        same(features.to_host(), ort.encode_images(images))


def test_a_size_outside_all_profiles_is_refused(open_runner: Callable[..., Runner]) -> None:
    """Before anything is copied."""
    with pytest.raises(InputError, match="96"):
        open_runner()(pictures(1, 112, 112))


def test_without_graphs_results_are_the_same(
    open_runner: Callable[..., Runner], ort: OrtBackend, cuda: Any
) -> None:
    """Where a capture fails, it is said once, and executions go on without."""
    run, images = open_runner(), pictures(2, 32, 48)
    cuda.refuse_capture = True
    for _ in range(3):
        same(run(images), ort.encode_images(images))
    assert "launch" not in cuda.log
    assert "the capture was invalidated" in (run.session.capture_problem or "")


@pytest.mark.parametrize(("capturable", "steps"), [(True, ["launch"]), (False, ["execute"])])
def test_rtx_compiles_before_it_is_captured(
    open_runner: Callable[..., Runner],
    ort: OrtBackend,
    cuda: Any,
    capturable: bool,
    steps: list[str],
) -> None:
    """TensorRT-RTX's contexts are lazy, those for graphs eager; it is asked before a capture."""
    run, images = open_runner("tensorrt-rtx", capturable=capturable), pictures(2, 32, 48)
    assert cuda.log.count("context lazy") == 2
    for _ in range(2):
        same(run(images), ort.encode_images(images))
    assert cuda.log.count("context eager") == 1
    cuda.log.clear()
    same(run(images), ort.encode_images(images))
    assert [line for line in cuda.log if not line.startswith("allocate")] == steps


def test_closing_waits_and_frees(
    open_runner: Callable[..., Runner], ort: OrtBackend, cuda: Any
) -> None:
    """What is under way is finished; then all memory but the features goes back."""
    run, images = open_runner(), pictures(2, 32, 48)
    run(images)
    run(images)
    features = run.start(images)
    with run.driver.active():
        run.session.close()
    assert sum(block.alive for block in cuda.blocks) == 2
    same(features.to_host(), ort.encode_images(images))


class There:
    """Images on the GPU, with room for their features."""

    def __init__(self, run: Runner, images: np.ndarray) -> None:
        self.run, batch, height, width = run, *images.shape[:3]
        with run.driver.active():
            self.images = run.driver.cupy.asarray(images)
            self.dense = run.driver.empty((batch, height // 16, width // 16, WIDTH))

    def encode(self) -> np.ndarray:
        """Encode them into that room."""
        with self.run.driver.active():
            self.run.session.encode_into(self.images, self.dense)
        return self.wait()

    def repeat(self) -> Callable[[], None] | None:
        """What encodes them again and again."""
        with self.run.driver.active():
            return self.run.session.repeat_encoding(self.images, self.dense)

    def wait(self) -> np.ndarray:
        """The features, when all work is done."""
        with self.run.driver.active():
            self.run.driver.stream.synchronize()
        return self.dense.get()


@pytest.mark.parametrize("count", [1, 3, 9])
def test_images_on_the_gpu_stay_there(
    open_runner: Callable[..., Runner], ort: OrtBackend, cuda: Any, count: int
) -> None:
    """Features are those of the same images from the host, in parts and from graphs too."""
    run = open_runner()
    for seed in range(3):
        images = pictures(count, 32, 48, seed=seed)
        there = There(run, images)
        cuda.log.clear()
        got = there.encode()
        np.testing.assert_allclose(got, ort.encode_images(images).dense, atol=1e-5)
        assert not [line for line in cuda.log if line.startswith(("allocate", "pin"))]


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("count", [2, 8])
def test_the_same_memory_again_and_again(
    open_runner: Callable[..., Runner], ort: OrtBackend, cuda: Any, name: str, count: int
) -> None:
    """Without copies, plain and from a graph; whatever lies there then is encoded."""
    run, images = open_runner(name), pictures(count, 32, 48)
    there = There(run, images)
    repeat = there.repeat()
    assert repeat is not None
    cuda.log.clear()
    with run.driver.active():
        repeat()
        graph = run.driver.capture(repeat)
    assert cuda.log.count("execute") == -(-count // 4)
    np.testing.assert_allclose(there.wait(), ort.encode_images(images).dense, atol=1e-5)
    run(pictures(2, 80, 80))  # something else in between
    fresh = pictures(count, 32, 48, seed=1)
    with run.driver.active():
        other = run.driver.cupy.asarray(fresh)
        run.driver.copy(there.images.data.ptr, other.data.ptr, fresh.nbytes)
        run.driver.launch(graph)
    np.testing.assert_allclose(there.wait(), ort.encode_images(fresh).dense, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "facts"),
    [((5, 32, 48), {}), ((1, 96, 96), {}), ((2, 32, 48), {"capturable": False})],
)
def test_what_cannot_be_captured(
    open_runner: Callable[..., Runner], shape: tuple[int, ...], facts: dict[str, Any]
) -> None:
    """Parts that are filled up with what lies behind the images, and engines that refuse."""
    run = open_runner("tensorrt-rtx", **facts)
    assert There(run, pictures(*shape)).repeat() is None


def test_parts_begin_where_tensorrt_takes_them(
    open_runner: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At multiples of its alignment, else they are copied."""
    monkeypatch.setattr(module, "_ALIGNMENT", 7)
    run = open_runner()
    assert There(run, pictures(4, 32, 48)).repeat() is not None
    assert There(run, pictures(8, 32, 48)).repeat() is None
