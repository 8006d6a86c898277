"""`Segmenter`: pictures and words in, label maps out."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from atas_deploy.backends.base import Backend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.presets import choose_protocol
from atas_deploy.core.results import Segmentation
from atas_deploy.media.video import Frame
from atas_deploy.runtime.adaptive import check_level
from atas_deploy.runtime.device.stream import DeviceStream, Tinted
from atas_deploy.runtime.device.tools import Tint, Tools, open_tools
from atas_deploy.runtime.encode import Encoded, Image
from atas_deploy.runtime.encoders import check_engine
from atas_deploy.runtime.label import label_picture
from atas_deploy.runtime.labeller import Labeller
from atas_deploy.runtime.settle import check_batch_size, settle
from atas_deploy.runtime.temporal import Smoother


class Segmenter(Labeller):
    """Open-vocabulary segmentation with a bundle.

    Example:
        >>> segmenter = Segmenter("atas-tiny", classes="dog|puppy,grass")
        >>> segmenter("photo.jpg").mask("dog")          # one image: path or array
        >>> segmenter.segment([image_a, image_b])       # a list
        >>> for result in segmenter.stream(frames): ... # any length, flat memory

    Args:
        model: name, bundle folder, model folder, checkpoint or open bundle; see
            `atas_deploy.models.open_model`.
        classes: "dog|puppy,grass", "@names.txt", a built-in list such as "@voc20", or a sequence;
            see `atas_deploy.core.classes`.
        preset: "maskclip", "sclip", "clearclip" or "naclip": settings as published, for the class
            list given if the papers have numbers for it; see `atas_deploy.core.presets`. What is
            given beside it wins. In what follows None stands for the preset's value, or without a
            preset for the default that is named.
        readout: how dense features are read; None = the bundle's own.
        background: "auto" (the default), "none", or a list of words; see
            `atas_deploy.core.vocabulary`.
        threshold: least softmax probability of a pixel that keeps its class, in [0, 1]; None = 0.
        denoise: least softmax probability that a class must reach in some cell of a picture to
            compete in it, in [0, 1]; None = 0. Background words always compete; where there are
            none and no class reaches it, the picture is background, with a probability of 0. In a
            video each frame decides for itself.
        probability: whether results hold the probability of every pixel; slow with many words.
        templates: name of a set, "@file", or prompts with one `{}` each; see
            `atas_deploy.core.templates`; None = "default".
        short_side: shorter side of the encoder's input in pixels; None = the model's own.
        window: side of sliding windows in pixels of that input; None = whole.
        stride: from one window to the next in pixels; None = half a window.
        merge: what is averaged where windows overlap: "features" (the default; windows lie on the
            patch grid), or the logits of "pixels", as published; see
            `atas_deploy.core.masks.merged`.
        refine: "none" (the default), or "pamr" to pull masks to the edges of the picture; slow with
            many words.
        logit_scale: factor on cosine similarities; None = the model's own.
        backend: "ort", "trt", or the engine of an open bundle, ready to use.
        device: "cpu", "cuda" or "cuda:N"; None = "cpu" for "ort" and "cuda" for "trt"; a ready
            engine has its own.
        batch_size: images or windows encoded at once.
        cache: whether to keep text features on disk for the next run.
        progress: called with (done, total) while thousands of prompts are encoded.
        tell: called with one line when the model must be exported first.

    Attributes:
        preset: its name, or None.
        row: the class list whose settings were taken from the preset; "" = its general ones.
        encoders: the model on its engine, which gives encoders of other sizes, too.
        protocol: the settings in use, given ones included.
        encoder: turns a picture into what `label` takes.

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
        preset: str | None = None,
        readout: str | None = None,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        denoise: float | None = None,
        probability: bool = False,
        templates: str | Sequence[str] | None = None,
        short_side: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        merge: str | None = None,
        refine: str | None = None,
        logit_scale: float | None = None,
        backend: str | Backend = "ort",
        device: str | None = None,
        batch_size: int = 1,
        cache: bool = True,
        progress: Callable[[int, int], None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        check_engine(backend, device)
        batch_size = check_batch_size(batch_size)
        choice = choose_protocol(preset, classes)
        self.preset, self.row = preset, choice.row
        protocol = settle(
            choice.protocol,
            readout=readout,
            background=background,
            threshold=threshold,
            denoise=denoise,
            templates=templates,
            short_side=short_side,
            window=window,
            stride=stride,
            merge=merge,
            refine=refine,
            logit_scale=logit_scale,
        )
        super().__init__(
            model,
            choice.classes,
            protocol=protocol,
            backend=backend,
            device=device,
            batch_size=batch_size,
            cache=cache,
            progress=progress,
            tell=tell,
        )
        self.probability = probability

    def __call__(self, image: Image | str | Path) -> Segmentation:
        """Segment one image: a path, or (H, W, 3) uint8 RGB."""
        return self.label(self.encoder(image))

    def segment(self, images: Sequence[Image | str | Path]) -> list[Segmentation]:
        """Segment several images, of any sizes.

        Raises:
            InputError: not a list, or an item cannot be read.
        """
        return list(self.stream(images))

    def stream(
        self,
        images: Iterable[Image | str | Path],
        *,
        every: int = 1,
        smooth: float = 0.0,
        adaptive: float | None = None,
    ) -> Generator[Segmentation]:
        """Segment images as they come, in order and in flat memory.

        Reading, encoding and labelling overlap: images are read in one thread and encoded in
        another, some batches ahead, while the caller works on a result. `close` waits for the
        image that is being read. On a GPU all of it but reading is done there; see
        docs/gpu.md for what is not.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays.
            every: segment each N-th image only, as for a video; the images between get the result
                of the one before, the very same object, if they have its size.
            smooth: weight of the past in an exponential average of the features, in [0, 1); it
                starts anew at scene cuts.
            adaptive: encode an image when what is new since the last encoded one, as shares of an
                image added up over all images since, exceeds this, in [0, 1). The others get its
                features, moved along with the picture, or, if nothing has changed, the result of
                the one before, the very same object. See `atas_deploy.runtime.adaptive`. None =
                every image is encoded.

        Raises:
            ConfigError: `every`, `smooth` or `adaptive` is out of range.
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
        check_level(adaptive)
        smoother = Smoother(smooth)
        if (gpu := self._on_gpu(smooth=smooth, adaptive=adaptive)) is not None:
            return gpu.results(images, every=every)
        return self._stream(images, every=every, smoother=smoother, adaptive=adaptive)

    def tinted_stream(
        self,
        frames: Iterable[Frame],
        *,
        tint: Tint | None,
        every: int = 1,
        smooth: float = 0.0,
        adaptive: float | None = None,
    ) -> Generator[Tinted]:
        """As `stream`, for frames of a video, each result with its overlay if the GPU made one."""
        if (gpu := self._on_gpu(smooth=smooth, adaptive=adaptive, tint=tint)) is not None:
            yield from gpu.tinted((frame.planes or frame.image for frame in frames), every=every)
            return
        images = (frame.image for frame in frames)
        results = self.stream(images, every=every, smooth=smooth, adaptive=adaptive)
        with closing(results):
            for result in results:
                yield result, None

    def _on_gpu(
        self, *, smooth: float, adaptive: float | None, tint: Tint | None = None
    ) -> DeviceStream | None:
        """The way on the GPU, if the backend is there and it does all that is asked for."""
        protocol, manifest = self.protocol, self.bundle.manifest
        beyond = protocol.denoise or protocol.refine != "none" or self.probability or smooth
        if self._gpu is None or beyond or self.encoder.windows is not None or adaptive is not None:
            return None
        return DeviceStream(
            self._gpu,
            self.encoder,
            width=manifest.embed_dim,
            cell=manifest.cell,
            words=lambda: self._words,
            threshold=protocol.threshold,
            tint=tint,
        )

    @property
    def on_gpu(self) -> bool:
        """Whether the engine is on a GPU, which then takes pictures from their upload on."""
        return self._gpu is not None

    @property
    def gpu_problem(self) -> str | None:
        """One sentence on why the GPU was slower than it could be; None while all is well."""
        return None if self._gpu is None else self._gpu.capture_problem

    @cached_property
    def _gpu(self) -> Tools | None:
        return open_tools(self.backend)

    def _stream(
        self,
        images: Iterable[Image | str | Path],
        *,
        every: int,
        smoother: Smoother,
        adaptive: float | None,
    ) -> Generator[Segmentation]:
        with closing(self.encoder.stream(images, every=every, adaptive=adaptive)) as pictures:
            for picture in pictures:
                if picture is not None:
                    smoothed = smoother(picture.dense)
                    result = self.label(replace(picture, dense=smoothed))
                yield result

    def label(
        self,
        picture: Encoded,
        *,
        threshold: float | None = None,
        denoise: float | None = None,
        refine: str | None = None,
    ) -> Segmentation:
        """Label a picture that `encoder` has encoded, also with other settings than those in use.

        Args:
            picture: what `self.encoder(image)` gave.
            threshold: as for the class; None = as in use, 0 = none.
            denoise: as for the class; None = as in use, 0 = none.
            refine: as for the class; None = as in use.

        Raises:
            ConfigError: an argument cannot be used.
        """
        words = self._words  # one list for a picture, even if another thread changes it
        protocol = settle(self.protocol, threshold=threshold, denoise=denoise, refine=refine)
        found = label_picture(picture, words, protocol, probability=self.probability)
        probability = found.probability if self.probability else None
        names = words.vocabulary.names
        return Segmentation(found.labels, names, found.scores, probability, picture.carried)
