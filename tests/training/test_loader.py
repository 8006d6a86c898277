"""Batches of a shuffled stream, by worker processes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from atas_deploy.core.errors import ConfigError, InputError, TrainingError
from atas_deploy.training.images import ImageSource, open_images
from atas_deploy.training.loader import Batch, BatchLoader, Draw, stack

COUNT = 12
SEED = 3


@dataclass(frozen=True)
class View:
    """An image made small, what was drawn for it, and how many threads OpenCV had."""

    side: int = 8

    def __call__(self, image: npt.NDArray[np.uint8], draw: Draw) -> dict[str, Tensor]:
        """Make a sample."""
        small = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
        return {
            "pixels": torch.from_numpy(small),
            "random": torch.from_numpy(draw.rng.random(3)),
            "place": torch.tensor([draw.seed, draw.epoch, draw.index]),
            "threads": torch.tensor(cv2.getNumThreads()),
        }


Open = Callable[..., BatchLoader]


@pytest.fixture
def open_loader(photo_folder: Path) -> Iterator[Open]:
    """Open loaders of twelve pictures, by default 5 a step; all are closed in the end."""
    opened: list[BatchLoader] = []

    def make(source: ImageSource | None = None, load: Any = None, **options: Any) -> BatchLoader:
        images = source or open_images([str(photo_folder)])
        options = {"batch_size": 5, "seed": SEED} | options
        opened.append(BatchLoader(images, load or View(), **options))
        return opened[-1]

    yield make
    for loader in opened:
        loader.close()


def read(loader: BatchLoader, steps: int, *, first: int = 0) -> list[Batch]:
    """Some batches in order; the loader is closed behind them."""
    batches = [loader.batch(step) for step in range(first, first + steps)]
    loader.close()
    return batches


def check_equal(found: list[Batch], expected: list[Batch]) -> None:
    """Batches are the same, all but the threads of OpenCV."""
    for one, other in zip(found, expected, strict=True):
        assert (one.step, one.names) == (other.step, other.names)
        assert torch.equal(one.indices, other.indices)
        for name in ("pixels", "random", "place"):
            assert torch.equal(one.data[name], other.data[name])


def break_files(folder: Path, numbers: list[int]) -> None:
    """Cut files of `photo_folder` in the middle."""
    for number in numbers:
        path = folder / f"{number:02d}.png"
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(open_loader: Open, workers: int) -> None:
    """Over several epochs."""
    check_equal(read(open_loader(workers=workers), 8), read(open_loader(), 8))


@pytest.mark.parametrize("workers", [0, 2])
def test_any_step_can_be_the_first(open_loader: Open, workers: int) -> None:
    """A resumed run goes on with what would have come, and a loader can go back."""
    whole = read(open_loader(), 8)
    loader = open_loader(workers=workers)
    check_equal(
        [loader.batch(step) for step in (5, 6, 7, 2, 2, 3)], whole[5:] + [whole[2]] * 2 + whole[3:4]
    )


def test_ranks_share_a_batch(open_loader: Open) -> None:
    """Two ranks with 5 images each have the halves of one with 10."""
    one = read(open_loader(batch_size=10), 5)
    halves = [read(open_loader(rank=rank, world=2), 5) for rank in (0, 1)]
    for whole, first, second in zip(one, *halves, strict=True):
        assert whole.names == first.names + second.names
        for name, values in whole.data.items():
            assert torch.equal(values, torch.cat([first.data[name], second.data[name]]))


def test_an_epoch_holds_each_image_once(open_loader: Open) -> None:
    """Batches run across the ends of epochs, and each epoch has an order of its own."""
    batches = read(open_loader(), COUNT)
    stream = torch.cat([batch.indices for batch in batches]).view(5, COUNT)
    assert torch.equal(stream.sort(dim=1).values, torch.arange(COUNT).expand(5, COUNT))
    assert len({tuple(order) for order in stream.tolist()}) == 5
    epochs = torch.cat([batch.data["place"] for batch in batches])[:, 1]
    assert epochs.tolist() == [epoch for epoch in range(5) for _ in range(COUNT)]
    assert [len(batch.names) for batch in batches] == [5] * COUNT


def test_names_and_numbers_belong_to_the_data(open_loader: Open, photo_folder: Path) -> None:
    """Each row is the sample of the image that is named."""
    source, loader = open_images([str(photo_folder)]), open_loader()
    for batch in read(loader, 4):
        assert batch.indices.dtype == torch.int64
        assert batch.indices.tolist() == batch.data["place"][:, 2].tolist()
        for row, index in enumerate(batch.indices.tolist()):
            assert batch.names[row] == str(photo_folder / f"{index:02d}.png")
            draw = Draw(index, 0, SEED, np.random.default_rng(0))
            assert torch.equal(
                batch.data["pixels"][row], View()(source.read(index), draw)["pixels"]
            )


def test_a_sample_depends_on_seed_epoch_and_image_alone(open_loader: Open) -> None:
    """Not on the size of batches, nor on ranks."""
    one = read(open_loader(batch_size=4), 9)
    other = read(open_loader(batch_size=2, rank=0, world=3), 6)
    other += read(open_loader(batch_size=2, rank=1, world=3), 6)
    other += read(open_loader(batch_size=2, rank=2, world=3), 6)
    drawn: list[dict[tuple[int, ...], list[float]]] = []
    for batches in (one, other):
        rows = [
            (tuple(p), r)
            for b in batches
            for p, r in zip(b.data["place"].tolist(), b.data["random"].tolist(), strict=True)
        ]
        drawn.append(dict(rows))
        assert len(drawn[-1]) == len(rows) == 3 * COUNT
    assert drawn[0] == drawn[1]
    for place, values in drawn[0].items():
        assert values == np.random.default_rng(place).random(3).tolist()


def test_seeds_differ(open_loader: Open) -> None:
    """Another seed gives another order and other draws; the same one the same."""
    first, again, other = (read(open_loader(seed=seed), 4) for seed in (3, 3, 4))
    check_equal(first, again)
    assert [batch.names for batch in first] != [batch.names for batch in other]


def test_few_images_fill_large_batches(open_loader: Open) -> None:
    """A batch may span several epochs."""
    batch = open_loader(batch_size=30).batch(1)
    assert sorted(batch.indices[:6].tolist() + batch.indices[18:].tolist()) == sorted(
        [*range(COUNT), *batch.indices[:6].tolist()]
    )
    assert len(batch.names) == 30


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_left_out(open_loader: Open, photo_folder: Path, workers: int) -> None:
    """Its batches are smaller, the others as before, and it is named once with the reason."""
    whole = read(open_loader(), 9)
    break_files(photo_folder, [4])
    loader = open_loader(workers=workers)
    for batch, before in zip(read(loader, 9), whole, strict=True):
        kept = before.indices != 4
        assert batch.indices.tolist() == before.indices[kept].tolist()
        assert torch.equal(batch.data["random"], before.data["random"][kept])
    assert list(loader.broken) == [str(photo_folder / "04.png")]
    assert "04.png is damaged or cut off" in loader.broken[str(photo_folder / "04.png")]


def test_a_broken_file_is_not_tried_again(open_loader: Open, photo_folder: Path) -> None:
    """Once it was noted, mending it does not bring it back into the run."""
    content = (photo_folder / "04.png").read_bytes()
    break_files(photo_folder, [4])
    loader = open_loader(batch_size=COUNT)
    assert len(loader.batch(0).names) == COUNT - 1
    (photo_folder / "04.png").write_bytes(content)
    assert [len(loader.batch(step).names) for step in (2, 3)] == [COUNT - 1] * 2


@dataclass(frozen=True)
class Wide(View):
    """Refuses some images, as a method may."""

    def __call__(self, image: npt.NDArray[np.uint8], draw: Draw) -> dict[str, Tensor]:
        """Make a sample."""
        if draw.index in (2, 7):
            raise InputError(f"image {draw.index} is too narrow")
        return super().__call__(image, draw)


def test_an_image_that_a_method_cannot_use_is_left_out(open_loader: Open) -> None:
    """As a broken one."""
    loader = open_loader(load=Wide(), batch_size=COUNT)
    assert sorted({*range(COUNT)} - set(loader.batch(0).indices.tolist())) == [2, 7]
    assert sorted(loader.broken.values()) == ["image 2 is too narrow", "image 7 is too narrow"]


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_files_stop_the_run(
    open_loader: Open, photo_folder: Path, workers: int
) -> None:
    """The error names some and says what helps, at a start and in a run that goes on."""
    break_files(photo_folder, [0, 1, 2, 4, 5, 7, 9])
    loader = open_loader(workers=workers)
    expected = (
        r"^[67] of \d+ images that were read cannot be used, such as .*\d\d\.png, .*\d\d\.png: "
        r"mend these files or give a larger --max-broken than 0\.1; the first error was: .*cut off"
    )
    with pytest.raises(TrainingError, match=expected):
        read(loader, 3)
    assert len(loader.broken) in (6, 7)


@pytest.mark.parametrize(
    ("share", "broken", "stops"),
    [(0, 1, True), (0.1, 5, False), (0.2, 8, False), (1, 11, False), (0.1, 6, True)],
)
def test_the_share_of_broken_files(
    open_loader: Open, photo_folder: Path, share: float, broken: int, stops: bool
) -> None:
    """It is that of 50 images at least: the few first ones decide nothing."""
    break_files(photo_folder, list(range(broken)))
    loader = open_loader(max_broken=share, batch_size=COUNT)
    if stops:
        with pytest.raises(TrainingError):
            loader.batch(0)
    else:
        assert len(loader.batch(0).names) == COUNT - broken


@pytest.mark.parametrize("workers", [0, 1])
def test_an_empty_batch_takes_the_next_image(
    open_loader: Open, photo_folder: Path, workers: int
) -> None:
    """One broken file does not stop a run of one image a step; the order stays as it was."""
    order = [int(batch.indices) for batch in read(open_loader(batch_size=1), COUNT)]
    break_files(photo_folder, order[3:5])
    found = [
        int(batch.indices) for batch in read(open_loader(batch_size=1, workers=workers), COUNT)
    ]
    assert found == [*order[:3], order[5], order[5], *order[5:]]


def test_nothing_but_broken_files_is_an_error(open_loader: Open, photo_folder: Path) -> None:
    """Whatever share is allowed, so that no larger one is spoken of."""
    break_files(photo_folder, list(range(COUNT)))
    for share in (0.1, 1):
        with pytest.raises(TrainingError, match=r"^12 of 12 images .*: mend these files; the"):
            open_loader(max_broken=share, batch_size=COUNT).batch(0)


def refuse(_: npt.NDArray[np.uint8], __: Draw) -> dict[str, Tensor]:
    """A method that finds its settings wrong."""
    raise ConfigError("The grid is too large.")


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_cross_processes_in_one_sentence(open_loader: Open, workers: int) -> None:
    """As they were raised, without a traceback in the message."""
    with pytest.raises(ConfigError, match=r"^The grid is too large\.$"):
        open_loader(load=refuse, workers=workers).batch(0)


def test_a_killed_worker_is_replaced(open_loader: Open) -> None:
    """The run goes on as if nothing had happened."""
    loader = open_loader(workers=2)
    batches = [loader.batch(0)]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGKILL)
    check_equal(batches + read(loader, 7, first=1), read(open_loader(), 8))


@dataclass(frozen=True)
class Crash(View):
    """Ends its process, as a decoder with a bug may."""

    def __call__(self, image: npt.NDArray[np.uint8], draw: Draw) -> dict[str, Tensor]:
        """Make a sample."""
        os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image, draw)


def test_workers_that_keep_on_dying_are_an_error(open_loader: Open) -> None:
    """It says what to look at."""
    with pytest.raises(TrainingError, match="killed twice at step 4: free some memory"):
        open_loader(load=Crash(), workers=1).batch(4)


def test_ctrl_c_leaves_workers_alone(open_loader: Open) -> None:
    """A terminal sends it to all processes, and the run needs its workers to stop in good order."""
    loader = open_loader(workers=2)
    batches = [loader.batch(0), loader.batch(1)]  # one by each
    workers = multiprocessing.active_children()
    for worker in workers:
        os.kill(worker.pid or 0, signal.SIGINT)
    batches += [loader.batch(step) for step in range(2, 8)]
    assert all(worker.is_alive() for worker in workers)
    check_equal(batches, read(open_loader(), 8))


def test_the_process_stays_as_it_was(open_loader: Open) -> None:
    """Neither PyTorch's randomness nor its handler of dead children is felt by the run."""
    state = torch.get_rng_state()
    loader = open_loader(workers=2)
    batch = loader.batch(0)
    assert torch.equal(torch.get_rng_state(), state)
    handler = signal.getsignal(signal.SIGCHLD)
    assert not getattr(handler, "__module__", "").startswith("torch")
    assert batch.data["threads"].max() <= 1
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    assert not multiprocessing.active_children()


