"""`Segmenter` with the embedded model."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.core.errors import AtasError, ConfigError, InputError
from atas_deploy.core.masks import label_map


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Three classes, automatic background, a small input."""
    return Segmenter(classes="sky,building|temple,tree", short_side=128)


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Seeded noise, (height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_labels_follow_the_definition(segmenter: Segmenter) -> None:
    """Encoder, text features, scale and label map put together by hand give the same labels."""
    image = picture(128, 160)
    dense = segmenter.backend.encode_images(image[None]).dense[0]
    tokenizer = segmenter.bundle.tokenizer()
    vectors = []
    for query in segmenter.vocabulary.queries:
        prompts = [template.replace("{}", query) for template in segmenter.templates.prompts]
        mean = segmenter.backend.encode_texts(tokenizer(prompts)).mean(0)
        vectors.append(mean / np.linalg.norm(mean))
    queries = segmenter.logit_scale * np.stack(vectors).T
    expected = label_map(dense, queries, segmenter.vocabulary.query_class, size=(128, 160)).labels
    assert (segmenter(image).labels == expected).mean() > 0.999


def test_batches_equal_single_images() -> None:
    """Mixed sizes in batches of three give the labels of one at a time, in order."""
    images = [picture(64, 96, seed=i) for i in range(4)] + [picture(80, 50), picture(64, 96)]
    one = Segmenter(classes="sky,tree", short_side=64)
    three = Segmenter(classes="sky,tree", short_side=64, batch_size=3)
    for single, batched in zip(map(one, images), three.segment(images), strict=True):
        assert single.labels.shape == batched.labels.shape
        assert (single.labels == batched.labels).mean() > 0.999


def test_stream_is_lazy(segmenter: Segmenter) -> None:
    """An endless source is read only a few images ahead, and closed when the caller stops."""
    taken, closed = [], []

    def endless() -> Iterator[np.ndarray]:
        try:
            while True:
                taken.append(1)
                yield picture(32, 32)
        finally:
            closed.append(True)

    results = segmenter.stream(endless())
    for _ in range(5):
        next(results)
    results.close()
    assert 5 <= len(taken) <= 5 + 6  # two queues of one, and the hands of each stage
    assert closed == [True]


def test_stream_raises_what_the_source_raised(segmenter: Segmenter) -> None:
    """The images before an error are segmented, then the error comes through."""

    def broken() -> Iterator[np.ndarray]:
        yield picture(32, 32)
        yield picture(32, 32)
        raise OSError("the camera was unplugged")

    results = segmenter.stream(broken())
    assert next(results).labels.shape == next(results).labels.shape == (32, 32)
    with pytest.raises(OSError, match="unplugged"):
        next(results)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_holds_results_between(batch_size: int) -> None:
    """Each third image is segmented, the others get that very result; a new size is not held."""
    own = Segmenter(classes="sky,tree", short_side=64, batch_size=batch_size)
    images = [picture(40, 64, seed=i) for i in range(7)] + [picture(64, 40, seed=9)]
    results = list(own.stream(images, every=3))
    assert [results.index(r) for r in results] == [0, 0, 0, 3, 3, 3, 6, 7]
    for i in (0, 3, 6, 7):
        assert (results[i].labels == own(images[i]).labels).mean() > 0.999


def test_a_held_result_does_not_wait_for_the_next_image() -> None:
    """With a slow camera a held frame is answered before the next one exists."""
    own = Segmenter(classes="sky,tree", short_side=64)
    answered = Event()

    def camera() -> Iterator[np.ndarray]:
        yield picture(32, 32)
        yield picture(32, 32)
        assert answered.wait(60), "the second frame was never answered"

    results = own.stream(camera(), every=10)
    assert next(results) is next(results)
    answered.set()
    assert list(results) == []


def test_smoothing_averages_and_starts_anew_at_cuts() -> None:
    """On the same scene a changed patch is damped; after a cut the result is that of the image."""
    own = Segmenter(classes="sky,tree,water", background="none", short_side=64, probability=True)
    scene = picture(64, 64, seed=1)
    changed = scene.copy()
    changed[:16, :16] = 255
    other = np.full((64, 64, 3), 40, np.uint8)
    other[:, ::7] = 200
    plain = [own(image).probability for image in (scene, changed, other)]
    smooth = [r.probability for r in own.stream([scene, changed, other], smooth=0.9)]
    np.testing.assert_allclose(smooth[0], plain[0], atol=1e-5)
    assert abs(smooth[1] - plain[0]).mean() < 0.5 * abs(plain[1] - plain[0]).mean()
    np.testing.assert_allclose(smooth[2], plain[2], atol=1e-5)


def test_windows_and_refinement_change_the_map(segmenter: Segmenter) -> None:
    """Both options reach the encoder and the masks."""
    image = picture(96, 128)
    options = {"classes": "@cityscapes", "background": "none", "short_side": 96}
    plain = Segmenter(**options)(image).labels
    assert (Segmenter(**options, window=48, stride=32)(image).labels != plain).any()
    assert (Segmenter(**options, refine="pamr")(image).labels != plain).any()
    whole = Segmenter(**options, window=128)(image).labels
    np.testing.assert_array_equal(whole, plain)


def test_set_classes_encodes_only_new_words(segmenter: Segmenter) -> None:
    """Words seen before are not encoded again."""
    own = Segmenter(classes="sky,tree", background="none", short_side=64)
    calls = []
    encode = own.backend.encode_texts
    own.backend.encode_texts = lambda tokens: calls.append(len(tokens)) or encode(tokens)
    own.set_classes("tree,sky", background="none")
    assert calls == []
    own.set_classes("tree,lake", background="none")
    assert calls == [len(own.templates.prompts)]
    assert own(picture(32, 32)).class_names == ("tree", "lake")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2), (17, 500)])
