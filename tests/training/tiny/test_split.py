"""The split."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.training.pairs import read_captions
from atas_deploy.training.tiny.split import HELD_OUT_FILE, held_out_names, names_hash


@given(st.permutations([f"{i}.jpg" for i in range(20)]))
def test_the_split_does_not_depend_on_the_order(names: list[str]) -> None:
    """It is a function of the names alone."""
    assert held_out_names(names, count=5) == held_out_names(sorted(names), count=5)


def test_the_committed_list_is_the_split(shared_data: Path) -> None:
    """The list in the repository is what the rule gives on the data."""
    names = sorted(read_captions(shared_data / "flickr8k" / "captions.csv"))
    listed = HELD_OUT_FILE.read_text().split()
    assert held_out_names(names) == listed
    assert len(names_hash(listed)) == 64
