"""Tests of splitting a run over machines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.core.errors import ConfigError
from atas_deploy.media.shards import in_shard, parse_shard


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("2/8", (2, 8)), (" 8 / 8", (8, 8))])
def test_shards_are_read(text: str, shard: tuple[int, int]) -> None:
    """A shard is written i/n."""
    assert parse_shard(text) == shard


@pytest.mark.parametrize(
    "text",
    ["", "1", "0/2", "3/2", "-1/2", "1/0", "1/2/3", "a/b", "1.0/2", "٣/٤", "9" * 5000 + "/1"],
)
def test_other_texts_are_refused(text: str) -> None:
    """What is no shard is an error that shows how to write one."""
    with pytest.raises(ConfigError, match=r"^The shard is .*, expected i/n .* 2/8$"):
        parse_shard(text)


@given(name=st.text(st.characters(exclude_categories=())), number=st.integers(1, 50))
def test_each_name_falls_to_one_shard(name: str, number: int) -> None:
    """Any name, odd characters included, belongs to exactly one of the shards."""
    assert sum(in_shard(name, (i, number)) for i in range(1, number + 1)) == 1


def test_shards_never_change() -> None:
    """Machines with different versions must agree: these values are fixed for ever."""
    names = ["photo", "sub/photo", "ä", "\udcff"]
    shards = [next(i for i in range(1, 101) if in_shard(name, (i, 100))) for name in names]
    assert shards == [32, 95, 30, 63]


def test_shards_are_even() -> None:
    """Numbered names spread evenly: each of 8 shards gets a tenth to a sixth of 4,000."""
    names = [f"frame_{i:06}" for i in range(4000)]
    sizes = [sum(in_shard(name, (i, 8)) for name in names) for i in range(1, 9)]
    assert min(sizes) > 400
    assert max(sizes) < 667
