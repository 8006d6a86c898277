"""The split, and recall."""

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from atas_deploy.training.pairs import read_captions
from atas_deploy.training.tiny.split import HELD_OUT_FILE, held_out_names, names_hash, recall


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


def test_recall_counts_the_ranks() -> None:
    """Three images, four captions: one is beaten by one other image."""
    images = torch.eye(3)
    texts = F.normalize(torch.tensor([[1.0, 0, 0], [0.9, 0.8, 0], [0, 1, 0], [0.5, 0, 0.4]]), dim=1)
    got = recall(images, texts, torch.tensor([0, 1, 1, 2]))
    assert got["text_to_image_R@1"] == 50.0
    assert got["text_to_image_R@5"] == 100.0
    assert got["image_to_text_R@1"] == 100.0
