"""What the recipe knows about words."""

from pathlib import Path

import numpy as np

from atas_deploy.training.tiny.words import (
    caption_nouns,
    everyday_words,
    imagenet_names,
    table_names,
)


def test_everyday_words_cover_their_classes() -> None:
    """A golden retriever (207) is a dog and an animal, not a cat; an airliner (404) is a plane."""
    names = imagenet_names()
    rows = {name: names.targets[i] for i, name in enumerate(names.names)}
    assert rows["golden retriever"].nonzero()[0].tolist() == [207]
    assert rows["dog"][207] == rows["animal"][207] == rows["airplane"][404] == 1
    assert rows["cat"][207] == 0
    assert rows["dog"].sum() == 118


def test_every_class_has_a_name_and_every_name_a_class() -> None:
    """No row or column of the targets is empty."""
    targets = imagenet_names().targets
    assert (targets.sum(0) > 0).all()
    assert (targets.sum(1) > 0).all()


def test_latin_names_are_left_out() -> None:
    """People do not ask for Carassius auratus."""
    names = imagenet_names().names
    assert "goldfish" in names
    assert "Carassius auratus" not in names


def test_nouns_are_found_in_the_plural_and_by_what_implies_them() -> None:
    """Men are persons; "dogs" is "dog"; captions that mention a noun are counted."""
    captions = [["Two men with dogs", "a man and a dog"]] * 8 + [["a tennis ball"]] * 8
    nouns = caption_nouns(captions, ["tennis ball", "dog"])
    rows = {name: nouns.targets[i] for i, name in enumerate(nouns.names)}
    assert rows["person"].tolist() == [2] * 8 + [0] * 8
    assert rows["dog"][0] == 2
    assert rows["tennis ball"].tolist() == rows["ball"].tolist() == [0] * 8 + [1] * 8


def test_rare_nouns_are_left_out() -> None:
    """Seven images are too few to learn from."""
    assert "dog" not in caption_nouns([["a dog"]] * 7, everyday_words()).names


def test_tables_know_that_a_sofa_is_near_a_loveseat(shared_data: Path) -> None:
    """Synonyms share a row; neighbours make sense."""
    tables = table_names(shared_data / "text_embeddings")
    at = {name: i for i, name in enumerate(tables.names)}
    sofa, seat, zebra = (tables.targets[at[n]] for n in ("sofa", "loveseat", "zebra"))
    assert sofa @ seat > 0.5 > sofa @ zebra
    assert np.allclose(np.linalg.norm(tables.targets, axis=1), 1, atol=1e-5)
