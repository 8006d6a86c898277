"""`Segmenter`: pictures and words in, label maps out.

Q queries, D embedding width
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.masks import label_map, refined_label_map
from atas_deploy.core.results import Segmentation
from atas_deploy.core.templates import resolve_templates
from atas_deploy.core.vocabulary import Vocabulary, build_vocabulary
from atas_deploy.models import open_model
from atas_deploy.runtime.encode import Encoded, Image, ImageEncoder, snap_windows
from atas_deploy.runtime.temporal import Smoother
from atas_deploy.runtime.text import TextFeatures
from atas_deploy.runtime.text_store import TextStore

BACKENDS = {"ort": OrtBackend}
REFINEMENTS = ("none", "pamr")


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """A vocabulary and its text features times the logit scale, (D, Q), which change together."""

    vocabulary: Vocabulary
    queries: npt.NDArray[np.float32]


class Segmenter:
    """Open-vocabulary segmentation with a bundle.

    Example:
        >>> segmenter = Segmenter("atas-tiny", classes="dog|puppy,grass")
        >>> segmenter("photo.jpg").mask("dog")          # one image: path or array
        >>> segmenter.segment([image_a, image_b])       # a list
        >>> for result in segmenter.stream(frames): ... # any length, flat memory

    Args:
        model: embedded name, bundle folder or open bundle.
        classes: "dog|puppy,grass", "@names.txt", a built-in list such as "@voc20", or a sequence;
            see `atas_deploy.core.classes`.
        background: "auto", "none", or a list of words; see `atas_deploy.core.vocabulary`.
        threshold: least softmax probability of a pixel that keeps its class, in [0, 1].
        probability: whether results hold the probability of every pixel; slow with many words.
        templates: name of a set, "@file", or prompts with one `{}` each; see
            `atas_deploy.core.templates`.
        short_side: shorter side of the encoder's input in pixels; None = the model's own.
        window: side of sliding windows in pixels of that input, rounded to patches; None = whole.
        stride: from one window to the next in pixels; None = half a window.
        refine: "none", or "pamr" to pull masks to the edges of the picture; slow with many words.
        logit_scale: factor on cosine similarities; None = the model's own.
        backend: "ort".
        device: "cpu", "cuda" or "cuda:N".
        batch_size: images or windows encoded at once.
        cache: whether to keep text features on disk for the next run.
        progress: called with (done, total) while thousands of prompts are encoded.

    Raises:
        ConfigError: an argument cannot be used.
        BundleError: the bundle is missing or damaged.
        BackendUnavailableError: the engine or device is missing.
    """

    def __init__(  # noqa: PLR0913
        self,
        model: str | Path | Bundle = "atas-tiny",
        classes: str | Sequence[str] = (),
        *,
        background: str | Sequence[str] = "auto",
        threshold: float | None = None,
        probability: bool = False,
        templates: str | Sequence[str] = "default",
        short_side: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        refine: str = "none",
        logit_scale: float | None = None,
        backend: str = "ort",
        device: str = "cpu",
        batch_size: int = 1,
        cache: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        _check_number("threshold", threshold, "a probability in [0, 1]", lambda p: 0 <= p <= 1)
        _check_number("logit scale", logit_scale, "a number above 0", lambda s: 0 < s < np.inf)
        for name, length in (("short side", short_side), ("window", window), ("stride", stride)):
            _check_number(name, length, "a number of pixels", lambda x: x == int(x))
        _check_choice("backend", backend, BACKENDS)
        _check_choice("refinement", refine, REFINEMENTS)
        vocabulary = build_vocabulary(classes, background=background)
        self.templates = resolve_templates(templates)
        self.bundle = open_model(model)
        manifest = self.bundle.manifest
        self.logit_scale = manifest.logit_scale if logit_scale is None else logit_scale
        self.threshold, self.probability, self.refine = threshold, probability, refine
        self.backend: Backend = BACKENDS[backend](self.bundle, device=device)
        self.encoder = ImageEncoder(
            self.backend,
            patch_size=manifest.patch_size,
            short_side=manifest.short_side if short_side is None else short_side,
            windows=snap_windows(window, stride, patch_size=manifest.patch_size),
            batch_size=batch_size,
        )
        self._store = TextStore(self.bundle) if cache else None
        self._text = TextFeatures(
            self.backend,
            self.bundle.tokenizer(),
            templates=self.templates.prompts,
            store=self._store,
            progress=progress,
        )
        self._background = background
        self._words = self._encode_words(vocabulary)

    def set_classes(
        self, classes: str | Sequence[str], *, background: str | Sequence[str] | None = None
    ) -> None:
        """Change the class list; words seen before cost nothing, no graph is touched.

        Args:
            classes: as for the class.
            background: as for the class; None keeps the rule in use.

        Raises:
            ConfigError: an argument cannot be used; the old list stays.
        """
        rule = self._background if background is None else background
        self._words = self._encode_words(build_vocabulary(classes, background=rule))
        self._background = rule

    def _encode_words(self, vocabulary: Vocabulary) -> _Words:
        features = self._text(vocabulary.queries)
        return _Words(vocabulary, np.float32(self.logit_scale) * features.T)

    @property
    def short_side(self) -> int:
        """Shorter side of the encoder's input in pixels."""
        return self.encoder.short_side

    @property
    def cache_problem(self) -> str | None:
        """One sentence on why text features are not kept on disk, None while all is well."""
        return self._store.problem if self._store else None

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes, background words and queries in use."""
        return self._words.vocabulary

    def __call__(self, image: Image | str | Path) -> Segmentation:
        """Segment one image: a path, or (H, W, 3) uint8 RGB."""
        return self._label(self.encoder(image))

    def segment(self, images: Sequence[Image | str | Path]) -> list[Segmentation]:
        """Segment several images, of any sizes.

        Raises:
            InputError: not a list, or an item cannot be read.
        """
        return list(self.stream(images))

    def stream(
        self, images: Iterable[Image | str | Path], *, every: int = 1, smooth: float = 0.0
    ) -> Generator[Segmentation]:
        """Segment images as they come, in order and in flat memory.

        Reading, encoding and labelling overlap: images are read in one thread and encoded in
        another, some batches ahead, while the caller works on a result. `close` waits for the
        image that is being read.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays.
            every: segment each N-th image only, as for a video; the images between get the result
                of the one before, the very same object, if they have its size.
            smooth: weight of the past in an exponential average of the features, in [0, 1); it
                starts anew at scene cuts.

        Raises:
            ConfigError: `every` or `smooth` is out of range.
            InputError: an item is not a readable path or an (H, W, 3) uint8 array.
            BackendError: the engine fails.
        """
        if every < 1:
            raise ConfigError(f"Got every {every} images; expected 1 or more.")
        single = isinstance(images, str | Path) or getattr(images, "ndim", 4) < 4
        if single or not isinstance(images, Iterable):
            raise InputError(
                f"Got a single {type(images).__name__}; give a list or another iterable of images, "
                "or call the segmenter itself with one image."
            )
        return self._stream(images, every=every, smoother=Smoother(smooth))

    def _stream(
        self, images: Iterable[Image | str | Path], *, every: int, smoother: Smoother
    ) -> Generator[Segmentation]:
        with closing(self.encoder.stream(images, every=every)) as pictures:
            for picture in pictures:
                if picture is not None:
                    smoothed = smoother(picture.dense)
                    result = self._label(Encoded(picture.size, picture.fitted, smoothed))
                yield result

    def _label(self, picture: Encoded) -> Segmentation:
        words = self._words  # one list for a picture, even if another thread changes it
        query_class = words.vocabulary.query_class
        if self.refine == "pamr":
            found = refined_label_map(
                picture.dense,
                words.queries,
                query_class,
                image=picture.fitted,
                size=picture.size,
                threshold=self.threshold,
            )
        else:
            found = label_map(
                picture.dense,
                words.queries,
                query_class,
                size=picture.size,
                threshold=self.threshold,
                probability=self.probability,
            )
        probability = found.probability if self.probability else None
        return Segmentation(found.labels, words.vocabulary.names, found.scores, probability)


def _check_number(
    what: str, got: float | None, expected: str, fits: Callable[[float], bool]
) -> None:
    if got is not None and not (isinstance(got, Real) and np.isfinite(got) and fits(got)):
        raise ConfigError(f"The {what} is {got!r}; expected {expected}.")


def _check_choice(what: str, got: str, known: Iterable[str]) -> None:
    if got not in (names := list(known)):
        raise ConfigError(f'Unknown {what} "{got}"; expected {", ".join(names)}.')
