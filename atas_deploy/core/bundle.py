"""The bundle, format version 1: a folder that holds everything needed to run a model.

    manifest.json            what this module reads and writes
    image_encoder.onnx       images uint8 (B, H, W, 3) RGB -> dense (B, h, w, D), image (B, D)
    text_encoder.onnx        tokens int64 (N, L) -> text (N, D)
    *_encoder.onnx.data      weights of a graph: of the image encoder in float32, and of any that
                             are more than one ONNX file can hold
    image_encoder.cpu.onnx   optional: the image encoder for ONNX Runtime on the CPU, on the same
                             weights; earlier releases wrote none
    tokenizer/               merges.txt.gz: CLIP's byte-pair merges; or tokenizer.json and
                             settings.json: any other tokenizer, see core/hf_tokenizer.py
    parity.json              how close the graphs are to the PyTorch model, and on what
    reference.npz            inputs and PyTorch's features, to prove any backend by (core/proof.py);
                             earlier releases wrote none
    weights.safetensors      optional: open_clip state dict, to train on or to export again
    open_clip_config.json    optional: open_clip model config of those weights

All features are float32 and L2-normalised. H and W are multiples of the patch size P, h = H / P,
w = W / P (with a patch stride S: h = H / S, w = W / S); B, H, W, N and L are dynamic, but where
`full_rows` is set L is the context length.

    B images, N texts, L tokens, H W pixels, h w grid, P patch size, D embedding width
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from atas_deploy.core.errors import BundleError
from atas_deploy.core.hf_tokenizer import SETTINGS, HfSettings, HfTokenizer, Tokenizer
from atas_deploy.core.tokenizer import ClipTokenizer

FORMAT = "atas-deploy-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
IMAGE_ENCODER = "image_encoder.onnx"
TEXT_ENCODER = "text_encoder.onnx"
CPU_ENCODER = "image_encoder.cpu.onnx"
IMAGE_DATA = f"{IMAGE_ENCODER}.data"  # weights that several graphs share, or one file cannot hold
TEXT_DATA = f"{TEXT_ENCODER}.data"
MERGES = "tokenizer/merges.txt.gz"
HF_TOKENIZER = "tokenizer/tokenizer.json"
HF_SETTINGS = f"tokenizer/{SETTINGS}"
PARITY = "parity.json"
REFERENCE = "reference.npz"
WEIGHTS = "weights.safetensors"
MODEL_CONFIG = "open_clip_config.json"
EMBEDDED = Path(__file__).parents[1] / "bundles"  # those that ship inside the package
LICENSE_TEXTS = ("LICENSE*", "LICENCE*")  # patterns of the texts that go with weights
PRECISIONS = ("fp32", "fp16", "bf16")  # of the image encoder's arithmetic
REQUIRED = (IMAGE_ENCODER, TEXT_ENCODER, PARITY)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """SHA-256 and size in bytes of a file of the bundle."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a runtime must know about a model.

    Attributes:
        name: model name, as users type it.
        architecture: open_clip's name of the image tower's family or config.
        readout: how dense features are read: vanilla, maskclip, sclip, clearclip or naclip.
        patch_size: P in pixels.
        embed_dim: D.
        context_length: longest token sequence.
        full_rows: token rows must have that length, because the text tower reads padding too.
        logit_scale: factor on cosine similarities before a softmax.
        logit_bias: SigLIP's bias, else None.
        mean, std: pixel normalisation in [0, 1] RGB; it happens inside the graph (a record).
        positions: how position embeddings are resized inside the graph (a record).
        stride: pixels from one cell of the grid to the next; None = the patch size.
        size_multiple: H and W are multiples of it; None = the stride.
        attention_window: side of the windows that attention keeps to, in cells; None = no windows.
        short_side: recommended shorter side of the encoder's input in pixels.
        precision: arithmetic of the image encoder, one of PRECISIONS.
        weight_storage: dtype in which the graphs keep their weights.
        opset: ONNX operator set.
        license: SPDX expression of the weights.
        tools: versions of the tools that wrote the bundle.
        provenance: where the weights come from.
        files: record of every other file, by path relative to the bundle.
    """

    name: str
    architecture: str
    readout: str
    patch_size: int
    embed_dim: int
    context_length: int
    logit_scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    opset: int
    license: str
    full_rows: bool = False
    logit_bias: float | None = None
    positions: str = "bicubic, align_corners false, no antialias"
    stride: int | None = None
    size_multiple: int | None = None
    attention_window: int | None = None
    short_side: int = 336
    precision: str = "fp32"
    weight_storage: str = "fp32"
    tools: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no graph can have.

        Raises:
            ValueError: naming the field.
        """
        for name in ("patch_size", "embed_dim", "context_length", "short_side"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, expected a whole number above 0")
        for name in ("stride", "size_multiple", "attention_window"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}, expected a whole number above 0 or null")
        if not isinstance(self.logit_scale, int | float) or not self.logit_scale > 0:
            raise ValueError(f"logit_scale is {self.logit_scale!r}, expected a number above 0")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}, expected {', '.join(PRECISIONS)}")

    @property
    def cell(self) -> int:
        """Side of a cell of the grid, in pixels."""
        return self.stride or self.patch_size

    @property
    def multiple(self) -> int:
        """Of this, H and W of images are multiples."""
        return self.size_multiple or self.cell

    def to_json(self) -> str:
        """The text of manifest.json."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps(head | asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: Path) -> "Manifest":
        """Parse manifest.json.

        Raises:
            BundleError: not a manifest, of another format version, or incomplete.
        """
        try:
            data = json.loads(text)
            kind, version = data.pop("format"), data.pop("format_version")
        except (ValueError, AttributeError, KeyError, TypeError) as exc:
            raise BundleError(f"{where} is not a bundle manifest; export the model again.") from exc
        if kind != FORMAT or version != FORMAT_VERSION:
            newer = isinstance(version, int) and version > FORMAT_VERSION
            cure = "upgrade atas-deploy" if kind == FORMAT and newer else "export the model again"
            raise BundleError(
                f"{where} has format {kind!r} version {version!r}, but this release reads "
                f"{FORMAT!r} version {FORMAT_VERSION}; {cure}."
            )
        try:
            data["files"] = {
                name: FileRecord(**_known(FileRecord, record))
                for name, record in data["files"].items()
            }
            data["mean"], data["std"] = tuple(data["mean"]), tuple(data["std"])
            return cls(**_known(cls, data))
        except (TypeError, KeyError, AttributeError, ValueError) as exc:
            raise BundleError(f"{where} cannot be used ({exc}); export the model again.") from exc


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its folder and its manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> "Bundle":
        """Open a bundle and check that its files are there with the sizes recorded.

        Raises:
            BundleError: no bundle there, a file is missing or of another size.
        """
        path = Path(path)
        manifest_path = path / MANIFEST
        try:
            text = manifest_path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise BundleError(
                f"{path} is not a model bundle (no readable {MANIFEST}); "
                "give a folder written by `atas-deploy export`."
            ) from exc
        bundle = cls(path, Manifest.from_json(text, where=manifest_path))
        bundle._check_sizes()
        return bundle

    def _check_sizes(self) -> None:
        records = self.manifest.files
        for name in sorted({*REQUIRED, *self._tokenizer_files, *records}):
            file = self.path / name
            size = file.stat().st_size if file.is_file() else None
            if name not in records or size != records[name].size:
                expected = f"{records[name].size} bytes" if name in records else "a record of it"
                found = "is missing" if size is None else f"has {size} bytes"
                raise BundleError(
                    f"The bundle {self.path} is damaged: {name} {found}, expected {expected}; "
                    "export or install it again."
                )

    def verify(self, *names: str) -> None:
        """Compare the SHA-256 of files with the manifest: of those named, else of every one.

        Raises:
            BundleError: a file was changed after the bundle was written.
        """
        self._check_sizes()
        for name in names or self.manifest.files:
            if sha256(self.path / name) != self.manifest.files[name].sha256:
                raise BundleError(
                    f"The bundle {self.path} is damaged: {name} has changed since it was written; "
                    "export or install it again."
                )

    @property
    def is_embedded(self) -> bool:
        """Whether it ships inside the package, into which nothing is written."""
        return self.path.resolve().parent == EMBEDDED.resolve()

    @property
    def fingerprint(self) -> str:
        """Hash over graphs and tokenizer: equal fingerprints give equal features."""
        return self._hash(IMAGE_ENCODER, CPU_ENCODER, IMAGE_DATA, TEXT_ENCODER, TEXT_DATA)

    @property
    def text_fingerprint(self) -> str:
        """Hash over text encoder and tokenizer: equal ones give equal text features.

        Bundles of one model with different read-outs have it in common.
        """
        return self._hash(TEXT_ENCODER, TEXT_DATA)

    def _hash(self, *graphs: str) -> str:
        records = self.manifest.files
        names = [name for name in (*graphs, *self._tokenizer_files) if name in records]
        listing = "\n".join(f"{records[name].sha256}  {name}" for name in names)
        return hashlib.sha256(listing.encode()).hexdigest()

    @property
    def _tokenizer_files(self) -> tuple[str, ...]:
        """The files that make up the tokenizer."""
        foreign = HF_TOKENIZER in self.manifest.files
        return (HF_TOKENIZER, HF_SETTINGS) if foreign else (MERGES,)

    @property
    def image_size(self) -> int:
        """Side of the square pictures that the class token was trained on, in pixels.

        The shorter one where they were no squares; the recommended short side if no configuration
        lies beside the manifest.
        """
        size = self._config("model_cfg").get("vision_cfg", {}).get("image_size")
        return int(np.min(size)) if size else self.manifest.short_side

    @property
    def resize_mode(self) -> str:
        """How those pictures were fitted, by open_clip's names: shortest, longest or squash."""
        return str(self._config("preprocess_cfg").get("resize_mode") or "shortest")

    def _config(self, part: str) -> Mapping[str, Any]:
        """A part of open_clip's configuration; {} without one."""
        try:
            config = json.loads((self.path / MODEL_CONFIG).read_text(encoding="utf-8"))
            return dict(config[part])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise BundleError(
                f"The bundle {self.path} is damaged: {MODEL_CONFIG} has no usable {part}; export "
                "or install it again."
            ) from exc

    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer.

        Raises:
            BundleError: its files are damaged.
            BackendUnavailableError: it needs a package that is not installed.
        """
        length, first = self.manifest.context_length, self.path / self._tokenizer_files[0]
        if first == self.path / MERGES:
            full = self.manifest.full_rows
            return ClipTokenizer.from_file(first, context_length=length, full_rows=full)
        settings = HfSettings.from_file(self.path / HF_SETTINGS)
        return HfTokenizer(first, settings, context_length=length)


def _known(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """The items of a record that a dataclass has fields for: later releases may write more."""
    names = {field.name for field in fields(kind)}
    return {key: value for key, value in record.items() if key in names}


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        BundleError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        raise BundleError(f"Cannot read {path} ({exc.strerror}); check its permissions.") from exc


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Records of all files below a folder but the manifest, for `Manifest.files`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {
        p.relative_to(folder).as_posix(): FileRecord(sha256=sha256(p), size=p.stat().st_size)
        for p in files
    }
