"""Tokenizers from tokenizer.json; the expected ids are worked out by hand."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import get_clean_fn

from atas_deploy.core.errors import BundleError, ConfigError
from atas_deploy.core.hf_tokenizer import (
    CLEANINGS,
    HfSettings,
    HfTokenizer,
    clean,
    find_settings,
    read_tokenizer,
)

Writers = dict[str, Callable[[Path], Path]]
SIGLIP = {"clean": "canonicalize"}


def load(path: Path, *, context_length: int = 6, **options: object) -> HfTokenizer:
    """A tokenizer with the settings that lie beside it."""
    found = find_settings(path, SIGLIP | options)
    return HfTokenizer(path, found, context_length=context_length)


# Unigram takes the likeliest pieces: "▁dog" (-2) + "s" (-5) beats "▁", "d", "o", "g", "s" (-23).
T5 = {
    "A dog!": [3, 4, 1, 1, 1, 1],
    "dogs_a": [4, 9, 3, 1, 1, 1],
    "": [1, 1, 1, 1, 1, 1],
    "a\u00a0 z": [3, 5, 2, 1, 1, 1],
    "dog " * 9: [4, 4, 4, 4, 4, 1],
}
# BPE joins d+o, do+g, ▁+dog; é is the bytes C3 A9, whose tokens are 4 + 195 and 4 + 169.
GEMMA = {
    "A dog!": [261, 267, 1, 0, 0, 0],
    "": [1, 0, 0, 0, 0, 0],
    "a dog é": [261, 267, 260, 199, 173, 1],
    "dog é a": [266, 260, 199, 173, 260, 1],
}


@pytest.mark.parametrize(("kind", "expected"), [("t5", T5), ("gemma", GEMMA)])
def test_ids_by_hand(
    tmp_path: Path, write_tokenizer: Writers, kind: str, expected: dict[str, list[int]]
) -> None:
    """Cleaned, split, cut with its end token kept, and padded with the file's own token."""
    tokenizer = load(write_tokenizer[kind](tmp_path))
    rows = tokenizer(list(expected))
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(rows, list(expected.values()))


def test_rows_are_always_full(tmp_path: Path, write_tokenizer: Writers) -> None:
    """A tower that reads padding gets all of it, whatever the caller wants trimmed."""
    tokenizer = load(write_tokenizer["t5"](tmp_path))
    rows = tokenizer(["dog"], trim=True)
    assert rows.shape == (1, 6)
    assert list(tokenizer.lengths(rows)) == [6]
    assert tokenizer([]).shape == (0, 6)


def test_fits_tells_what_is_cut(tmp_path: Path, write_tokenizer: Writers) -> None:
    """Five tokens and the end fit into six."""
    tokenizer = load(write_tokenizer["t5"](tmp_path))
    assert tokenizer.fits("dog " * 5)
    assert not tokenizer.fits("dog " * 6)


def test_one_string_is_an_error(tmp_path: Path, write_tokenizer: Writers) -> None:
    """A string is not taken for a list of its letters."""
    with pytest.raises(ConfigError, match="list of strings"):
        load(write_tokenizer["t5"](tmp_path))("dog")


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40), kind=st.sampled_from(CLEANINGS))
@example(text="sch\u00c3\u00b6n &amp;amp; _Hi_, you're <b>", kind="canonicalize")
@example(text=" A\t\u3000b ", kind="lower")
def test_cleaning_equals_open_clip(text: str, kind: str) -> None:
    """Each way of cleaning gives what open_clip's function of that name gives."""
    assert clean(text, kind) == get_clean_fn(kind)(text)


def test_marks_behind_the_vocabulary_do_not_count(tmp_path: Path, write_tokenizer: Writers) -> None:
    """T5's <extra_id_0> has an id but no cleaned text becomes it; a plain word counts."""
    path = write_tokenizer["t5"](tmp_path)
    tokenizer = read_tokenizer(path)
    tokenizer.add_tokens(["cat", "<extra_id_1>", "▁<extra_id_0>"])
    tokenizer.save(str(path))
    assert load(path).vocab_size == 11


