"""How batches are split and filled up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.backends.trt.batches import split_batch, takes_size
from atas_deploy.backends.trt.profiles import Profile, Shape
from atas_deploy.core.errors import InputError

ONE = Profile((1, 32, 32), (1, 32, 32), (1, 64, 64))
SOME = Profile((3, 32, 32), (4, 32, 32), (8, 64, 64))
SQUARE = Profile((1, 48, 48), (4, 48, 48), (32, 48, 48))


@pytest.mark.parametrize(
    ("shape", "profile", "length"),
    [
        ((1, 32, 32), 0, 1),
        ((2, 32, 32), 1, 3),  # filled up
        ((8, 32, 64), 1, 8),
        ((9, 32, 32), 1, 5),  # 5 and 4, filled up, instead of 8 and 1
        ((17, 64, 64), 1, 6),
        ((33, 48, 48), 2, 17),
    ],
)
def test_parts_of_one_length(shape: Shape, profile: int, length: int) -> None:
    """As few as possible, and no longer than needed."""
    batches = split_batch([ONE, SOME, SQUARE], shape)
    assert (batches.profile, batches.length) == (profile, length)


@given(st.integers(1, 100), st.sampled_from([(32, 32), (48, 48), (64, 32)]))
def test_every_batch_fits(count: int, size: tuple[int, int]) -> None:
    """The profile takes the parts, and fewer parts or shorter ones would not do."""
    profiles = [ONE, SOME, SQUARE]
    batches = split_batch(profiles, (count, *size))
    assert profiles[batches.profile].takes((batches.length, *size))
    most = max(p.most[0] for p in profiles if takes_size(p, (1, *size)))
    parts = -(-count // batches.length)
    assert parts == -(-count // most)
    assert batches.length == 3 or batches.length * parts - count < parts


def test_a_gap_between_profiles_is_bridged() -> None:
    """Two images do not fit a profile for one, nor need five be run one by one."""
    five = Profile((5, 32, 32), (5, 32, 32), (5, 32, 32))
    assert split_batch([ONE, five], (2, 32, 32)).length == 5
    assert split_batch([ONE, five], (11, 32, 32)).length == 5


def test_no_profile_takes_the_size() -> None:
    """However many images there are, H and W decide; the error is that of `choose`."""
    with pytest.raises(InputError, match="nearest allowed size"):
        split_batch([ONE, SOME], (1000, 80, 32))
