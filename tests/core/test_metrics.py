"""Metrics on hand-counted cases, and beside scikit-learn and torchmetrics."""

import numpy as np
import pytest

from atas_deploy.core.errors import InputError
from atas_deploy.core.metrics import (
    Areas,
    auc_of_histograms,
    class_accuracy,
    count_areas,
    iou,
    known_mean,
    pixel_accuracy,
    ratio,
)


def labels(seed: int, *, classes: int, void: int | None = None) -> np.ndarray:
    """Random labels (40, 50), also void ones."""
    generator = np.random.default_rng(seed)
    found = generator.integers(0, classes, (40, 50))
    return found if void is None else np.where(generator.random((40, 50)) < 0.2, void, found)


def test_areas_by_hand() -> None:
    """A void pixel counts nowhere; a prediction that is no class only misses the true one."""
    truth = np.array([[0, 1, 1], [1, 9, 0]])
    predicted = np.array([[0, 0, 1], [7, 1, 0]])
    areas = count_areas(truth, predicted, classes=3, void=9)
    assert areas.hits.tolist() == [2, 1, 0]
    assert areas.predicted.tolist() == [3, 1, 0]
    assert areas.truth.tolist() == [2, 3, 0]
    np.testing.assert_allclose(iou(areas), [2 / 3, 1 / 3, np.nan])
    np.testing.assert_allclose(class_accuracy(areas), [1, 1 / 3, np.nan])
    assert pixel_accuracy(areas) == 3 / 5


def test_areas_without_a_pixel_that_counts() -> None:
    """There is no accuracy, and no class has an IoU."""
    void = np.full((2, 2), 255)
    areas = count_areas(void, np.zeros((2, 2), int), classes=2, void=255)
    assert np.isnan(pixel_accuracy(areas))
    assert np.isnan(iou(areas)).all()


def test_classes_without_pixels() -> None:
    """One that is neither true nor predicted has no IoU; one that is only predicted has 0."""
    areas = count_areas(np.array([0, 0]), np.array([0, 1]), classes=3, void=255)
    np.testing.assert_allclose(iou(areas), [0.5, 0, np.nan])
    np.testing.assert_allclose(class_accuracy(areas), [0.5, np.nan, np.nan])
    assert known_mean(iou(areas)) == 0.25


def test_a_single_class() -> None:
    """Its IoU is its accuracy, as nothing is taken for it that is not."""
    areas = count_areas(np.zeros(4, int), np.array([0, 0, 0, 5]), classes=1, void=255)
    assert (iou(areas)[0], class_accuracy(areas)[0], pixel_accuracy(areas)) == (0.75,) * 3


@pytest.mark.parametrize("label", [-1, 3, 254])
def test_true_labels_beyond_the_classes_are_refused(label: int) -> None:
    """They would make the sums as long as they are large."""
    with pytest.raises(InputError, match=rf"true label {label}; expected 0 to 2, or 255"):
        count_areas(np.array([0, label]), np.array([0, 0]), classes=3, void=255)


def test_areas_equal_sklearn() -> None:
    """They are the diagonal and the margins of scikit-learn's confusion matrix."""
    from sklearn.metrics import confusion_matrix as sklearn_matrix

    truth, predicted = labels(0, classes=4, void=255), labels(1, classes=5)
    known = truth != 255
    matrix = sklearn_matrix(truth[known], predicted[known], labels=range(6))
    areas = count_areas(truth, predicted, classes=6, void=255)
    np.testing.assert_array_equal(areas.hits, np.diag(matrix))
    np.testing.assert_array_equal(areas.truth, matrix.sum(1))
    np.testing.assert_array_equal(areas.predicted, matrix.sum(0))


@pytest.mark.parametrize("average", ["none", "macro", "micro"])
def test_iou_and_accuracy_equal_torchmetrics(average: str) -> None:
    """Jaccard index and accuracy with ignored pixels, class by class and on average."""
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

    truth, predicted = labels(2, classes=4, void=255), labels(3, classes=4)
    areas = count_areas(truth, predicted, classes=4, void=255)
    tensors = torch.tensor(predicted), torch.tensor(truth)
    settings = {"num_classes": 4, "average": average, "ignore_index": 255}
    jaccard = multiclass_jaccard_index(*tensors, **settings).numpy()
    accuracy = multiclass_accuracy(*tensors, **settings).numpy()
    total = Areas(*(x.sum(keepdims=True) for x in (areas.hits, areas.predicted, areas.truth)))
    ours = {"none": areas, "macro": areas, "micro": total}[average]
    reduce = known_mean if average == "macro" else np.squeeze
    np.testing.assert_allclose(reduce(iou(ours)), jaccard, atol=1e-6)
    np.testing.assert_allclose(reduce(class_accuracy(ours)), accuracy, atol=1e-6)


def test_measures_keep_leading_axes() -> None:
    """Replicates are measured one by one."""
    one, two = (
        count_areas(labels(i, classes=3), labels(9, classes=3), classes=3, void=255) for i in (0, 1)
    )
    both = Areas(*(np.stack(pair) for pair in zip(*map(_sums, (one, two)), strict=True)))
    np.testing.assert_array_equal(iou(both), [iou(one), iou(two)])
    np.testing.assert_array_equal(pixel_accuracy(both), [pixel_accuracy(one), pixel_accuracy(two)])


def _sums(areas: Areas) -> tuple[np.ndarray, ...]:
    return areas.hits, areas.predicted, areas.truth


def test_means_and_ratios_of_nothing() -> None:
    """They are NaN, without a warning."""
    np.testing.assert_allclose(ratio([1, 0, 3], [2, 0, 0]), [0.5, np.nan, np.nan])
    np.testing.assert_allclose(
        known_mean(np.array([[1, np.nan, 3], [np.nan, np.nan, np.nan]])), [2, np.nan]
    )


def test_auc_counts_ties_as_half() -> None:
    """Of six pairs, two are won and one is a tie."""
    positive, negative = np.array([0, 1.0, 1, 0]), np.array([1.0, 0, 1, 1])
    assert auc_of_histograms(positive, negative) == 2.5 / 6


def test_auc_equals_sklearn() -> None:
    """Scores that are the bins themselves have the same area, and one for each replicate."""
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    scores, truth = generator.integers(0, 20, 500), generator.random(500) < 0.3
    scores[truth] = np.minimum(scores[truth] + 4, 19)
    positive, negative = (np.bincount(scores[t], minlength=20) for t in (truth, ~truth))
    found = auc_of_histograms(
        np.stack([positive, positive * 2, negative]).astype(float), negative.astype(float)
    )
    expected = roc_auc_score(truth, scores)
    np.testing.assert_allclose(found, [expected, expected, 0.5])


def test_auc_of_one_kind_only() -> None:
    """Without pairs there is none."""
    assert np.isnan(auc_of_histograms(np.array([1.0, 2]), np.zeros(2)))
