"""`RegionClassifier` with the embedded model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from atas_deploy import NamedRegions, Region, RegionClassifier
from atas_deploy.core.errors import AtasError, ConfigError, InputError
from atas_deploy.core.templates import fill
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.regions import TrackNames
from atas_deploy.runtime.regions.crops import cut_crop

CLASSES = "sky,building|temple,tree"
SIZE = (112, 160)


def picture(height: int = SIZE[0], width: int = SIZE[1], *, seed: int = 0) -> np.ndarray:
    """Seeded patches of colour, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 9, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def some_regions(count: int = 6, *, seed: int = 0) -> list[Region]:
    """Boxes and masks in turn, overlapping."""
    rng = np.random.default_rng(seed)
    regions = []
    for index in range(count):
        x, y = rng.uniform(0, 100), rng.uniform(0, 60)
        width, height = rng.uniform(10, 60), rng.uniform(10, 50)
        if index % 2:
            mask = np.zeros(SIZE, np.bool_)
            mask[int(y) : int(y + height), int(x) : int(x + width)] = True
            regions.append(Region.from_mask(mask))
        else:
            regions.append(Region(box=(x, y, x + width, y + height)))
    return regions


def classifier(classes: str = CLASSES, **settings: object) -> RegionClassifier:
    """The embedded model with a small input."""
    return RegionClassifier(classes=classes, short_side=112, **settings)


@pytest.fixture(scope="module")
def dense() -> RegionClassifier:
    """By dense features."""
    return classifier()


@pytest.fixture(scope="module")
def both() -> RegionClassifier:
    """By both, the crop with a weight of 0.3."""
    return classifier(embed="both", crop_weight=0.3, batch_size=4)