def test_odd_sizes(segmenter: Segmenter, size: tuple[int, int]) -> None:
    """Any size gives labels of that size."""
    result = segmenter(picture(*size))
    assert result.labels.shape == size
    assert result.labels.max() <= 3


def test_threshold_of_one_leaves_background_only() -> None:
    """No pixel is certain, so all fall below a threshold of 1."""
    own = Segmenter(classes="sky,tree", threshold=1.0, short_side=64, probability=True)
    result = own(picture(40, 40))
    assert result.labels.max() == 0
    assert result.probability is not None
    assert 0 < result.probability.min() <= result.probability.max() < 1


def test_no_background_labels_every_pixel() -> None:
    """With `none` no pixel is 0."""
    result = Segmenter(classes="sky,tree", background="none", short_side=64)(picture(40, 40))
    assert result.labels.min() >= 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_wrong_arrays(segmenter: Segmenter, image: np.ndarray) -> None:
    """Other layouts and dtypes are refused with what was expected."""
    with pytest.raises(InputError, match="expected an RGB image"):
        segmenter(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ""}, "class list is empty"),
        ({"threshold": 2.0}, "threshold"),
        ({"batch_size": 0}, "batch size"),
        ({"backend": "abacus"}, "Unknown backend"),
        ({"device": "tpu"}, "Unknown device"),
        ({"device": "cuda"}, "cuda"),
        ({"short_side": 3}, "short side"),
        ({"model": "no-such-model"}, "Unknown model"),
        ({"model": "/"}, "not a model"),
        ({"templates": ["a photo"]}, "template"),
        ({"templates": []}, "template"),
        ({"refine": "crf"}, "Unknown refinement"),
        ({"stride": 32}, "without a window"),
        ({"logit_scale": float("nan")}, "logit scale"),
        ({"logit_scale": 0.0}, "logit scale"),
        ({"threshold": "0.3"}, "threshold"),
        ({"short_side": "128"}, "short side"),
        ({"window": 8}, "at least 16"),
        ({"window": 64, "stride": 96}, "gaps"),
        ({"preset": "sclip", "stride": 300}, "gaps"),
        ({"preset": "pacl"}, "Unknown preset"),
        ({"merge": "logits"}, "Unknown merge"),
        ({"merge": "pixels", "window": 100, "stride": 15}, "at least 16"),
        ({"denoise": 1.5}, "denoising"),
    ],
)
def test_bad_arguments(options: dict[str, object], message: str) -> None:
    """Each mistake has its sentence."""
    with pytest.raises(AtasError, match=message):
        Segmenter(**{"classes": "sky,tree"} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 32}, "without a window"),
        ({"window": 64, "stride": 96}, "gaps"),
        ({"merge": "pixels", "window": 128, "stride": 15}, "1/8 of the window"),
        ({"readout": "sharp"}, "'sharp' is unknown; choose one of vanilla, maskclip"),
        ({"device": "tpu"}, "Unknown device"),
        ({"device": "cuda"}, "cuda"),
        ({"backend": "abacus"}, "Unknown backend"),
        ({"batch_size": 0}, "batch size"),
        ({"short_side": 0}, "short side"),
        ({"classes": ""}, "class list is empty"),
        ({"templates": []}, "template"),
    ],
)
def test_settings_are_checked_before_the_model(options: dict[str, object], message: str) -> None:
    """A model that must be exported takes long: what needs none is refused first."""
    with pytest.raises(AtasError, match=message):
        Segmenter(**{"model": "no-such-model", "classes": "sky,tree"} | options)


