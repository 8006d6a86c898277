"""What the recipe knows about words.

Three sources: the names behind the ImageNet head's 1000 classes, with everyday words for groups of
them; nouns found in captions; names with embeddings of a real CLIP.
"""

import csv
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timm.data.imagenet_info import ImageNetInfo

from atas_deploy.core.errors import InputError

_DATA = Path(__file__).resolve().parents[1] / "data"
CLASSES = 1000
_FIRST_ARTEFACT = 398  # below it ImageNet's classes are animals, with Latin names among their names
_LEAST_IMAGES = 8
# Words that captions use in another sense than the tables of object names.
_AMBIGUOUS = frozenset(
    {"left", "right", "down", "top", "back", "set", "can", "light", "post", "date", "mat", "pick"}
    | {"fan", "bow", "pan", "pin", "play", "spring", "bar", "match", "stand", "watch", "orange"}
    | {"brown", "green", "it", "other"}
)
PROMPTS = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}.",
    "a photo of the {}.",
    "there is a {} in the scene.",
    "a {} in the scene.",
    "a picture of {}",
    "a close-up of a {}.",
    "a photo of {} in the background.",
)


@dataclass(frozen=True, slots=True)
class Names:
    """Names and what they stand for: row i of `targets` belongs to name i."""

    names: list[str]
    targets: npt.NDArray[np.float32]


def imagenet_names() -> Names:
    """Names of the ImageNet classes and everyday words: targets (names, 1000), 1 where it fits."""
    members: dict[str, set[int]] = defaultdict(set)
    info = ImageNetInfo()
    for index in range(CLASSES):
        first, *others = [part.strip() for part in info.index_to_description(index).split(",")]
        keep = [n for n in others if index >= _FIRST_ARTEFACT or n == n.lower()]
        for name in (first, *keep):
            members[name].add(index)
    for line in _lines(_DATA / "imagenet_words.txt"):
        words, ranges = line.split(":")
        for word in words.split("|"):
            members[word] |= _indices(ranges)
    names = list(members)
    targets = np.zeros((len(names), CLASSES), np.float32)
    for row, name in enumerate(names):
        targets[row, list(members[name])] = 1.0
    return Names(names, targets)


def everyday_words() -> list[str]:
    """The words that stand for groups of ImageNet classes."""
    lines = _lines(_DATA / "imagenet_words.txt")
    return [word for line in lines for word in line.split(":")[0].split("|")]


def table_names(folder: Path) -> Names:
    """LVIS and Objects365 names with CLIP embeddings: targets (names, 512), centred, unit length.

    Raises:
        InputError: the tables are not there.
    """
    try:
        return _read_tables(folder)
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(
            f"The embedding tables in {folder} cannot be read ({exc}); give the folder of the data."
        ) from exc


def caption_nouns(captions: Sequence[Sequence[str]], names: Sequence[str]) -> Names:
    """Nouns in captions: targets (nouns, images), the number of captions that mention the noun.

    Args:
        captions: captions of each image.
        names: words that count as nouns, beside those of data/caption_words.txt.
    """
    nouns, implied = _noun_tables(names)
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for image, texts in enumerate(captions):
        for text in texts:
            for noun in _nouns_in(text, nouns, implied):
                counts[noun][image] += 1
    kept = sorted(noun for noun, images in counts.items() if len(images) >= _LEAST_IMAGES)
    targets = np.zeros((len(kept), len(captions)), np.float32)
    for row, noun in enumerate(kept):
        targets[row, list(counts[noun])] = list(counts[noun].values())
    return Names(kept, targets)


def _noun_tables(names: Sequence[str]) -> tuple[set[str], dict[str, set[str]]]:
    """All nouns, and for each word the nouns that it implies."""
    nouns = {name.lower() for name in names}
    implied: dict[str, set[str]] = defaultdict(set)
    for line in _lines(_DATA / "caption_words.txt"):
        noun, _, words = line.partition(":")
        nouns.add(noun)
        for word in words.split():
            implied[word].add(noun)
    return {noun for noun in nouns - _AMBIGUOUS if len(noun) > 2}, implied


def _nouns_in(text: str, nouns: set[str], implied: dict[str, set[str]]) -> set[str]:
    """Nouns of one or two words, plural or not, and what they imply."""
    words = re.findall(r"[a-z]+", text.lower())
    phrases = words + [" ".join(pair) for pair in itertools.pairwise(words)]
    found: set[str] = set()
    for phrase in phrases:
        forms = {phrase, phrase.removesuffix("s"), phrase.removesuffix("es")}
        found |= (forms & nouns) | implied.get(phrase, set())
    return found


def _read_tables(folder: Path) -> Names:
    lvis = json.loads((folder / "lvis_v1_train_cat_info.json").read_text(encoding="utf-8"))
    lvis = sorted(lvis, key=lambda entry: entry["id"])
    with (folder / "Objects365_names_fix.csv").open(newline="", encoding="utf-8") as file:
        o365 = [row[2].strip().lower() for row in csv.reader(file)]
    rows = [
        _unit(np.load(folder / "detic_vitb32_lvis_v1_clip_a+cname.npy")),
        _unit(np.load(folder / "detic_vitb32_o365_clip_a+cnamefix.npy")),
    ]
    synonyms = [[_plain(name) for name in entry["synonyms"]] for entry in lvis] + [
        [name] for name in o365
    ]
    table = np.concatenate(rows)
    table = _unit(table - table.mean(axis=0))
    index = [row for row, names in enumerate(synonyms) for _ in names]
    return Names([name for names in synonyms for name in names], table[index])


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _plain(name: str) -> str:
    """Turn a LVIS name such as bow_(weapon) into plain words."""
    return re.sub(r"_?\(.*\)", "", name).replace("_", " ").strip()


def _indices(text: str) -> set[int]:
    """Read indices and ranges such as 1-3,7."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