def assert_equal(found: NamedRegions, expected: NamedRegions) -> None:
    """The same classes, and scores up to rounding."""
    assert found.class_names == expected.class_names
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def text_features(model: RegionClassifier) -> np.ndarray:
    """Mean of the prompts of each query, (Q, D) float64, by the engine and the tokenizer."""
    tokenizer = model.bundle.tokenizer()
    vectors = []
    for query in model.vocabulary.queries:
        prompts = [fill(template, query) for template in model.templates.prompts]
        mean = model.backend.encode_texts(tokenizer(prompts)).astype(np.float64).mean(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    return np.stack(vectors)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def expected_boxes(model: RegionClassifier, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Dense embeddings of boxes (K, D) by torchvision, of a picture that fits the encoder."""
    features = model.backend.encode_images(image[None]).dense[0]
    h, w = features.shape[:2]
    scale = np.array([w / image.shape[1], h / image.shape[0]] * 2)
    cells = torch.tensor(boxes * scale, dtype=torch.float32)
    pooled = roi_align(
        torch.tensor(features).permute(2, 0, 1)[None],
        [cells],
        output_size=1,
        sampling_ratio=-1,
        aligned=True,
    )[..., 0, 0].numpy()
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def expected_crops(model: RegionClassifier, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Crop embeddings of boxes in whole pixels (K, D), cut, padded and encoded one by one."""
    side, fill = model.embedder.size, np.round(255 * np.array(model.bundle.manifest.mean))
    vectors = []
    for x0, y0, x1, y1 in boxes.astype(int):
        crop = image[y0:y1, x0:x1]
        scale = side / max(crop.shape[:2])
        size = round(crop.shape[1] * scale), round(crop.shape[0] * scale)
        shrinks = size[0] * size[1] < crop.shape[0] * crop.shape[1]
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        square = np.tile(fill.astype(np.uint8), (side, side, 1))
        top, left = (side - size[1]) // 2, (side - size[0]) // 2
        square[top : top + size[1], left : left + size[0]] = crop
        vectors.append(model.backend.encode_images(square[None]).image[0])
    return np.stack(vectors)


BOXES = np.array([[0, 0, 160, 112], [16, 8, 60, 100], [90, 30, 150, 52], [3, 3, 9, 7]])


@pytest.mark.parametrize("embed", ["dense", "crop", "both"])
def test_scores_follow_the_definition(embed: str) -> None:
    """Pooling or crops, words, scale, softmax and their geometric mean put together by hand."""
    model = classifier(embed=embed, crop_weight=0.3, background="road,wall")
    image = picture()
    named = model(image, [Region(box=tuple(box)) for box in BOXES.tolist()])
    texts = model.logit_scale * text_features(model).T
    dense = softmax(expected_boxes(model, image, BOXES) @ texts)
    crop = softmax(expected_crops(model, image, BOXES) @ texts)
    mean = {"dense": dense, "crop": crop, "both": dense**0.7 * crop**0.3}[embed]
    mean /= mean.sum(axis=1, keepdims=True)
    for row, labels, scores in zip(mean, named.labels, named.scores, strict=True):
        best = [max(row[model.vocabulary.query_class == label]) for label in range(4)]
        order = sorted([1, 2, 3], key=lambda label: -best[label])
        expected = ([0, *order] if best[0] >= max(best[1:]) else order)[:3]
        assert labels.tolist() == expected
        np.testing.assert_allclose(scores, [best[label] for label in labels], atol=1e-4)


def test_both_is_the_softmax_of_the_weighted_mean_of_logits(both: RegionClassifier) -> None:
    """For any weight, from one pass over the picture."""
    image, regions = picture(), some_regions()
    dense = both.embed_dense(both.encoder(image), regions)
    crops = both.embed_crops(image, regions)
    for weight in (0, 0.25, 1):
        found = both.logits(both.mix(dense, crops, crop_weight=weight))
        expected = (1 - weight) * both.logits(dense) + weight * both.logits(crops)
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert_equal(both.rank(regions, both.mix(dense, crops)), both(image, regions))


@pytest.mark.parametrize(("weight", "embed"), [(0, "dense"), (1, "crop")])
def test_weight_of_0_or_1_is_one_of_the_two(weight: float, embed: str) -> None:
    """The other does not count."""
    image, regions = picture(), some_regions()
    mixed = classifier(embed="both", crop_weight=weight)
    assert_equal(mixed(image, regions), classifier(embed=embed)(image, regions))


def test_scale_enlarges_what_is_cut_out() -> None:
    """A crop at 1.5 is that of the box made larger by hand."""
    image = picture()
    found = classifier(embed="crop", crop_scale=1.5).embed_crops(
        image, [Region(box=(40, 40, 80, 60))]
    )
    expected = classifier(embed="crop").embed_crops(image, [Region(box=(30, 35, 90, 65))])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert cut_crop(image, (40, 40, 80, 60), scale=1.5).shape == (30, 60, 3)


def test_mask_is_pooled_and_without_it_the_box(dense: RegionClassifier) -> None:
    """The same region gives two embeddings; a crop is always the box."""
    mask = np.zeros(SIZE, np.bool_)
    mask[10:90, 20:40] = True
    mask[70:90, 20:120] = True
    image, region = picture(), Region.from_mask(mask)
    encoded = dense.encoder(image)
    box = Region(box=(20, 10, 120, 90))
    by_mask, by_box, plain = (
        dense.embed_dense(encoded, [one]) for one in (region, replace(region, rle=None), box)
    )
    np.testing.assert_array_equal(by_box, plain)
    assert np.abs(by_mask - by_box).max() > 1e-3
    crops = dense.embed_crops(image, [region, box])
    np.testing.assert_allclose(crops[0], crops[1], atol=1e-6)


def test_order_of_the_regions_does_not_matter(both: RegionClassifier) -> None:
    """Results come in the order of the regions, whatever it is."""
    image, regions = picture(), some_regions(9)
    order = np.random.default_rng(0).permutation(9)
    named = both(image, regions)
    shuffled = both(image, [regions[index] for index in order])
    np.testing.assert_array_equal(shuffled.labels, named.labels[order])
    np.testing.assert_allclose(shuffled.scores, named.scores[order], atol=1e-4)


@pytest.mark.parametrize("embed", ["dense", "crop", "both"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_stream_equals_one_at_a_time(embed: str, batch_size: int) -> None:
    """Pictures of mixed sizes, one of them without regions, in batches of any size."""
    model = classifier(embed=embed, batch_size=batch_size)
    sizes = [SIZE, SIZE, (90, 70), SIZE, (64, 200)]
    pictures = [picture(*size, seed=index) for index, size in enumerate(sizes)]
    regions = [some_regions(index, seed=index) for index in (3, 0, 4, 5, 2)]
    single = classifier(embed=embed)
    found = list(model.stream(zip(pictures, regions, strict=True)))
    assert [len(named) for named in found] == [3, 0, 4, 5, 2]
    for image, some, named in zip(pictures, regions, found, strict=True):
        assert_equal(named, single(image, some))


@pytest.mark.parametrize("embed", ["dense", "crop"])
def test_stream_is_lazy(embed: str) -> None:
    """An endless source is read only a few pictures ahead, and closed when the caller stops."""
    model = classifier(embed=embed)
    taken, closed = [], []

    def endless() -> Iterator[tuple[np.ndarray, list[Region]]]:
        try:
            while True:
                taken.append(1)
                yield picture(32, 32), [Region(box=(0, 0, 20, 20))]
        finally:
            closed.append(True)

    results = model.stream(endless())
    for _ in range(5):
        next(results)
    results.close()
    assert 5 <= len(taken) <= 5 + 9  # three queues of one, and the hands of each stage
    assert closed == [True]


def test_stream_raises_what_a_picture_raised(dense: RegionClassifier, tmp_path: Path) -> None:
    """The pictures before it are named, then the error comes through."""
    region = [Region(box=(0, 0, 20, 20))]
    results = dense.stream([(picture(), region), (tmp_path / "missing.jpg", region)])
    assert len(next(results)) == 1
    with pytest.raises(AtasError, match=r"missing\.jpg"):
        next(results)


def test_held_pictures_are_pooled_from_the_one_before(dense: RegionClassifier) -> None:
    """Their own regions, the features of the last that was encoded."""
    pictures = [picture(seed=index) for index in range(4)]
    regions = [some_regions(4, seed=index) for index in range(4)]
    found = list(dense.stream(zip(pictures, regions, strict=True), every=2))
    for index, named in enumerate(found):
        assert_equal(named, dense(pictures[index - index % 2], regions[index]))


def test_tracks_name_by_all_that_was_seen(dense: RegionClassifier) -> None:
    """The mean of the embeddings of both frames decides, and zeros change nothing."""
    regions = [Region(box=(10, 10, 80, 80), track=1)]
    gone = [Region(box=(900, 900, 990, 990), track=1)]
    pictures = [picture(seed=1), picture(seed=2), picture(seed=3)]
    embedded = [dense.embed_dense(dense.encoder(image), regions) for image in pictures[:2]]
    expected = dense.rank(regions, np.mean(embedded, axis=0))
    stream = dense.stream(zip(pictures, (regions, regions, gone), strict=True), tracks=TrackNames())
    first, second, third = stream
    assert_equal(first, dense(pictures[0], regions))
    assert_equal(second, expected)
    np.testing.assert_array_equal(third.labels, second.labels)


@pytest.mark.parametrize("embed", ["dense", "crop"])
def test_regions_may_be_found_in_the_encoded_picture(embed: str) -> None:
    """By a function of its features; it is asked once a picture."""
    model = classifier(embed=embed)
    asked: list[tuple[int, int]] = []

    def find(encoded: Encoded) -> list[Region]:
        asked.append(encoded.size)
        return [Region(box=(0, 0, encoded.size[1] / 2, encoded.size[0]))]

    expected = model(picture(), [Region(box=(0, 0, 80, 112))])
    assert_equal(model(picture(), find), expected)
    assert_equal(next(iter(model.stream([(picture(), find)]))), expected)
    assert asked == [SIZE, SIZE]


@pytest.mark.parametrize("embed", ["dense", "crop", "both"])
def test_found_regions_hold_as_long_as_the_features(embed: str) -> None:
    """They are found once in two pictures, and anew where the size changes."""
    sizes = [SIZE, SIZE, SIZE, SIZE, (90, 70)]
    pictures = [picture(*size, seed=index) for index, size in enumerate(sizes)]
    asked: list[Encoded] = []

    def find(encoded: Encoded) -> list[Region]:
        asked.append(encoded)
        return [Region(box=(0, 0, 10 * len(asked), encoded.size[0]))]

    model = classifier(embed=embed)
    found = list(model.stream([(image, find) for image in pictures], every=2))
    assert [encoded.size for encoded in asked] == [SIZE, SIZE, (90, 70)]
    assert [named.regions[0].box[2] for named in found] == [10, 10, 20, 20, 30]
    crops = model.embed_crops(pictures[3], found[3].regions)
    dense = model.embed_dense(asked[1], found[3].regions)
    expected = {"dense": dense, "crop": crops, "both": model.mix(dense, crops)}[embed]
    assert_equal(found[3], model.rank(found[3].regions, expected))


def test_windows_merged_as_features_work() -> None:
    """The features are the mean of the windows', which pooling makes unit vectors."""
    model = classifier(window=64, stride=32)
    encoded = model.encoder(picture())
    assert np.linalg.norm(encoded.dense, axis=-1).min() < 0.999
    found = model.embed_dense(encoded, some_regions())
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_regions_without_embedding_are_no_nan(both: RegionClassifier) -> None:
    """Outside or without area: every query has the same probability, the first class wins."""
    regions = [Region(box=(500, 500, 600, 600)), Region(box=(7, 7, 7, 30))]
    named = both(picture(), regions)
    np.testing.assert_array_equal(named.labels[:, 0], 1)
    np.testing.assert_allclose(named.scores, 1 / 4)
    strict = classifier(threshold=0.3)(picture(), regions)
    assert [strict.name(index) for index in range(2)] == ["background", "background"]


def test_no_regions(both: RegionClassifier) -> None:
    """Empty lists are lists."""
    named = both(picture(), [])
    assert len(named) == 0
    assert named.labels.shape == named.scores.shape == (0, 3)


def test_thousands_of_regions(dense: RegionClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 boxes and 500 masks, ranked in parts, each as if it were alone."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (10_000, 2))
    ends = corners + rng.uniform(1, 60, (10_000, 2))
    regions = [
        Region(box=(*start, *end))
        for start, end in zip(corners.tolist(), ends.tolist(), strict=True)
    ]
    regions += some_regions(1000)[1::2]
    monkeypatch.setattr("atas_deploy.runtime.regions.classifier._LOGITS", 4000)
    image = picture()
    named = dense.name(image, regions, top=1)
    assert named.labels.shape == (10_500, 1)
    chosen = [0, 999, 1000, 9999, 10_000, 10_499]
    alone = dense.name(image, [regions[index] for index in chosen], top=1)
    np.testing.assert_array_equal(named.labels[chosen], alone.labels)
    np.testing.assert_allclose(named.scores[chosen], alone.scores, atol=1e-4)


def test_top_keeps_the_best(dense: RegionClassifier) -> None:
    """As many as asked for, no more than there are classes."""
    image, regions = picture(), some_regions()
    every = dense.name(image, regions, top=99)
    assert every.labels.shape == (6, 3)
    two = dense.name(image, regions, top=2)
    np.testing.assert_array_equal(two.labels, every.labels[:, :2])
    assert classifier(top=1)(image, regions).labels.shape == (6, 1)


def test_scores_are_those_that_are_ranked(dense: RegionClassifier) -> None:
    """(K, C + 1), the background's column 0 without background words."""
    image, regions = picture(), some_regions()
    scores = dense.scores(dense.embed_dense(dense.encoder(image), regions))
    named = dense(image, regions)
    assert scores.shape == (6, 4)
    assert not scores[:, 0].any()
    np.testing.assert_allclose(
        np.take_along_axis(scores, named.labels, axis=1), named.scores, atol=1e-5
    )


def test_one_class_against_background_words() -> None:
    """Alone it is refused; with words to compete with, each region is either."""
    with pytest.raises(ConfigError, match="nothing to compete with"):
        classifier("sky")
    named = classifier("sky", background="road,tree")(picture(), some_regions(12))
    assert named.labels.shape == (12, 1)
    assert set(named.labels.ravel().tolist()) <= {0, 1}


def test_threshold_makes_improbable_regions_background(dense: RegionClassifier) -> None:
    """Those whose best class is below it, no others."""
    image, regions = picture(), some_regions(12)
    best = dense(image, regions).scores[:, 0]
    limit = float(np.median(best))
    named = classifier(threshold=limit)(image, regions)
    np.testing.assert_array_equal(named.labels[:, 0] == 0, best < limit)


def test_classes_can_be_changed() -> None:
    """The result is that of a classifier made with them; a list that is refused changes nothing."""
    image, regions = picture(), some_regions()
    model = classifier()
    model.set_classes("water,road", background="sky")
    expected = classifier("water,road", background="sky")(image, regions)
    assert_equal(model(image, regions), expected)
    with pytest.raises(ConfigError):
        model.set_classes("dog", background="none")
    assert_equal(model(image, regions), expected)


def test_pictures_are_read_from_paths(both: RegionClassifier, tmp_path: Path) -> None:
    """As if their pixels were given."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture()[..., ::-1])
    assert_equal(both(path, some_regions()), both(picture(), some_regions()))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"embed": "boxes"}, 'Unknown embedding "boxes"; expected dense, crop, both'),
        ({"crop_weight": 1.5}, r"crop weight is 1\.5; expected a number in \[0, 1\]"),
        ({"crop_scale": 0}, "crop scale is 0; expected a number above 0"),
        ({"top": 0}, "top is 0; expected a whole number of classes above 0"),
        ({"threshold": 2}, r"expected a probability in \[0, 1\]"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"templates": "no-such-set"}, 'Unknown templates "no-such-set"'),
    ],
)
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, object], message: str) -> None:
    """Before a model is opened."""
    with pytest.raises(ConfigError, match=message):
        RegionClassifier("no-such-model", classes=CLASSES, **setting)


def test_calls_that_cannot_be_done_are_refused(dense: RegionClassifier) -> None:
    """A top of none, every 0-th picture, a weight beyond 1, a box of NaN."""
    image, regions = picture(), some_regions(1)
    with pytest.raises(ConfigError, match="top is 0"):
        dense.name(image, regions, top=0)
    with pytest.raises(ConfigError, match="Got every 0 pictures"):
        dense.stream([], every=0)
    with pytest.raises(ConfigError, match="crop weight is 2"):
        dense.mix(np.zeros((1, 2)), np.zeros((1, 2)), crop_weight=2)
    for embed in ("dense", "crop"):
        with pytest.raises(InputError, match="finite numbers"):
            classifier(embed=embed)(image, [Region(box=(0, np.nan, 5, 5))])
