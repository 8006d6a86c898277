"""The tokenizer equals open_clip's."""

import gzip
from pathlib import Path

import numpy as np
import open_clip.tokenizer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from atas_deploy.core.errors import BundleError, ConfigError
from atas_deploy.core.tokenizer import ClipTokenizer

CLIP_MERGES = Path(open_clip.tokenizer.default_bpe())


@pytest.fixture(scope="module", params=[None, 3000, 0])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Our tokenizer and open_clip's on the whole, a truncated and an empty merge list."""
    path = CLIP_MERGES
    if request.param is not None:
        lines = gzip.decompress(CLIP_MERGES.read_bytes()).decode().split("\n")
        path = tmp_path_factory.mktemp("bpe") / "merges.txt.gz"
        path.write_bytes(gzip.compress("\n".join(lines[: request.param + 1]).encode()))
    return ClipTokenizer.from_file(path, context_length=77), SimpleTokenizer(str(path))


WORDS = st.sampled_from(
    [
        "Dog",
        "grass,",
        "it's",
        "naïve",
        "12",
        "3.5",
        "日本語",
        "🐕",
        "&amp;lt;",
        "<end_of_text>",
        "\t",
    ]
)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=12).map(" ".join)))
@example(text="")
@example(text="x" * 500)
@example(text="sch\u00c3\u00b6n &amp;amp; <start_of_text> ﬁne")
def test_equals_open_clip(both, text: str) -> None:
    """Any text gives the same ids, cut to the context at the same place."""
    ours, theirs = both
    np.testing.assert_array_equal(ours([text], trim=False), theirs([text]).numpy())


def test_trim_ends_at_the_longest_text(both) -> None:
    """Trimming only removes columns of zeros."""
    ours, _ = both
    whole, short = ours(["a dog", "grass"], trim=False), ours(["a dog", "grass"])
    np.testing.assert_array_equal(whole[:, : short.shape[1]], short)
    assert not whole[:, short.shape[1] :].any()
    assert short[:, -1].any()


def test_fits_tells_what_is_cut() -> None:
    """`fits` is false exactly when tokens are lost."""
    tokenizer = ClipTokenizer([], context_length=5)
    assert tokenizer.fits("abc")
    assert not tokenizer.fits("abcd")


def test_one_string_is_an_error() -> None:
    """A string is not taken for a list of its letters."""
    with pytest.raises(ConfigError, match="list of strings"):
        ClipTokenizer([], context_length=8)("dog")


@pytest.mark.parametrize("data", [b"\x1f\x8bbroken", b"\xff\xfe", b"#v\nonly-one-symbol\n"])
def test_damaged_merges_are_named(tmp_path: Path, data: bytes) -> None:
    """A damaged file gives one sentence."""
    (tmp_path / "merges").write_bytes(data)
    with pytest.raises(BundleError, match="install the bundle again"):
        ClipTokenizer.from_file(tmp_path / "merges", context_length=8)
