"""Tokenizers that come as a `tokenizer.json`, as those of SigLIP and SigLIP 2 do.

    tokenizer/tokenizer.json  the tokenizer, Hugging Face's format
    tokenizer/settings.json   `HfSettings`: cleaning and padding, which that format leaves open

The ids equal those of open_clip's `HFTokenizer` without needing transformers or torch.

    N texts, L tokens
"""

import html
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ftfy
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import BackendUnavailableError, BundleError, ConfigError
from atas_deploy.core.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    import tokenizers

SETTINGS = "settings.json"
CLEANINGS = ("whitespace", "lower", "canonicalize")
_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class HfSettings:
    """What a tokenizer.json leaves open.

    Attributes:
        pad_id: token behind a short text, or in front of it.
        pad_left: whether it comes in front.
        clean: what happens to a text first, one of `CLEANINGS`.
        strip_id: token that is replaced by 0 in the finished rows; None = none.
    """

    pad_id: int
    pad_left: bool = False
    clean: str = "whitespace"
    strip_id: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no tokenizer has.

        Raises:
            ValueError: naming the field.
        """
        if not isinstance(self.pad_id, int) or self.pad_id < 0:
            raise ValueError(f"pad_id is {self.pad_id!r}, expected a token id")
        if self.clean not in CLEANINGS:
            raise ValueError(f"clean is {self.clean!r}, expected one of {', '.join(CLEANINGS)}")

    def to_json(self) -> str:
        """The text of settings.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_file(cls, path: Path) -> "HfSettings":
        """Read settings.json.

        Raises:
            BundleError: the file is missing or damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = {field.name for field in fields(cls)}
            return cls(**{key: value for key, value in content.items() if key in known})
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            raise BundleError(
                f"Cannot read the tokenizer's settings {path} ({exc}); export the model again."
            ) from exc


class HfTokenizer:
    """Text to token ids, in rows that are always full.

    Args:
        path: a tokenizer.json.
        settings: cleaning and padding.
        context_length: length of the rows.

    Raises:
        BundleError: the file is missing or damaged.
        BackendUnavailableError: the package `tokenizers` is missing.
    """

    full_rows = True

    def __init__(self, path: Path, settings: HfSettings, *, context_length: int) -> None:
        self.settings, self.context_length = settings, context_length
        self._tokenizer = read_tokenizer(path)
        side = "left" if settings.pad_left else "right"
        self._tokenizer.enable_truncation(context_length)
        self._tokenizer.enable_padding(
            direction=side, pad_id=settings.pad_id, length=context_length
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids that texts can become; tokens behind the last of these do not count.

        T5's tokenizers end in a hundred marks such as <extra_id_0>, which no cleaned text holds and
        which models have no embeddings for.
        """
        size: int = self._tokenizer.get_vocab_size()
        while size and self._is_unreachable(size - 1):
            size -= 1
        return size

    def __call__(self, texts: Sequence[str], *, trim: bool = True) -> npt.NDArray[np.int64]:
        """Tokens of several texts, cut or padded to the context length.

        Args:
            texts: N strings.
            trim: changes nothing: these rows are always full.

        Returns:
            (N, L) int64.
        """
        if isinstance(texts, str):
            raise ConfigError("The tokenizer got one string; give it a list of strings.")
        found = self._tokenizer.encode_batch([clean(t, self.settings.clean) for t in texts])
        ids = [encoding.ids for encoding in found]
        tokens = np.array(ids, np.int64).reshape(len(ids), self.context_length)
        if self.settings.strip_id is not None:
            tokens[tokens == self.settings.strip_id] = 0
        return tokens

    def fits(self, text: str) -> bool:
        """Whether a text is encoded whole, not cut to the context length."""
        return not self._tokenizer.encode(clean(text, self.settings.clean)).overflowing

    def lengths(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """How many tokens of each (N, L) row the text tower must see: (N,)."""
        return np.full(len(tokens), self.context_length)

    def _is_unreachable(self, token_id: int) -> bool:
        """Whether a token is a mark such as <extra_id_0> that cleaning takes out of texts."""
        token = (self._tokenizer.id_to_token(token_id) or "").strip("\u2581 ")
        return token[:1] == "<" and clean(token, self.settings.clean) != token


Tokenizer: TypeAlias = ClipTokenizer | HfTokenizer


def clean(text: str, kind: str) -> str:
    """Prepare a text as open_clip does before it goes to such a tokenizer.

    Repairs mojibake, unescapes HTML twice and collapses white space; "lower" puts it in lower case
    as well; "canonicalize" also makes underscores spaces and takes out ASCII punctuation.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if kind == "canonicalize":
        text = text.translate(_PUNCTUATION)
    text = " ".join(text.split())
    return text if kind == "whitespace" else text.lower()


def read_tokenizer(path: Path) -> "tokenizers.Tokenizer":
    """Read a tokenizer.json.

    Raises:
        BundleError: the file is missing or damaged.
        BackendUnavailableError: the package `tokenizers` is missing.
    """
    try:
        import tokenizers
    except ImportError as exc:
        raise BackendUnavailableError(
            "This model's words need the package tokenizers, which is not installed; "
            'run pip install "atas-deploy[siglip]".'
        ) from exc
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as exc:  # the package raises bare Exception
        raise BundleError(
            f"Cannot read the tokenizer {path} ({exc}); copy or install it again."
        ) from exc


def find_settings(path: Path, options: Mapping[str, Any]) -> HfSettings:
    """Cleaning and padding of a tokenizer.json that does not lie in a bundle.

    Padding is what `settings.json` beside it says, else the `pad_token` of tokenizer_config.json or
    special_tokens_map.json beside it, else the file's own padding section.

    Args:
        path: the tokenizer.json.
        options: `tokenizer_kwargs` of open_clip's configuration.

    Raises:
        ConfigError: an option is unknown, the files disagree or nothing says how to pad.
        BundleError: the file is missing or damaged.
        BackendUnavailableError: the package `tokenizers` is missing.
    """
    if (path.parent / SETTINGS).is_file():
        return HfSettings.from_file(path.parent / SETTINGS)
    unknown = sorted(options.keys() - {"clean", "strip_sep_token"})
    kind = str(options.get("clean", "whitespace"))
    if unknown or kind not in CLEANINGS:
        what = unknown[0] if unknown else f"clean = {kind}"
        raise ConfigError(
            f"This model's tokenizer is not supported: its setting {what} is unknown; use a "
            "SigLIP or CLIP model of open_clip."
        )
    tokenizer, notes = read_tokenizer(path), _notes(path.parent)
    end = _id_of(tokenizer, notes.get("eos_token"))
    if notes.get("add_eos_token") and tokenizer.encode("a").ids[-1:] != [end]:
        raise ConfigError(
            f"The tokenizer {path} puts no end token behind a text, though its "
            "tokenizer_config.json asks for one; save it again with transformers."
        )
    pad_id, pad_left = _padding(tokenizer, notes)
    if pad_id is None:
        raise ConfigError(
            f"Nothing says which token pads the rows of {path}; put the model's "
            "tokenizer_config.json beside it."
        )
    strip = options.get("strip_sep_token")
    return HfSettings(
        pad_id=pad_id,
        pad_left=pad_left,
        clean=kind,
        strip_id=_id_of(tokenizer, notes.get("sep_token", "[SEP]")) if strip else None,
    )


def _padding(
    tokenizer: "tokenizers.Tokenizer", notes: Mapping[str, Any]
) -> tuple[int | None, bool]:
    """Id of the padding token, if known, and whether it comes in front."""
    own = tokenizer.padding or {}
    side = str(notes.get("padding_side", own.get("direction", "right")))
    known = (_id_of(tokenizer, notes.get("pad_token")), own.get("pad_id"))
    pad_id = next((i for i in known if i is not None), _id_of(tokenizer, "[PAD]"))
    return pad_id, side.lower() == "left"  # BERT's files do not name its [PAD]


def _id_of(tokenizer: "tokenizers.Tokenizer", token: Any) -> int | None:
    """Id of a token given as text or, as transformers may write it, as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    found: int | None = tokenizer.token_to_id(text) if isinstance(text, str) else None
    return found


def _notes(folder: Path) -> dict[str, Any]:
    """What transformers' files beside a tokenizer.json say, the main one last."""
    notes: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            raise ConfigError(f"Cannot read {folder / name} ({exc}); copy it again.") from exc
        if isinstance(content, dict):
            notes |= {key: value for key, value in content.items() if value is not None}
    return notes