SPAWNED = """
import torch
def load(image, draw):
    return {"mean": torch.tensor(image.mean()), "random": torch.tensor(draw.rng.random())}
"""


def test_workers_that_share_nothing_get_all_they_need(
    open_loader: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source, function and randomness are the same in processes that start from nothing."""
    (tmp_path / "spawned_load.py").write_text(SPAWNED)
    monkeypatch.syspath_prepend(tmp_path)
    import spawned_load

    here = read(open_loader(load=spawned_load.load), 3)
    there = read(open_loader(load=spawned_load.load, workers=1, start_method="spawn"), 3)
    for one, other in zip(here, there, strict=True):
        assert one.names == other.names
        assert torch.equal(one.data["mean"], other.data["mean"])
        assert torch.equal(one.data["random"], other.data["random"])


def test_samples_are_stacked() -> None:
    """Under each name, in order."""
    samples = [{"a": torch.full((2, 3), value), "b": torch.tensor(value)} for value in (1, 2)]
    stacked = stack(samples)
    assert stacked["a"].tolist() == [[[1] * 3] * 2, [[2] * 3] * 2]
    assert stacked["b"].tolist() == [1, 2]


def first_only(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Make a batch in another way."""
    return {"first": samples[0]["place"]}


def test_a_method_may_make_batches_itself(open_loader: Open) -> None:
    """In the worker."""
    batch = open_loader(collate=first_only, workers=1).batch(0)
    assert batch.data["first"].tolist() == [SEED, 0, int(batch.indices[0])]


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"seed": -1}, {"workers": -1}, {"max_broken": 1.5}]
)
def test_numbers_out_of_range_are_refused(open_loader: Open, options: dict[str, Any]) -> None:
    """In one sentence."""
    with pytest.raises(ConfigError, match="give"):
        open_loader(**options)
