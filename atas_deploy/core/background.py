"""The automatic background: generic words that compete as class 0.

`TABLE` (words/background.txt) lists each background word with the words that cover it: its
synonyms, what it is a kind of and kinds of it. A word leaves the background when the user asks for
it or for a word that covers it, so that `--classes animal` does not lose its dogs to it.
"""

from collections.abc import Iterable
from pathlib import Path

_FILE = Path(__file__).parents[1] / "words" / "background.txt"


def _read_table() -> dict[str, str]:
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    rows = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {word: covers.strip() for word, _, covers in rows}


TABLE = _read_table()
"""A background word: the words that cover it, separated by commas."""
_COVERS = {
    word: frozenset([word, *(cover.strip() for cover in covers.split(","))])
    for word, covers in TABLE.items()
}

# plurals that no rule finds, and "glasses", which are no kind of glass
_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "leaves": "leaf",
    "wolves": "wolf",
    "calves": "calf",
    "shelves": "shelf",
    "loaves": "loaf",
    "geese": "goose",
    "mice": "mouse",
    "feet": "foot",
    "oxen": "ox",
    "glasses": "glasses",
}

# phrases that are no kind of their last word
_NOT_KINDS = {
    "air bag",
    "air mattress",
    "air plant",
    "bean bag",
    "bird house",
    "cable car",
    "clothes horse",
    "corn dog",
    "dog house",
    "doll house",
    "flower bed",
    "guinea pig",
    "hot dog",
    "hot dogs",
    "house plant",
    "mountain lion",
    "pot plant",
    "potato chip",
    "potted plant",
    "power plant",
    "river bed",
    "rocking horse",
    "sea bed",
    "sea horse",
    "sea lion",
    "stuffed animal",
    "teddy bear",
    "toilet paper",
    "toy car",
    "toy dog",
    "toy train",
    "truck bed",
    "wall paper",
    "water bird",
}


def uncovered_words(asked: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the background words by whether the user's words cover them.

    Args:
        asked: the user's words and synonyms.

    Returns:
        The words that stay in the background, and those that were removed.
    """
    wanted = {form for word in asked for form in _forms(word)}
    kept = tuple(word for word, covers in _COVERS.items() if wanted.isdisjoint(covers))
    return kept, tuple(word for word, covers in _COVERS.items() if not wanted.isdisjoint(covers))


def _forms(word: str) -> set[str]:
    """A phrase, its last word (a "red car" is a car) and both without a plural ending."""
    phrase = " ".join(word.casefold().split())
    forms = {phrase} if phrase in _NOT_KINDS else {phrase, phrase.split(" ")[-1]}
    for form in tuple(forms):
        head, _, last = form.rpartition(" ")
        forms |= {f"{head} {single}".strip() for single in _singulars(last)}
    return forms


def _singulars(word: str) -> set[str]:
    """What a word may be the plural of, itself included."""
    if word in _IRREGULAR:
        return {_IRREGULAR[word]}
    singulars = {word, word.removesuffix("s"), word.removesuffix("es")}
    if word.endswith("ies"):
        singulars.add(word.removesuffix("ies") + "y")
    return singulars
