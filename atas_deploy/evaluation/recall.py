"""Recall at 1, 5 and 10 from ranks, as rows keep it."""

import numpy as np
import numpy.typing as npt

from atas_deploy.core.metrics import ratio
from atas_deploy.evaluation.rows import Counts, FloatArray

TOP = (1, 5, 10)


def count_found(ranks: npt.NDArray[np.integer], *, others: int = TOP[-1]) -> list[int]:
    """Queries, and those whose answer is among the first 1, 5 and 10.

    Args:
        ranks: (K,) how many others come before the answer, see `core.metrics.rank_among`.
        others: how many there are; with fewer than k every answer is among the first k, and that
            k is left out.
    """
    return [len(ranks), *(int((ranks < k).sum()) for k in TOP if k <= others)]


def recalls(totals: Counts) -> dict[str, FloatArray]:
    """Recalls by kind of query: "image_to_text_R@1" and so on, in [0, 1]; NaN without queries.

    Args:
        totals: by kind, (..., 4 or fewer) sums of `count_found`.
    """
    return {
        f"{kind}_R@{k}": ratio(sums[..., at], sums[..., 0])
        for kind, sums in totals.items()
        for at, k in enumerate(TOP[: sums.shape[-1] - 1], 1)
    }