@pytest.mark.parametrize(("option", "value"), [("every", 0), ("smooth", 1.0), ("smooth", -0.1)])
def test_bad_stream_arguments(segmenter: Segmenter, option: str, value: float) -> None:
    """They are refused at once, before an image is read."""
    with pytest.raises(ConfigError, match=r"every|smoothing"):
        segmenter.stream([], **{option: value})


@pytest.mark.parametrize("images", ["clip.mp4", Path("a.jpg"), np.zeros((4, 4, 3), np.uint8), None])
def test_a_stream_is_of_images(segmenter: Segmenter, images: object) -> None:
    """A path or a picture alone is refused at once, and says so."""
    with pytest.raises(InputError, match="iterable of images"):
        segmenter.stream(images)


def test_held_images_are_passed_on_in_time() -> None:
    """However many images a result holds for, few are read ahead: the caller keeps them all."""
    own = Segmenter(classes="sky,tree", short_side=64, batch_size=4)
    taken = []

    def frames() -> Iterator[np.ndarray]:
        for i in range(400):
            taken.append(i)
            yield picture(32, 32)

    results = own.stream(frames(), every=100)
    next(results)
    assert len(taken) <= 16 * 4
    results.close()


def test_another_class_list_for_a_while() -> None:
    """Afterwards the one before is back, with its rule for the background, also after an error."""
    own = Segmenter(classes="sky,tree", short_side=64)
    before = own.vocabulary
    image = picture(32, 32)
    with own.using("lake,road", background="none"):
        assert own(image).class_names == ("lake", "road")
    assert own.vocabulary is before
    with pytest.raises(ZeroDivisionError), own.using("lake,road", background="none"):
        raise ZeroDivisionError
    assert own.vocabulary is before
    own.set_classes("lake,tree")
    assert own.vocabulary.rule == "auto"


def test_set_classes_keeps_the_background_rule() -> None:
    """A new class list does not bring a background back that was switched off."""
    own = Segmenter(classes="sky,tree", background="none", short_side=64)
    own.set_classes("lake,tree")
    assert own.vocabulary.rule == "none"


def test_a_failed_change_keeps_the_old_classes(segmenter: Segmenter) -> None:
    """A list that cannot be used changes nothing."""
    with pytest.raises(ConfigError):
        segmenter.set_classes("dog,,cat")
    assert segmenter.vocabulary.names == ("sky", "building", "tree")


@pytest.mark.parametrize("images", ["photo.jpg", np.zeros((4, 4, 3), np.uint8)])
def test_one_image_is_not_a_list(segmenter: Segmenter, images: object) -> None:
    """`segment` takes lists; a path or picture alone is an error that says so."""
    with pytest.raises(InputError, match="give a list"):
        segmenter.segment(images)


def test_unknown_names_say_what_is_known() -> None:
    """The message lists the embedded models."""
    with pytest.raises(ConfigError, match="atas-tiny"):
        Segmenter("atas-tny", "sky,tree")
