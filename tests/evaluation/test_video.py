"""Region similarity and flicker."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy import Segmenter
from atas_deploy.core.errors import AnnotationError, ConfigError, InputError
from atas_deploy.evaluation import clips as clips_module
from atas_deploy.evaluation.clips import Clip, davis_clips, video_clip
from atas_deploy.evaluation.flicker import Flicker
from atas_deploy.evaluation.task import Report, run_task
from atas_deploy.evaluation.truth import VOID
from atas_deploy.evaluation.video import VideoTask, measure
from atas_deploy.media.annotations import read_label_map
from atas_deploy.media.video import VideoWriter

SIZE = (48, 64)


def frame(step: int) -> np.ndarray:
    """A bright square of 16 pixels that moves to the right by 8 a step, on noise that stays."""
    image = np.random.default_rng(0).integers(0, 90, (*SIZE, 3)).astype(np.uint8)
    image[16:32, 8 * step : 8 * step + 16] = (250, 220, 40)
    return image


def mask(step: int) -> np.ndarray:
    """Where the square is, as object 1."""
    labels = np.zeros(SIZE, np.uint8)
    labels[16:32, 8 * step : 8 * step + 16] = 1
    return labels


def write_davis(folder: Path, masks: dict[str, list[np.ndarray]], *, level: str = "") -> Path:
    """Sequences of the moving square, and their masks."""
    for name, maps in masks.items():
        places = [folder / kind / level / name for kind in ("JPEGImages", "Annotations")]
        for place in places:
            place.mkdir(parents=True)
        for i, values in enumerate(maps):
            Image.fromarray(frame(i)).save(places[0] / f"{i:05d}.png")
            Image.fromarray(values).save(places[1] / f"{i:05d}.png")
    return folder


def open_segmenter(classes: str = "sky,square", background: str = "road,wall") -> Segmenter:
    """A fast one."""
    return Segmenter(classes=classes, background=background, short_side=64, cache=False)


def run(clips: list[Clip], segmenter: Segmenter | None = None, **settings: float) -> Report:
    """The report, with a short bootstrap."""
    task = VideoTask(segmenter or open_segmenter(), clips, **settings)
    return run_task(task, replicates=100)


def jaccard(truth: np.ndarray, found: np.ndarray, counted: np.ndarray) -> float:
    """As DAVIS defines it: 1 if both masks are empty."""
    both, either = (truth & found & counted).sum(), ((truth | found) & counted).sum()
    return float(both / either) if either else 1.0


def test_j_equals_a_loop(tmp_path: Path) -> None:
    """Mean over frames, then over objects, of the masks of a segmenter of its own."""
    maps = [mask(i) + 2 * (mask(5 - i) > mask(i)).astype(np.uint8) for i in range(4)]
    folder = write_davis(tmp_path, {"a": maps, "b": [mask(i) for i in range(3)]})
    report = run(davis_clips(folder, classes=2))
    segmenter, means = open_segmenter(), []
    for count, values in ((4, [1, 2]), (3, [1])):
        truths = maps if count == 4 else [mask(i) for i in range(3)]
        found = [segmenter(frame(i)).labels for i in range(count)]
        for value in values:
            everywhere = np.ones(SIZE, bool)
            scores = [
                jaccard(t == value, f == value, everywhere)
                for t, f in zip(truths, found, strict=True)
            ]
            means.append(np.mean(scores))
    assert report.scores["j"].value == pytest.approx(np.mean(means))
    assert report.table[0] == {
        "class": "sky",
        "j": pytest.approx(np.mean([means[0], means[2]])),
        "videos": 2,
    }
    assert report.rows.names == ["a", "b"]


def own_masks(segmenter: Segmenter, count: int) -> list[np.ndarray]:
    """What the segmenter finds in each frame."""
    return [segmenter(frame(i)).labels.astype(np.uint8) for i in range(count)]


def test_j_of_its_own_masks_is_one(tmp_path: Path) -> None:
    """Truth that is what the segmenter finds."""
    segmenter = open_segmenter("sky,building", background="none")
    folder = write_davis(tmp_path, {"a": own_masks(segmenter, 3)})
    report = run(davis_clips(folder, classes=2), segmenter)
    assert report.scores["j"].value == 1


def test_void_pixels_do_not_count(tmp_path: Path) -> None:
    """Where truth and masks differ there is void; both together make them equal again."""
    segmenter = open_segmenter("sky,building", background="none")
    maps = own_masks(segmenter, 2)
    for labels in maps:
        labels[:10] = 255
    folder = write_davis(tmp_path, {"a": maps})
    assert run(davis_clips(folder, classes=2), segmenter).scores["j"].value == 1


def test_void_pixels_are_in_no_union(tmp_path: Path) -> None:
    """Two objects that overlap with what is found in part, and void over both, by hand."""
    segmenter = open_segmenter("sky,building", background="none")
    found = own_masks(segmenter, 1)[0].astype(int)
    truth = np.roll(found, 9, axis=1)
    truth[:, 20:40] = 255
    counted = truth != 255
    assert (found[~counted] == 1).any()
    assert (found[~counted] == 2).any()
    folder = write_davis(tmp_path, {"a": [truth.astype(np.uint8)]})
    report = run(davis_clips(folder, classes=2), segmenter)
    each = [jaccard(truth == value, found == value, counted) for value in (1, 2)]
    assert report.scores["j"].value == pytest.approx(np.mean(each))
    whole = [jaccard(truth == value, found == value, truth > 0) for value in (1, 2)]
    assert 0 < np.mean(each) < 1
    assert np.mean(whole) < np.mean(each)  # void in unions would lower it


def test_an_object_that_is_away_and_not_found(tmp_path: Path) -> None:
    """Counts 1 in that frame, as both masks are empty; one that is found there counts 0."""
    segmenter = open_segmenter("sky,sand", background="none")
    found = own_masks(segmenter, 3)
    assert [bool((labels == 2).any()) for labels in found] == [True, True, False]
    first = np.roll(found[0], 5, axis=1)
    folder = write_davis(tmp_path, {"a": [first, found[1], found[2]]})
    sky, sand = (row["j"] for row in run(davis_clips(folder, classes=2), segmenter).table)
    everywhere = np.ones(SIZE, bool)
    assert sand == pytest.approx((2 + jaccard(first == 2, found[0] == 2, everywhere)) / 3)
    assert sky == pytest.approx((2 + jaccard(first == 1, found[0] == 1, everywhere)) / 3)
    assert sand < 1
    away = write_davis(tmp_path / "away", {"a": [0 * found[0], 0 * found[1], found[2]]})
    rows = run(davis_clips(away, classes=2), segmenter).table
    assert rows == [{"class": "sky", "j": pytest.approx(1 / 3), "videos": 1}]


def test_255_alone_is_the_object(tmp_path: Path) -> None:
    """As in DAVIS 2016: the score is that of the same mask written as 1."""
    folders = [tmp_path / kind for kind in ("ones", "full")]
    for folder, factor in zip(folders, (1, 255), strict=True):
        write_davis(folder, {"a": [factor * mask(i) for i in range(3)]}, level="480p")
    ones, full, own = (
        run(davis_clips(folder, words={"a": {number: "sun"}}), open_segmenter("sky,sun"))
        .scores["j"]
        .value
        for folder, number in ((folders[0], 1), (folders[1], 1), (folders[1], 255))
    )
    assert ones == full == own
    assert 0 < ones < 1


def labels_of(folder: Path, words: dict[int, str | None], index: int = 0) -> np.ndarray:
    """The labels of a frame of the only sequence."""
    found = davis_clips(folder, words={"a": words})[0].truth(index, SIZE)
    assert found is not None
    return found


def test_255_beside_objects(tmp_path: Path) -> None:
    """Is void, unless it has a word of its own; so it is in frames where it stands alone."""
    both = mask(0)
    both[0] = 255
    alone = 255 * mask(1)
    folder = write_davis(tmp_path, {"a": [both, alone]})
    assert set(np.unique(labels_of(folder, {1: "square"}))) == {0, 1, VOID}
    assert set(np.unique(labels_of(folder, {1: "square"}, 1))) == {0, VOID}
    assert set(np.unique(labels_of(folder, {1: "square", 255: "edge"}))) == {0, 1, 2}


def test_empty_masks_do_not_tell_what_255_is(tmp_path: Path) -> None:
    """The first one with an object does, also if it is asked for first."""
    folder = write_davis(tmp_path, {"a": [0 * mask(0), 255 * mask(1)]})
    assert set(np.unique(labels_of(folder, {1: "square"}, 1))) == {0, 1}
    assert set(np.unique(labels_of(folder, {1: "square"}, 0))) == {0}


def test_255_without_a_word(tmp_path: Path) -> None:
    """One sentence names the file, the value and the words that there are."""
    folder = write_davis(tmp_path, {"a": [255 * mask(0)]})
    with pytest.raises(AnnotationError, match=r"0\.png has the object 255, .* words for none only"):
        labels_of(folder, {2: "square"})


def test_masks_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the first; those beyond the frames that are taken are not read at all."""
    folder = write_davis(tmp_path, {"a": [mask(i) for i in range(5)]})
    read: list[str] = []

    def spy(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
        read.append(path.stem)
        return read_label_map(path, size)

    monkeypatch.setattr(clips_module, "read_label_map", spy)
    run(davis_clips(folder, classes=2, max_frames=3))
    assert sorted(read) == ["00000", "00000", "00001", "00002"]


def test_words_that_cannot_be_used_end_before_the_first_frame(tmp_path: Path) -> None:
    """The sentence names the sequence."""
    folder = write_davis(tmp_path, {"a": [mask(0)], "b": [mask(0)]})
    words = {"a": {1: "square", 2: "wall"}, "b": {1: "square"}}
    segmenter = open_segmenter("wall,square", background="none")
    with pytest.raises(ConfigError, match=r'^Sequence "b": One class \("square"\) without'):
        VideoTask(segmenter, davis_clips(folder, words=words))


def test_a_run_leaves_the_segmenter_as_it_was(tmp_path: Path) -> None:
    """Though each sequence has its own words; a second run gives the same report."""
    folder = write_davis(tmp_path, {"a": [mask(0)], "b": [mask(0), mask(1)]})
    clips = davis_clips(folder, words={"a": {1: "square"}, "b": {1: "box|square"}})
    segmenter = open_segmenter()
    before = segmenter.vocabulary
    first, second = (run(clips, segmenter) for _ in range(2))
    assert segmenter.vocabulary is before
    assert (first.facts, first.scores, first.table) == (second.facts, second.scores, second.table)


def test_frames_without_masks_do_not_count(tmp_path: Path) -> None:
    """Data sets that label each fifth frame have fewer masks than frames."""
    folder = write_davis(tmp_path, {"a": [mask(i) for i in range(4)]})
    for i in (1, 2, 3):
        (folder / "Annotations" / "a" / f"{i:05d}.png").unlink()
    report = run(davis_clips(folder, classes=2))
    labels = open_segmenter()(frame(0)).labels
    everywhere = np.ones(SIZE, bool)
    assert report.scores["j"].value == pytest.approx(jaccard(mask(0) == 1, labels == 1, everywhere))


def test_words_of_objects(tmp_path: Path) -> None:
    """Each sequence has its own; objects of one word count as one, and one without is left out."""
    maps = [mask(i) + 2 * (mask(5 - i) > mask(i)).astype(np.uint8) for i in range(2)]
    maps[0][0, 0] = maps[1][0, 0] = 3
    folder = write_davis(tmp_path, {"a": maps, "b": maps, "c": maps})
    words = {"a": {1: "square", 2: "square", 3: None}, "b": {1: "box|square", 2: "hill", 3: None}}
    clips = davis_clips(folder, words=words)
    assert [(clip.name, clip.words) for clip in clips] == [
        ("a", ("square",)),
        ("b", ("box|square", "hill")),
    ]
    labels = clips[0].truth(0, SIZE)
    assert labels is not None
    np.testing.assert_array_equal(labels == 1, (maps[0] == 1) | (maps[0] == 2))
    assert labels[0, 0] == VOID
    report = run(clips)
    assert [(row["class"], row["videos"]) for row in report.table] == [
        ("square", 1),
        ("box|square", 1),
        ("hill", 1),
    ]


def test_a_word_without_object_is_told(tmp_path: Path) -> None:
    """By sequence and number; the score is that of the objects that exist."""
    folder = write_davis(tmp_path, {"a": [mask(0), mask(1)], "b": [255 * mask(0)]})
    words = {"a": {1: "square", 7: "cat", 8: None}, "b": {1: "square"}}
    told: list[str] = []
    task = VideoTask(open_segmenter(), davis_clips(folder, words=words), tell=told.append)
    report = run_task(task, replicates=100)
    assert told == [
        'Sequence "a" has a word for object 7, which is in no mask that was read; it does not '
        "count."
    ]
    assert report.facts["objects_in_no_mask"] == ["a 7"]
    assert [row["class"] for row in report.table] == ["square"]


def test_an_object_without_word_is_named(tmp_path: Path) -> None:
    """With its file."""
    folder = write_davis(tmp_path, {"a": [3 * mask(0)]})
    with pytest.raises(
        AnnotationError, match=r"00000\.png has the object 3, .* words for 1, 2 only"
    ):
        run(davis_clips(folder, classes=2))


def test_masks_of_another_size_are_named(tmp_path: Path) -> None:
    """With both sizes."""
    folder = write_davis(tmp_path, {"a": [mask(0)[:, :60]]})
    with pytest.raises(AnnotationError, match=r"60 x 48 .* 64 x 48"):
        run(davis_clips(folder, classes=2))


def test_missing_sequences_and_frames(tmp_path: Path) -> None:
    """One sentence each, before anything is segmented."""
    folder = write_davis(tmp_path, {"a": [mask(0), mask(1)]})
    with pytest.raises(InputError, match=r'The sequence "b" is not in .*JPEGImages'):
        davis_clips(folder, words={"b": {1: "dog"}})
    (folder / "JPEGImages" / "a" / "00001.png").unlink()
    with pytest.raises(AnnotationError, match=r"00001\.png has no frame"):
        davis_clips(folder, classes=1)
    with pytest.raises(InputError, match="expected JPEGImages and Annotations"):
        davis_clips(tmp_path / "nowhere", classes=1)


def test_several_resolutions_are_refused(tmp_path: Path) -> None:
    """One must be chosen."""
    for level in ("480p", "1080p"):
        write_davis(tmp_path, {"a": [mask(0)]}, level=level)
    with pytest.raises(InputError, match=r"several resolutions \(1080p, 480p\)"):
        davis_clips(tmp_path, classes=1)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still scene under noise that makes a model waver, 12 frames."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    scene = np.kron(np.random.default_rng(1).integers(60, 190, (6, 8, 3)), np.ones((16, 16, 1)))
    with VideoWriter(path, size=(96, 128), rate=Fraction(10), crf=0) as writer:
        for i in range(12):
            noise = np.random.default_rng(i).normal(0, 6, scene.shape)
            writer.write(np.clip(np.rint(scene + noise), 0, 255).astype(np.uint8))
    return path


def test_a_film_without_truth_has_flicker_only(film: Path) -> None:
    """And smoothing lowers it; frames that are held do not flicker."""
    segmenter = open_segmenter("@coco-panoptic", background="none")
    plain, smooth, held = (
        run([video_clip(film)], segmenter, **settings)
        for settings in ({}, {"smooth": 0.8}, {"every": 12})
    )
    assert list(plain.scores) == ["flicker", "still"]
    assert plain.table == []
    assert plain.rows.names == ["film.mp4"]
    assert 0 < smooth.scores["flicker"].value < plain.scores["flicker"].value < 1
    assert held.scores["flicker"].value == 0
    assert plain.scores["still"].value > 0.5
    assert (smooth.facts["smooth"], held.facts["every"]) == (0.8, 12)


def test_flicker_of_a_film_equals_a_loop(film: Path) -> None:
    """Labels frame by frame, compared where the blurred picture stays."""
    segmenter = open_segmenter("sky,building,tree,water,grass")
    report = run([video_clip(film, max_frames=4)], segmenter)
    flicker = Flicker()
    for image in video_clip(film, max_frames=4).frames():
        flicker.add(image, segmenter(image).labels)
    assert report.rows.totals()["flicker"].tolist() == flicker.counts()


def test_measure_keeps_replicates() -> None:
    """One with two objects and one with none."""
    scores = measure(
        {
            "j": np.array([[0.5, 0.25], [0, 0]]),
            "objects": np.array([[1.0, 1], [0, 0]]),
            "flicker": np.array([[1.0, 4, 8], [0, 0, 8]]),
        }
    )
    np.testing.assert_allclose(scores["j"], [0.375, np.nan])
    np.testing.assert_allclose(scores["flicker"], [0.25, np.nan])
    np.testing.assert_allclose(scores["still"], [0.5, 0])
