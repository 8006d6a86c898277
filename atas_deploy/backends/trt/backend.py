"""TensorRT on a GPU: an engine of a bundle for images, ONNX Runtime for its words.

The project has not run this on a GPU yet. Its tests run it on a model of CUDA, and an engine is
compared with PyTorch's features when it is loaded on a card for the first time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import DeviceFeatures, ImageFeatures, check_images
from atas_deploy.backends.driver import Driver
from atas_deploy.backends.gpu import gpu_index, load_cupy
from atas_deploy.backends.ort import OrtTextEncoder
from atas_deploy.backends.trt.batches import takes_size
from atas_deploy.backends.trt.cards import Card, find_card
from atas_deploy.backends.trt.engines import EngineRecord, load_engine, quarantine, set_proven
from atas_deploy.backends.trt.execution import Engine
from atas_deploy.backends.trt.flavour import RTX, Flavour, load_flavour
from atas_deploy.backends.trt.key import key_here
from atas_deploy.backends.trt.proving import prove_engine
from atas_deploy.backends.trt.session import Session
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.comparison import LIMITS, report
from atas_deploy.core.errors import (
    AtasError,
    BackendError,
    BackendUnavailableError,
    ConfigError,
    OutputError,
    ParityError,
    first_sentence,
)
from atas_deploy.core.proof import read_reference

_CURE = "use a smaller --batch-size if memory ran out, or look at `nvidia-smi`"


class TrtBackend:
    """A bundle's engine in TensorRT.

    Any thread may call it: work is enqueued by one at a time, on one stream, and nobody holds the
    others up while he waits for features. The device is made current for the calling thread and the
    one before is put back; CUDA's primary context is used, as CuPy and ONNX Runtime do.

    Args:
        bundle: the model, with an engine for this card.
        device: "cuda" or "cuda:N".
        flavour: "tensorrt" or "tensorrt-rtx"; None = the one that is installed and has an engine,
            `tensorrt` first.

    Attributes:
        name: "trt".
        device: as given.
        driver: of that GPU, with the stream that all work is enqueued on.

    Raises:
        BackendUnavailableError: TensorRT, CuPy, the GPU or an engine for it is missing; there is no
            fallback.
        BackendError: the engine cannot be loaded.
        BundleError: the engine is damaged, or there is nothing to prove it by.
        ConfigError: the device is no GPU, or there is no such flavour.
        ParityError: the engine does not compute what the PyTorch model does; it is in quarantine.
    """

    name = "trt"

    def __init__(self, bundle: Bundle, *, device: str = "cuda", flavour: str | None = None) -> None:
        self.device, self._bundle = device, bundle
        card = _card(device)
        self._texts = OrtTextEncoder(bundle)
        self._lock, self.driver = Lock(), Driver(device)
        found, plan, record = _find_engine(bundle, flavour, card)
        stripped = bundle if record.key.options.get("strip_weights") else None
        with self._working(f"load the engine {record.name}"):
            engine = Engine(plan, flavour=found, weights=stripped)
            self._session = Session(engine, self.driver)
        self._profiles = engine.profiles
        self._forget = finalize(self, _forget, self._session, self.driver)
        if not _is_proven(record, card):
            self._prove(record, card)

    @staticmethod
    def check_device(device: str) -> None:
        """Refuse a device that is not there; this needs no bundle.

        Raises:
            BackendUnavailableError: TensorRT, CuPy or the GPU is missing.
            ConfigError: the device is no GPU.
        """
        if device.partition(":")[0] == "cpu":
            raise ConfigError(
                f'TensorRT runs on NVIDIA GPUs, got the device "{device}"; give --device cuda or '
                "cuda:N, or use --backend ort."
            )
        _card(device)
        load_flavour()
        load_cupy(device)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the engine takes images of a shape (B, H, W, 3), in any number."""
        batch, height, width = shape[:3]
        return any(takes_size(profile, (batch, height, width)) for profile in self._profiles)

    @property
    def capture_problem(self) -> str | None:
        """One sentence on why there are no CUDA graphs; None while there are."""
        return self._session.capture_problem

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images; H, W are multiples of the manifest's.

        Raises:
            InputError: not such images, or of a size that no profile of the engine takes.
            BackendError: TensorRT fails, or memory runs out.
        """
        return self._fetch(self.encode_on_device(images))

    def encode_on_device(self, images: npt.NDArray[np.uint8]) -> DeviceFeatures:
        """As `encode_images`, without waiting for the GPU or copying features from it."""
        return self._encode(images)

    @contextmanager
    def enqueuing(self) -> Iterator[None]:
        """The stream for oneself: no other thread enqueues work of the backend meanwhile.

        Raises:
            BackendError: the backend was closed.
        """
        with self._lock, self.driver.active():
            if not self._forget.alive:
                raise BackendError("The backend was closed; open the bundle again.")
            yield

    def encode_into(self, images: Any, dense: Any) -> None:
        """As `DeviceBackend` has it.

        Raises:
            InputError: images of a size that no profile of the engine takes.
            BackendError: TensorRT fails.
        """
        with _translated(f"encode images of shape {images.shape}"):
            self._session.encode_into(images, dense)

    def repeat_encoding(self, images: Any, dense: Any) -> Callable[[], None] | None:
        """As `DeviceBackend` has it: contexts for this memory alone.

        None as well if the engine takes the batch in parts that must be filled up.
        """
        with _translated(f"encode images of shape {images.shape}"):
            return self._session.repeat_encoding(images, dense)

    def encode_in_profile(self, images: npt.NDArray[np.uint8], profile: int) -> ImageFeatures:
        """As `encode_images`, with the profile of that number instead of the best one."""
        return self._fetch(self._encode(images, profile=profile))

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised, on the CPU."""
        return self._texts.encode_texts(tokens)

    def close(self) -> None:
        """Wait for all work and free the GPU's memory; features that were given out stay.

        It happens by itself when nothing refers to the backend any more.
        """
        with self._lock, self._working("close the engine"):
            if self._forget.detach():
                self._session.close()

    def _encode(
        self, images: npt.NDArray[np.uint8], *, profile: int | None = None
    ) -> DeviceFeatures:
        check_images(images, multiple=self._bundle.manifest.multiple)
        with _translated(f"encode images of shape {images.shape}"), self.enqueuing():
            return self._session.encode(images, profile=profile)

    def _fetch(self, features: DeviceFeatures) -> ImageFeatures:
        """Copy features to the host; what fails on a GPU is told here.

        The stream is not made current: the copy would wait for what others have enqueued since.
        """
        with _translated("compute features"):
            return features.to_host()

    def _prove(self, record: EngineRecord, card: Card) -> None:
        """Compare the engine with PyTorch's features, and record what came of it."""
        limits = LIMITS[self._bundle.manifest.precision]
        command = f"`atas-deploy engine {self._bundle.path} --force`"
        cure = f"the engine was put in quarantine: build it again with {command}"
        try:
            reference = read_reference(self._bundle)
            found = prove_engine(self, reference, profiles=self._profiles, limits=limits, cure=cure)
        except AtasError as exc:
            with suppress(BackendError):  # of a GPU that has failed
                self.close()
            if isinstance(exc, ParityError):
                with suppress(OutputError):  # it is refused in any case
                    quarantine(self._bundle, record, str(exc).removesuffix(f"; {cure}."))
            raise
        proof = {"card": asdict(card), **report(f"trt, {record.name}", found, limits)}
        with suppress(OutputError):  # in a folder that cannot be written, each load proves anew
            set_proven(self._bundle, record, proof)

    @contextmanager
    def _working(self, action: str) -> Iterator[None]:
        """Work on the GPU and its stream."""
        with _translated(action), self.driver.active():
            yield


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """Turn the errors of CuPy and of TensorRT's bindings, which share no base class, into ours."""
    try:
        yield
    except AtasError:
        raise
    except Exception as exc:
        reason = first_sentence(exc)
        raise BackendError(f"TensorRT could not {action}: {reason}; {_CURE}.") from exc


