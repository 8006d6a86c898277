"""Batches of an endless shuffled stream of images, loaded some steps ahead by worker processes.

What a batch holds depends on the seed and its step, not on the number of workers: the stream is one
epoch behind the other, each in an order of its own, and a step takes the next images of it, also
across the end of an epoch. A file that cannot be decoded leaves its batch smaller.
"""

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from atas_deploy.core.errors import AtasError, ConfigError, InputError, TrainingError
from atas_deploy.training.stream import Place, Stream

Pixels = npt.NDArray[np.uint8]
Sample = dict[str, Tensor]

_SHARE_OF = 50
_WORKER_DIED = "DataLoader worker (pid"  # how PyTorch begins to say so


class Images(Protocol):
    """Where images come from, such as `ImageSource`; worker processes get a copy."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the images."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: int) -> Pixels:
        """Decode an image, (H, W, 3) uint8 RGB, or raise InputError."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Which sample of an image is asked for.

    Attributes:
        index: number of the image.
        epoch: how often all images were seen before.
        seed: of the run.
        rng: randomness of this sample, which depends on these three alone.
    """

    index: int
    epoch: int
    seed: int
    rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of B images.

    Attributes:
        step: which batch it is.
        names: names of the B images.
        indices: (B,) int64, their numbers.
        data: what `collate` made of their samples.
    """

    step: int
    names: list[str]
    indices: Tensor
    data: Sample


Load = Callable[[Pixels, Draw], Sample]
Collate = Callable[[Sequence[Sample]], Sample]