def test_stripped_token_becomes_zero(tmp_path: Path, write_tokenizer: Writers) -> None:
    """`strip_sep_token` replaces the separator in the finished rows, as for CLIPA."""
    path = write_tokenizer["gemma"](tmp_path)
    notes = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"sep_token": "<eos>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(notes))
    rows = load(path, strip_sep_token=True)(["a dog"])
    np.testing.assert_array_equal(rows, [[261, 267, 0, 0, 0, 0]])


def test_padding_in_front(tmp_path: Path, write_tokenizer: Writers) -> None:
    """The side of the padding is the file's."""
    path = write_tokenizer["gemma"](tmp_path)
    notes = {"pad_token": "<pad>", "padding_side": "left"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(notes))
    np.testing.assert_array_equal(load(path)(["a dog"]), [[0, 0, 0, 261, 267, 1]])


def test_settings_round_trip(tmp_path: Path, write_tokenizer: Writers) -> None:
    """settings.json beside a tokenizer is all that it needs; other files are not asked."""
    path = write_tokenizer["t5"](tmp_path)
    before = find_settings(path, SIGLIP)
    (tmp_path / "settings.json").write_text(before.to_json())
    (tmp_path / "tokenizer_config.json").unlink()
    assert find_settings(path, {}) == before == HfSettings(pad_id=1, clean="canonicalize")


def test_padding_section_is_enough(tmp_path: Path, write_tokenizer: Writers) -> None:
    """A tokenizer.json that was saved with its padding needs no file beside it."""
    path = write_tokenizer["t5"](tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    tokenizer = read_tokenizer(path)
    tokenizer.enable_padding(pad_id=1, pad_token="</s>", length=64)
    tokenizer.save(str(path))
    np.testing.assert_array_equal(load(path)(["a dog"]), [[3, 4, 1, 1, 1, 1]])


def test_unknown_padding_is_not_guessed(tmp_path: Path, write_tokenizer: Writers) -> None:
    """T5's <pad> is not what SigLIP pads with, so a name proves nothing."""
    path = write_tokenizer["t5"](tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match=r"pads the rows.*tokenizer_config\.json beside it"):
        find_settings(path, SIGLIP)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"language": "en"}, "setting language"), ({"clean": "shout"}, "clean = shout")],
)
def test_unknown_options_are_refused(
    tmp_path: Path, write_tokenizer: Writers, options: dict[str, str], reason: str
) -> None:
    """What open_clip would do with other settings is not done by half."""
    with pytest.raises(ConfigError, match=reason):
        find_settings(write_tokenizer["t5"](tmp_path), options)


def test_missing_end_token_is_found(tmp_path: Path, write_tokenizer: Writers) -> None:
    """Files that disagree about the end token are refused."""
    path = write_tokenizer["gemma"](tmp_path)
    content = json.loads(path.read_text()) | {"post_processor": None}
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="puts no end token"):
        find_settings(path, SIGLIP)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": {"type": "BPE"}}'])
def test_damaged_tokenizer(tmp_path: Path, content: str) -> None:
    """A damaged file gives one sentence."""
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BundleError, match="Cannot read the tokenizer"):
        read_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"pad_id": -1}', '{"pad_id": 0, "clean": ""}']
)
def test_damaged_settings(tmp_path: Path, content: str) -> None:
    """Settings that no tokenizer has give one sentence."""
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(BundleError, match=r"settings\.json"):
        HfSettings.from_file(tmp_path / "settings.json")


def test_missing_package_is_named(tmp_path: Path) -> None:
    """Without the package `tokenizers` the message names the extra."""
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from pathlib import Path\n"
        "from atas_deploy.core.errors import BackendUnavailableError\n"
        "from atas_deploy.core.hf_tokenizer import read_tokenizer\n"
        "try:\n    read_tokenizer(Path('x'))\n"
        "except BackendUnavailableError as exc:\n    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "atas-deploy[siglip]"' in done.stdout
