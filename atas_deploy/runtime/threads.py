"""How the stages of a job share the cores."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import cv2
from threadpoolctl import threadpool_limits

_lock, _jobs, _before = Lock(), 0, ExitStack()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep NumPy's matrix products and OpenCV on the thread that calls them, in a `with` block.

    Reading, encoding, labelling and writing overlap, so every core has work. Helpers of a small
    product would spin on a core for longer than it takes, while the encoder waits for that core.

    This holds for the whole process, from the first of several jobs until the last one ends.
    """
    global _jobs
    with _lock:
        if not _jobs:
            _before.callback(cv2.setNumThreads, cv2.getNumThreads())
            cv2.setNumThreads(1)
            _before.enter_context(threadpool_limits(limits=1, user_api="blas"))
        _jobs += 1
    try:
        yield
    finally:
        with _lock:
            _jobs -= 1
            if not _jobs:
                _before.close()
