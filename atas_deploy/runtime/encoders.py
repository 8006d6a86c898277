"""`Encoders`: a model opened on an engine, as every task of the runtime needs it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from atas_deploy.backends.base import Backend
from atas_deploy.backends.opening import check_backend, open_backend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError
from atas_deploy.models import open_model
from atas_deploy.runtime.embed import ImageEmbedder
from atas_deploy.runtime.encode import ImageEncoder
from atas_deploy.runtime.settle import check_batch_size, check_whole
from atas_deploy.runtime.text import TextFeatures
from atas_deploy.runtime.text_store import TextStore
from atas_deploy.runtime.windows import fit_windows


class Encoders:
    """The image and the text encoder of a model.

    Args:
        model: name, bundle folder, model folder, checkpoint or open bundle; see
            `atas_deploy.models.open_model`.
        readout: how dense features are read; None = the bundle's own.
        backend: "ort", "trt", or the engine of an open bundle, ready to use.
        device: "cpu", "cuda" or "cuda:N"; None = "cpu" for "ort" and "cuda" for "trt"; a ready
            engine has its own.
        batch_size: images, windows or crops encoded at once.
        cache: whether to keep text features on disk for the next run.
        progress: called with (done, total) while thousands of prompts are encoded.
        tell: called with one line when the model must be exported first.

    Attributes:
        bundle: the model.
        backend: the engine.

    Raises:
        ConfigError: an argument cannot be used.
        BundleError: the bundle is missing or damaged.
        BackendUnavailableError: the engine or device is missing.
    """

    def __init__(
        self,
        model: str | Path | Bundle = "atas-tiny",
        *,
        readout: str | None = None,
        backend: str | Backend = "ort",
        device: str | None = None,
        batch_size: int = 1,
        cache: bool = True,
        progress: Callable[[int, int], None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        check_engine(backend, device)
        if not isinstance(backend, str) and not isinstance(model, Bundle):
            raise ConfigError(
                f'Got a ready engine for the model "{model}"; give the open bundle that it runs.'
            )
        self.batch_size = check_batch_size(batch_size)
        self.bundle = open_model(model, readout=readout, tell=tell)
        self.backend: Backend = (
            open_backend(backend, self.bundle, device=device)
            if isinstance(backend, str)
            else backend
        )
        self._store = TextStore(self.bundle) if cache else None
        self._progress = progress

    def dense(
        self,
        *,
        short_side: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        merge: str = "features",
    ) -> ImageEncoder:
        """An encoder of pictures of any size to dense features.

        Args:
            short_side: shorter side of the encoder's input in pixels; None = the model's own.
            window: side of sliding windows in pixels of that input; None = whole.
            stride: from one window to the next in pixels; None = half a window.
            merge: "features" or "pixels", see `atas_deploy.core.masks.merged`.

        Raises:
            ConfigError: a length that the model cannot take.
        """
        manifest = self.bundle.manifest
        if short_side is None:
            short_side = manifest.short_side
        grid = {"cell": manifest.cell, "multiple": manifest.multiple}
        return ImageEncoder(
            self.backend,
            **grid,
            short_side=check_whole("short side", short_side, "a whole number of pixels above 0"),
            windows=fit_windows(window, stride, merge=merge, **grid),
            batch_size=self.batch_size,
        )

    def whole(self, *, fit: str | None = None) -> ImageEmbedder:
        """An encoder of pictures or crops to one vector each, by the class token.

        Args:
            fit: "shortest", "longest" or "squash", see `ImageEmbedder`; None = the model's own.

        Raises:
            ConfigError: there is no such way to fit.
        """
        manifest = self.bundle.manifest
        side = max(1, self.bundle.image_size // manifest.multiple) * manifest.multiple
        return ImageEmbedder(
            self.backend,
            size=side,
            width=manifest.embed_dim,
            fit=self.bundle.resize_mode if fit is None else fit,
            fill=manifest.mean,
            batch_size=self.batch_size,
        )

    def texts(self, templates: str | Sequence[str] = "default") -> TextFeatures:
        """An encoder of words to the normalised mean of their prompts.

        Raises:
            ConfigError: a template without `{}`, or no such set.
        """
        return TextFeatures(
            self.backend,
            self.bundle.tokenizer(),
            templates=templates,
            store=self._store,
            progress=self._progress,
        )

    @property
    def cache_problem(self) -> str | None:
        """One sentence on why text features are not kept on disk, None while all is well."""
        return self._store.problem if self._store else None


def check_engine(backend: str | Backend, device: str | None) -> None:
    """Refuse an engine or a device before a model is exported for it; one that is ready is known.

    Raises:
        ConfigError: there is no such engine, or the device is none of its.
        BackendUnavailableError: it is not installed, or the device is missing.
    """
    if isinstance(backend, str):
        check_backend(backend, device=device)
