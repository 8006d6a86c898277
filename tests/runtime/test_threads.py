"""How many threads the stages of a job compute on."""

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from atas_deploy.runtime.threads import one_thread_each


def blas_threads() -> set[int]:
    """Of NumPy's matrix products."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_stages_compute_on_one_thread() -> None:
    """Inside the block OpenCV and BLAS have one thread; behind it what they had before."""
    before = cv2.getNumThreads(), blas_threads()
    with one_thread_each():
        assert (cv2.getNumThreads(), blas_threads()) == (1, {1})
    assert (cv2.getNumThreads(), blas_threads()) == before


def test_an_error_puts_threads_back() -> None:
    """A job that fails leaves the process as it was."""
    before = cv2.getNumThreads(), blas_threads()
    with pytest.raises(ValueError, match="stop"), one_thread_each():
        raise ValueError("stop")
    assert (cv2.getNumThreads(), blas_threads()) == before


def test_jobs_that_overlap_put_threads_back_at_the_last_end() -> None:
    """The second job must not remember what the first one has set."""
    before = cv2.getNumThreads(), blas_threads()
    first, second = one_thread_each(), one_thread_each()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (cv2.getNumThreads(), blas_threads()) == (1, {1})
    second.__exit__(None, None, None)
    assert (cv2.getNumThreads(), blas_threads()) == before