def _forget(session: Session, driver: Driver) -> None:
    """Close what nobody closed; an error would reach nobody."""
    with suppress(Exception), driver.active():
        session.close()


def _card(device: str) -> Card:
    """The GPU of a name.

    Raises:
        BackendUnavailableError: there is none.
        ConfigError: it is no GPU's name.
    """
    card = find_card(gpu_index(device))
    if card is None:
        raise BackendUnavailableError(
            f'TensorRT needs an NVIDIA GPU, and there is no "{device}" here; check the driver with '
            "`nvidia-smi`, or use --backend ort --device cpu."
        )
    return card


def _find_engine(
    bundle: Bundle, flavour: str | None, card: Card
) -> tuple[Flavour, bytes, EngineRecord]:
    """The engine for a card, with the TensorRT that built it.

    Raises:
        BackendUnavailableError: there is none.
        BundleError: it is damaged.
    """
    first = load_flavour(flavour)
    try:
        return first, *load_engine(bundle, key_here(bundle, first, card))
    except BackendUnavailableError:
        if flavour is None and first.name != RTX:
            with suppress(BackendUnavailableError):
                second = load_flavour(RTX)
                return second, *load_engine(bundle, key_here(bundle, second, card))
        raise


def _is_proven(record: EngineRecord, card: Card) -> bool:
    """Whether an engine was proved on such a card: those for several cards are built on none."""
    return record.proven and (record.proof or {}).get("card") == asdict(card)
