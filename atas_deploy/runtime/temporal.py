"""Features of a video over time: an exponential average that starts anew at scene cuts.

h w grid, R C windows, D embedding width
"""

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError

FloatArray = npt.NDArray[np.float32]

# Correlation of features at the same places: frames of a street video 0.98 one apart and 0.68 to
# 0.85 a second apart, unrelated pictures below 0 (atas-tiny).
_CUT = 0.3


class Smoother:
    """Exponential average of dense features: a * past + (1 - a) * present.

    It is linear, so it equals averaging the logits, and its state does not depend on the words.

    Args:
        weight: a, the weight of the past, in [0, 1); 0 leaves the features as they are.

    Raises:
        ConfigError: the weight is out of range.
    """

    def __init__(self, weight: float) -> None:
        if not 0 <= weight < 1:
            raise ConfigError(f"The smoothing is {weight}; expected a number in [0, 1).")
        self._weight = np.float32(weight)
        self._past: FloatArray | None = None

    def __call__(self, dense: FloatArray) -> FloatArray:
        """Average the next frame's features, (h, w, D) or (R, C, h, w, D), into the past."""
        if not self._weight:
            return dense
        if self._past is not None and not is_cut(self._past, dense):
            dense = self._weight * self._past + (1 - self._weight) * dense
        self._past = dense
        return dense


def is_cut(past: FloatArray, present: FloatArray) -> bool:
    """Whether two maps of features, (..., D), belong to different scenes.

    They do if features at the same places do not correlate, after what all places have in common
    is taken away, or if their sizes differ.
    """
    if past.shape != present.shape:
        return True
    places = tuple(range(past.ndim - 1))
    common = (past.mean(axis=places) + present.mean(axis=places)) / 2
    a, b = (past - common).ravel(), (present - common).ravel()
    return bool(a @ b < _CUT * np.sqrt((a @ a) * (b @ b)))
