"""Vectors of unit length."""

import numpy as np
import pytest

from atas_deploy.core.vectors import unit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_stay_and_zeros_stay(dtype: type) -> None:
    """Length 1 along the last axis, but zeros stay zeros; the type is kept."""
    given = np.array([[[3, 4], [0, 0]], [[0, -2], [1e-3, 0]]], dtype)
    got = unit(given)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, [[[0.6, 0.8], [0, 0]], [[0, -1], [1, 0]]], atol=1e-7)


def test_what_was_given_is_not_changed() -> None:
    """The result is a new array."""
    given = np.array([[3.0, 4.0]])
    unit(given)
    np.testing.assert_array_equal(given, [[3, 4]])
