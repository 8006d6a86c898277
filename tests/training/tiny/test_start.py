"""The model before training, and its tokenizer."""

from pathlib import Path

import numpy as np
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from atas_deploy.core.tokenizer import ClipTokenizer
from atas_deploy.training.tiny.start import build_start, select_merges, tiny_config, write_merges

WORDS = {"a photo of a golden retriever on the grass": 1}


def test_image_tower_equals_timm(tmp_path: Path) -> None:
    """Converted weights, patch bias folded into positions, give timm's class token."""
    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224").eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.1)
    arrays = {name: value.numpy() for name, value in theirs.state_dict().items()}
    np.savez(tmp_path / "vit.npz", **arrays)
    ours = build_start(tiny_config(600), vit=tmp_path / "vit.npz", seed=0)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = theirs.forward_features(pixels)[:, 0] @ ours.visual.proj
        torch.testing.assert_close(ours.visual(pixels), expected, atol=2e-4, rtol=2e-4)


def test_known_words_get_the_tokens_of_clip(tmp_path: Path) -> None:
    """A word of the corpus is cut where CLIP cuts it."""
    write_merges(tmp_path / "merges.txt.gz", select_merges(WORDS))
    ours = SimpleTokenizer(str(tmp_path / "merges.txt.gz"))
    theirs = SimpleTokenizer()
    for word in ["photo", "golden", "retriever", "grass"]:
        cut = [ours.decoder[i] for i in ours.encode(word)]
        assert cut == [theirs.decoder[i] for i in theirs.encode(word)]


def test_rare_words_get_no_merges() -> None:
    """A text that asks for two occurrences gives nothing for words that occur once."""
    assert select_merges({"zebra": 2}) == []
    assert select_merges({"zebra zebra": 2}) == select_merges({"zebra": 1})


def test_equal_merges_give_equal_bytes(tmp_path: Path) -> None:
    """No time stamp gets into the file."""
    merges = select_merges(WORDS)
    for name in ("a.gz", "b.gz"):
        write_merges(tmp_path / name, merges)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@settings(deadline=None)
@given(text=st.text(max_size=30))
def test_any_string_encodes(text: str, tmp_path_factory: object) -> None:
    """The end token has the highest id and closes each row."""
    path = Path(tmp_path_factory.getbasetemp()) / "merges.txt.gz"  # type: ignore[attr-defined]
    if not path.exists():
        write_merges(path, select_merges(WORDS))
    tokenizer = ClipTokenizer.from_file(path, context_length=48)
    row = tokenizer([text])[0]
    assert row.max() == tokenizer.vocab_size - 1
