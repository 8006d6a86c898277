"""How the stages of a job share the cores."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep NumPy's matrix products and OpenCV on the thread that calls them, in a `with` block.

    Reading, encoding, labelling and writing overlap, so every core has work. Helpers of a small
    product would spin on a core for longer than it takes, while the encoder waits for that core.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(threads)
