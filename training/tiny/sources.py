"""The recipe's data, read from their folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from atas_deploy.core.errors import InputError
from atas_deploy.training.pairs import Pairs, open_pairs
from atas_deploy.training.tiny.split import HELD_OUT_FILE, held_out_names
from atas_deploy.training.tiny.start import read_arrays
from atas_deploy.training.tiny.words import (
    Names,
    caption_nouns,
    everyday_words,
    imagenet_names,
    table_names,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The data, read.

    Attributes:
        pairs: all images with captions.
        train: positions of the training images.
        held_out: positions of the others.
        head: the arrays of the ImageNet ViT.
        names: names of ImageNet classes.
        tables: names with CLIP embeddings.
        nouns: nouns of the training captions.
    """

    pairs: Pairs
    train: list[int]
    held_out: list[int]
    head: Mapping[str, Tensor]
    names: Names
    tables: Names
    nouns: Names


def read_sources(data: Path) -> Sources:
    """Read captions, names and the ImageNet head.

    Raises:
        InputError: something is missing.
    """
    flickr = data / "flickr8k"
    pairs = open_pairs(flickr / "images_224.tar", flickr / "captions.csv")
    listed = HELD_OUT_FILE.read_text(encoding="utf-8").split()
    if held_out_names(pairs.names) != listed:
        raise InputError(f"The images in {flickr} are not those that {HELD_OUT_FILE} was made for.")
    apart = set(listed)
    train = [i for i, name in enumerate(pairs.names) if name not in apart]
    tables, names = table_names(data / "text_embeddings"), imagenet_names()
    nouns = caption_nouns([pairs.captions[i] for i in train], tables.names + everyday_words())
    return Sources(
        pairs=pairs,
        train=train,
        held_out=[i for i, name in enumerate(pairs.names) if name in apart],
        head=read_arrays(vit_file(data)),
        names=names,
        tables=tables,
        nouns=nouns,
    )


def vit_file(data: Path) -> Path:
    """The weights of the ImageNet ViT."""
    return data / "vit_tiny" / "vit_tiny_patch16_224.npz"
