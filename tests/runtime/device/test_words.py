"""Words on the GPU: what lies there, and when memory is replaced."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from atas_deploy.backends.driver import Driver
from atas_deploy.core.vocabulary import build_vocabulary
from atas_deploy.runtime.device.words import DeviceWords
from atas_deploy.runtime.label import Words


@pytest.fixture
def driver(cuda: Any) -> Driver:
    """A GPU."""
    return Driver("cuda")


def words(count: int, *, seed: int = 0) -> Words:
    """So many classes with features of width 8."""
    vocabulary = build_vocabulary([f"word{i}" for i in range(count)], background="none")
    queries = np.random.default_rng(seed).normal(size=(8, count)).astype(np.float32)
    return Words(vocabulary, queries)


def read(there: DeviceWords) -> list[np.ndarray]:
    """Wait and read the queries that count, their classes and how many there are."""
    found = [array.get() for array in (there.queries, there.query_class, there.count)]
    count = int(found[2][0])
    return [found[0][:, :count], found[1][:count], found[2]]


def test_words_lie_in_room_for_more(driver: Driver) -> None:
    """As they were given, with their number."""
    there, given = DeviceWords(driver), words(5)
    with driver.active():
        there.load(given)
        driver.stream.synchronize()
    queries, query_class, count = read(there)
    np.testing.assert_array_equal(queries, given.queries)
    np.testing.assert_array_equal(query_class, given.vocabulary.query_class)
    assert (count[0], there.capacity, there.labels) == (5, 256, np.uint8)


def test_memory_stays_until_it_is_outgrown(driver: Driver, cuda: Any) -> None:
    """Fewer words, and more as far as there is room, need no other memory."""
    there = DeviceWords(driver)
    with driver.active():
        for count, generation in [(5, 1), (250, 1), (3, 1), (256, 2), (300, 3), (2, 4)]:
            cuda.log.clear()
            given = words(count)
            there.load(given)
            assert there.generation == generation  # 16-bit labels begin with 255 classes
            there.load(given)
            driver.stream.synchronize()
    assert read(there)[2][0] == 2


def test_words_that_follow_at_once_do_not_mix(
    driver: Driver, cuda: Any, cupy_model: ModuleType
) -> None:
    """Work that was enqueued between two lists sees the first one."""
    there, first, second = DeviceWords(driver), words(4), words(4, seed=1)
    seen: list[np.ndarray] = []
    with driver.active():
        there.load(first)
        cupy_model.Launch(cuda, lambda queries: seen.append(queries[:, :4].copy()), [there.queries])
        there.load(second)
        driver.stream.synchronize()
    np.testing.assert_array_equal(seen, [first.queries])
    np.testing.assert_array_equal(read(there)[0], second.queries)