def stack(samples: Sequence[Sample]) -> Sample:
    """Stack tensors of equal shapes under each name."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


class BatchLoader:
    """Loads batches by step; steps in order are prefetched, any other step starts anew from there.

    Args:
        source: the images.
        load: makes a sample of an image, in a worker process; it must be picklable, and what is
            random in it must come from the `Draw`. An InputError leaves the image out.
        batch_size: images a step on this rank.
        seed: seed of the order, and of each `Draw`.
        collate: makes a batch of samples, in a worker process.
        workers: processes that load; 0 loads in this one, without prefetching.
        rank: which of the parts of the batch is loaded.
        world: how many such parts there are.
        max_broken: share of the images seen that may be broken; of 50 while fewer were seen.
        start_method: how workers start, "fork", "spawn" or "forkserver"; None = Python's default.

    Attributes:
        broken: images that could not be decoded, with the reason, in the order of the steps.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        source: Images,
        load: Load,
        *,
        batch_size: int,
        seed: int,
        collate: Collate = stack,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        max_broken: float = 0.1,
        start_method: str | None = None,
    ) -> None:
        _check(batch_size=batch_size, seed=seed, workers=workers, max_broken=max_broken)
        self.broken: dict[str, str] = {}
        self._source, self._max_broken = source, max_broken
        self._workers, self._start_method = workers, start_method
        self._stream = Stream(len(source), seed=seed, size=batch_size, rank=rank, world=world)
        self._reader = _Reader(source, load, collate, seed)
        self._seen = np.zeros(len(source), np.bool_)
        self._left_out: set[int] = set()
        self._ahead: Iterator[_Loaded | AtasError] | None = None
        self._next = 0

    def batch(self, step: int) -> Batch:
        """Return the batch of a step.

        Raises:
            TrainingError: too many images are broken, or workers keep on dying.
        """
        if self._ahead is None or step != self._next:
            self._start(step)
        self._next = step + 1
        loaded = self._take(step)
        self._note(loaded)
        if not loaded.indices:
            loaded = self._instead(step)
        names = [self._source.names[index] for index in loaded.indices]
        return Batch(step, names, torch.tensor(loaded.indices), loaded.data)

    def close(self) -> None:
        """End the workers."""
        self._ahead = None

    def _start(self, step: int) -> None:
        """Begin to load from a step on."""
        self.close()
        many = self._workers > 0
        try:
            with _quiet_start():
                self._ahead = iter(
                    DataLoader(
                        self._reader,
                        batch_size=None,
                        sampler=self._wanted(step),
                        num_workers=self._workers,
                        prefetch_factor=2 if many else None,
                        worker_init_fn=_prepare_worker if many else None,
                        multiprocessing_context=self._start_method if many else None,
                        generator=torch.Generator(),  # the global one stays as it is
                    )
                )
        except OSError as error:
            raise TrainingError(
                f"{self._workers} processes that load images cannot start ({error.strerror}): free "
                "some memory or take fewer workers."
            ) from error

    def _wanted(self, step: int) -> Iterator[list[Place]]:
        """The places of one step after the other, without images that are known to be broken."""
        while True:
            places = self._stream.places(step)
            yield [place for place in places if place[1] not in self._left_out]
            step += 1

    def _take(self, step: int, *, again: bool = True) -> "_Loaded":
        """Wait for the next batch; workers that were killed are replaced once."""
        assert self._ahead is not None
        try:
            loaded = next(self._ahead)
        except RuntimeError as error:
            if not str(error).startswith(_WORKER_DIED):
                raise
            if not again:
                raise TrainingError(
                    f"Processes that load images were killed twice at step {step}: free some "
                    "memory, also in /dev/shm, or take fewer workers."
                ) from error
            self._start(step)
            return self._take(step, again=False)
        if isinstance(loaded, AtasError):
            raise loaded
        return loaded

    def _note(self, loaded: "_Loaded") -> None:
        """Keep account of what was seen and what was broken."""
        self._seen[[*loaded.indices, *loaded.broken]] = True
        new = {i: reason for i, reason in loaded.broken.items() if i not in self._left_out}
        self._left_out.update(new)
        self.broken.update((self._source.names[i], reason) for i, reason in new.items())
        if new and len(self.broken) > self._max_broken * max(_SHARE_OF, self._seen.sum()):
            raise self._too_many()

    def _instead(self, step: int) -> "_Loaded":
        """Load the next image of the stream that can be read, in place of an empty batch."""
        for place in self._stream.after(step):
            if place[1] in self._left_out:
                continue
            loaded = self._reader.load_all([place])
            self._note(loaded)
            if loaded.indices:
                return loaded
        raise self._too_many()

    def _too_many(self) -> TrainingError:
        names, reason = ", ".join(list(self.broken)[:3]), next(iter(self.broken.values()))
        broken, seen = len(self.broken), int(self._seen.sum())
        helps = broken < seen and self._max_broken < 1
        larger = f" or give a larger --max-broken than {self._max_broken:g}" if helps else ""
        return TrainingError(
            f"{broken} of {seen} images that were read cannot be used, such as {names}: mend these "
            f"files{larger}; the first error was: {reason}"
        )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A batch on its way from a worker: numbers of its images, data, and what was left out."""

    indices: list[int]
    data: Sample
    broken: dict[int, str] = field(default_factory=dict)


class _Reader(Dataset[_Loaded | AtasError]):
    """What workers do."""

    def __init__(self, source: Images, load: Load, collate: Collate, seed: int) -> None:
        self._source, self._load, self._collate, self._seed = source, load, collate, seed

    def __getitem__(self, places: list[Place]) -> _Loaded | AtasError:
        """Load a batch; an error is returned, as PyTorch would put a traceback into its message."""
        try:
            return self.load_all(places)
        except AtasError as error:
            return error

    def load_all(self, places: Sequence[Place]) -> _Loaded:
        samples, indices = [], []
        broken: dict[int, str] = {}
        for epoch, index in places:
            rng = np.random.default_rng((self._seed, epoch, index))
            try:
                draw = Draw(index, epoch, self._seed, rng)
                samples.append(self._load(self._source.read(index), draw))
            except InputError as error:
                broken[index] = str(error)
            else:
                indices.append(index)
        return _Loaded(indices, self._collate(samples) if samples else {}, broken)


def _prepare_worker(_: int) -> None:
    """Ctrl-C is the parent's, which ends its workers; and there is a worker for each core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Start workers without PyTorch's advice on their number and Python's on forks.

    PyTorch's SIGCHLD handler is taken out again. It would raise wherever the main thread is when a
    worker dies, also while a checkpoint is written; without it, the next batch tells.
    """
    previous = signal.getsignal(signal.SIGCHLD)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
        yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, previous)


def _check(*, batch_size: int, seed: int, workers: int, max_broken: float) -> None:
    if batch_size < 1:
        raise ConfigError(f"The batch size is {batch_size}; give 1 or more.")
    if seed < 0:
        raise ConfigError(f"The seed is {seed}; give 0 or more.")
    if workers < 0:
        raise ConfigError(f"The number of workers is {workers}; give 0 or more.")
    if not 0 <= max_broken <= 1:
        raise ConfigError(f"The share of broken images is {max_broken}; give 0 to 1.")
