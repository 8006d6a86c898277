"""The order of images: epochs one behind the other, cut into batches."""

from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.training.stream import Stream

counts = st.integers(1, 40)
sizes = st.integers(1, 12)
seeds = st.integers(0, 5)


@settings(deadline=None)
@given(count=counts, size=sizes, seed=seeds, epochs=st.integers(1, 3))
def test_an_epoch_has_each_image_once(count: int, size: int, seed: int, epochs: int) -> None:
    """Whatever the size of a batch; what a batch has more is of the next epoch."""
    stream = Stream(count, seed=seed, size=size)
    steps = range(-(-epochs * count // size))
    places = [place for step in steps for place in stream.places(step)]
    whole, rest = places[: epochs * count], places[epochs * count :]
    assert sorted(whole) == [(epoch, i) for epoch in range(epochs) for i in range(count)]
    assert len(rest) < size
    assert all(epoch >= epochs for epoch, _ in rest)


@settings(deadline=None)
@given(count=counts, size=sizes, seed=seeds, world=st.integers(1, 4), step=st.integers(0, 9))
def test_ranks_take_parts_of_one_batch(
    count: int, size: int, seed: int, world: int, step: int
) -> None:
    """One behind the other, as a single process with all of it has them."""
    whole = Stream(count, seed=seed, size=size * world).places(step)
    ranks = [Stream(count, seed=seed, size=size, rank=r, world=world) for r in range(world)]
    assert [place for stream in ranks for place in stream.places(step)] == whole


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    """Forty images hardly come twice in the same order."""
    orders = {
        tuple(index for _, index in Stream(40, seed=seed, size=40).places(epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
