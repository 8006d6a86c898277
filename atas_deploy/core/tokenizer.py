"""CLIP's byte-pair tokenizer without torch.

Source: the byte-level BPE of GPT-2 as used by CLIP (Radford et al., 2021); the result equals
`open_clip.tokenizer.SimpleTokenizer` on any text, for any number of merges.

    N texts, L tokens
"""

import gzip
import html
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import ftfy
import numpy as np
import numpy.typing as npt
import regex

from atas_deploy.core.errors import BundleError, ConfigError

_WORD_END = "</w>"
_START, _END = "<start_of_text>", "<end_of_text>"
_MAX_MERGES = 49_152 - 256 - 2  # CLIP's own file holds more lines than CLIP uses
_PIECES = regex.compile(
    rf"{_START}|{_END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)


def _byte_symbols() -> dict[int, str]:
    """Map each byte to a printable character, so that BPE never sees a space or a control code."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = (b for b in range(256) if b not in printable)
    symbols = {b: chr(b) for b in printable}
    symbols.update({b: chr(256 + i) for i, b in enumerate(spare)})
    return symbols


def clean(text: str) -> str:
    """Repair mojibake, unescape HTML twice, collapse white space, lower-case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(text.split()).strip().lower()


class ClipTokenizer:
    """Text to token ids.

    Args:
        merges: BPE merges in order of priority, each "left right".
        context_length: longest sequence, start and end tokens included.
        full_rows: the text tower reads whole rows, padding included.

    Raises:
        BundleError: a merge does not consist of two symbols.
    """

    def __init__(
        self, merges: Sequence[str], *, context_length: int, full_rows: bool = False
    ) -> None:
        pairs = [tuple(merge.split()) for merge in merges]
        if any(len(pair) != 2 for pair in pairs):
            raise BundleError(
                "The tokenizer's merges file is damaged: each line must hold two symbols; "
                "install the bundle again."
            )
        self.context_length, self.full_rows = context_length, full_rows
        self._bytes = _byte_symbols()
        alphabet = list(self._bytes.values())
        vocabulary = [*alphabet, *(symbol + _WORD_END for symbol in alphabet)]
        vocabulary += ["".join(pair) for pair in pairs]
        vocabulary += [_START, _END]
        self._ids = {token: i for i, token in enumerate(vocabulary)}
        self._rank = {pair: i for i, pair in enumerate(pairs)}
        self.vocab_size = len(vocabulary)
        self.start_id, self.end_id = self.vocab_size - 2, self.vocab_size - 1
        self._encode_piece = lru_cache(maxsize=65_536)(self._merge_piece)

    @classmethod
    def from_file(
        cls, path: Path, *, context_length: int, full_rows: bool = False
    ) -> "ClipTokenizer":
        """Read CLIP's merges file: gzip or plain text, a header line, one merge a line.

        Raises:
            BundleError: the file is missing or damaged.
        """
        try:
            data = Path(path).read_bytes()
            text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
            raise BundleError(
                f"Cannot read the tokenizer {path} ({exc}); install the bundle again."
            ) from exc
        merges = text.rstrip("\n").split("\n")[1 : _MAX_MERGES + 1]
        return cls(merges, context_length=context_length, full_rows=full_rows)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without start and end tokens, of any length."""
        pieces: list[str] = _PIECES.findall(clean(text))
        return [token for piece in pieces for token in self._encode_piece(piece)]

    def __call__(self, texts: Sequence[str], *, trim: bool = True) -> npt.NDArray[np.int64]:
        """Tokens of several texts, cut to the context length and padded with zeros.

        Args:
            texts: N strings.
            trim: end the rows at the longest text instead of the context length (CLIP's text
                tower is causal and reads the end token, so the features are the same), unless
                rows must be full.

        Returns:
            (N, L) int64, start token first, end token last, zeros behind it.
        """
        if isinstance(texts, str):
            raise ConfigError("The tokenizer got one string; give it a list of strings.")
        room = self.context_length - 2
        rows = [[self.start_id, *self.encode(text)[:room], self.end_id] for text in texts]
        trim = trim and not self.full_rows
        length = max(map(len, rows), default=2) if trim else self.context_length
        tokens = np.zeros((len(rows), length), np.int64)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return tokens

    def fits(self, text: str) -> bool:
        """Whether a text is encoded whole, not cut to the context length."""
        return len(self.encode(text)) <= self.context_length - 2

    def lengths(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """How many tokens of each (N, L) row the text tower must see: (N,)."""
        if self.full_rows:
            return np.full(len(tokens), self.context_length)
        ends: npt.NDArray[np.intp] = (tokens == self.end_id).argmax(axis=1) + 1
        return ends

    def _merge_piece(self, piece: str) -> tuple[int, ...]:
        """Apply the merges to one word, best rank first."""
        if piece in (_START, _END):
            return (self._ids[piece],)
        word = [self._bytes[b] for b in piece.encode("utf-8")]
        word[-1] += _WORD_END
        unranked = len(self._rank)
        while len(word) > 1:
            best = min(pairwise(word), key=lambda pair: self._rank.get(pair, unranked))
            if best not in self._rank:
                break
            word = _join(word, best)
        return tuple(self._ids[symbol] for symbol in word)


def _join(word: list[str], pair: tuple[str, str]) -> list[str]:
    """Replace each occurrence of a pair by its concatenation, left to right."""
    joined: list[str] = []
    i = 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            joined.append(word[i] + word[i + 1])
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return joined
