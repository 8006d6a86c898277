"""Calls of ONNX Runtime on the CPU: alone, and at the same time."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest

from atas_deploy.backends import ort
from atas_deploy.backends.base import calls_at_once, release_texts
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.ort_host import HostImages
from atas_deploy.models import open_model

IMAGES = np.zeros((1, 32, 32, 3), np.uint8)


class Session:
    """Stands for a session of so many threads; a call waits until it is let go."""

    def __init__(self, threads: int, begun: "Barrier | None", go: Event) -> None:
        self.threads, self._begun, self._go = threads, begun, go
        self.calls = 0

    def run(self, outputs: list[str], inputs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Count the call; the features are the number of threads."""
        self.calls += 1
        if self._begun is not None:
            self._begun.wait(10)
        assert self._go.wait(10)
        found = np.full((1, 1), self.threads, np.float32)
        return found, found


def test_a_call_alone_has_all_threads() -> None:
    """One after the other, and the session of the others is never loaded."""
    go, loaded = Event(), list[int]()
    go.set()

    def load(threads: int) -> Session:
        loaded.append(threads)
        return Session(threads, None, go)

    images = HostImages(load, threads=4, calls=2)
    assert [images.encode(IMAGES).dense.item() for _ in range(3)] == [4, 4, 4]
    assert loaded == [4]


def test_calls_at_the_same_time_share_the_threads() -> None:
    """The first has all of them, who comes meanwhile has half, in one more session."""
    go, both, loaded = Event(), Barrier(3), list[int]()

    def load(threads: int) -> Session:
        loaded.append(threads)
        return Session(threads, both, go)

    images = HostImages(load, threads=4, calls=2)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(images.encode, IMAGES) for _ in range(2)]
        both.wait(10)  # both are at work
        go.set()
        found = sorted(call.result().dense.item() for call in calls)
    assert found == [2, 4]
    assert sorted(loaded) == [2, 4]


def test_features_are_the_same_in_company() -> None:
    """Whichever session computes a picture, its features agree to rounding."""
    bundle = open_model("atas-tiny")
    backend = OrtBackend(bundle, threads=2)
    assert (calls_at_once(backend), calls_at_once(OrtBackend(bundle, threads=1))) == (2, 1)
    pictures = np.random.default_rng(0).integers(0, 256, (8, 1, 64, 96, 3), np.uint8)
    alone = [backend.encode_images(picture).dense for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = [features.dense for features in pool.map(backend.encode_images, pictures)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_a_backend_that_is_let_go_is_freed_at_once() -> None:
    """Its sessions are large: they must not wait for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        backend = OrtBackend(open_model("atas-tiny"), threads=2)
        gone = weakref.ref(backend._images)
        del backend
        assert gone() is None
    finally:
        gc.enable()


def test_text_graphs_can_be_let_go() -> None:
    """After `release_texts` new words load the graph again, and get the same features."""
    backend = OrtBackend(open_model("atas-tiny"), threads=1)
    tokens = np.ones((2, 5), np.int64)
    before = backend.encode_texts(tokens)
    gone = weakref.ref(backend._texts._session)
    release_texts(backend)
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(backend.encode_texts(tokens), before)


def test_large_weights_are_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second session would hold all weights again: large models take one picture at a time."""
    monkeypatch.setattr(ort, "_SMALL", 1_000_000)
    assert calls_at_once(OrtBackend(open_model("atas-tiny"), threads=2)) == 1
