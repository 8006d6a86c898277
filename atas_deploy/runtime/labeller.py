"""`Labeller`: what `Segmenter` and `RegionClassifier` share, a model with words that can change."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from atas_deploy.backends.base import Backend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.presets import Protocol
from atas_deploy.core.templates import resolve_templates
from atas_deploy.core.vocabulary import Vocabulary, build_vocabulary
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.label import Words


class Labeller:
    """A model with words.

    Args:
        model: as for `Encoders`, like all that follow but `classes` and `protocol`.
        classes: the words to begin with.
        protocol: the settings, checked.

    Raises:
        ConfigError: a setting cannot be used.
        BundleError: the bundle is missing or damaged.
        BackendUnavailableError: the engine or device is missing.
    """

    def __init__(
        self,
        model: str | Path | Bundle,
        classes: str | Sequence[str],
        *,
        protocol: Protocol,
        backend: str | Backend,
        device: str | None,
        batch_size: int,
        cache: bool,
        progress: Callable[[int, int], None] | None,
        tell: Callable[[str], None] | None,
    ) -> None:
        vocabulary = build_vocabulary(classes, background=protocol.background)
        self.templates = resolve_templates(protocol.templates)
        self.protocol = protocol
        self.encoders = Encoders(
            model,
            readout=protocol.readout,
            backend=backend,
            device=device,
            batch_size=batch_size,
            cache=cache,
            progress=progress,
            tell=tell,
        )
        self.bundle: Bundle = self.encoders.bundle
        self.backend: Backend = self.encoders.backend
        self.encoder = self.encoders.dense(
            short_side=protocol.short_side,
            window=protocol.window,
            stride=protocol.stride,
            merge=protocol.merge,
        )
        self._text = self.encoders.texts(self.templates.prompts)
        self._background = protocol.background
        self._words = self._encode_words(vocabulary)

    def set_classes(
        self, classes: str | Sequence[str], *, background: str | Sequence[str] | None = None
    ) -> None:
        """Change the class list; words seen before cost nothing, no graph is touched.

        The settings stay as they are, also those of a preset that has others for the new list.

        Args:
            classes: as for the class.
            background: as for the class; None keeps the rule in use.

        Raises:
            ConfigError: an argument cannot be used; the old list stays.
        """
        rule = self._background if background is None else background
        self._words = self._encode_words(build_vocabulary(classes, background=rule))
        self._background = rule

    @contextmanager
    def using(
        self, classes: str | Sequence[str], *, background: str | Sequence[str] | None = None
    ) -> Iterator[None]:
        """Another class list inside a `with` block; then the one before is in use again.

        Args:
            classes: as for `set_classes`.
            background: as for `set_classes`.

        Raises:
            ConfigError: an argument cannot be used.
        """
        before = self._words, self._background
        try:
            self.set_classes(classes, background=background)
            yield
        finally:
            self._words, self._background = before

    def _encode_words(self, vocabulary: Vocabulary) -> Words:
        features = self._text(vocabulary.queries)
        return Words(vocabulary, np.float32(self.logit_scale) * features.T)

    @property
    def logit_scale(self) -> float:
        """Factor on cosine similarities."""
        return self.protocol.logit_scale or self.bundle.manifest.logit_scale

    @property
    def short_side(self) -> int:
        """Shorter side of the encoder's input for dense features in pixels."""
        return self.encoder.short_side

    @property
    def cache_problem(self) -> str | None:
        """One sentence on why text features are not kept on disk, None while all is well."""
        return self.encoders.cache_problem

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes, background words and queries in use."""
        return self._words.vocabulary
