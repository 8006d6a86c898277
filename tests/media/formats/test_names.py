"""Tests of names that formats cannot hold."""

from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.media.formats.names import safe_names


@settings(deadline=None, max_examples=200)
@given(
    names=st.lists(st.text(max_size=8), unique=True),
    longest=st.none() | st.integers(5, 9),
)
def test_names_are_printable_and_distinct(names: list[str], longest: int | None) -> None:
    """Whatever the names, there is one for each, all differ, and none is too long."""
    safe = safe_names(names, longest=longest, taken=["a"])
    assert len(set(safe) | {"a"}) == len(names) + 1
    for name in safe:
        assert name == name.strip() != ""
        assert "\n" not in name
        name.encode()
        assert longest is None or len(name) <= longest


def test_good_names_stay() -> None:
    """Names with nothing forbidden are not touched, whatever their script."""
    names = ["dog", "Hot Dog", "犬😀", "a_2", "नमस्ते"]
    assert safe_names(names) == names
