"""A reference is read as it was written, and no engine passes it with wrong features."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from atas_deploy.core.bundle import Bundle, FileRecord, Manifest
from atas_deploy.core.comparison import LIMITS
from atas_deploy.core.errors import BundleError, ParityError
from atas_deploy.core.proof import (
    Reference,
    prove_backend,
    read_reference,
    write_reference,
)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random unit vectors along the last axis."""
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def reference() -> Reference:
    """Two batches of images of a grid of 16 pixels a cell, one of texts."""
    rng = np.random.default_rng(0)
    shapes = [(1, 32, 48, 3), (3, 16, 16, 3)]
    return Reference(
        images=[rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes],
        dense=[unit(rng, b, h // 16, w // 16, 8) for b, h, w, _ in shapes],
        image=[unit(rng, b, 8) for b, *_ in shapes],
        tokens=[np.int64([[1, 2, 3], [1, 3, 0]])],
        texts=[unit(rng, 2, 8)],
        names=["dog", "naïve café"],
        queries=unit(rng, 2, 8),
    )


@dataclass
class Recorded:
    """An engine that gives the features of a reference back."""

    reference: Reference
    name: str = "recorded"
    device: str = "nowhere"

    def encode_images(self, images: np.ndarray) -> SimpleNamespace:
        """The features of the batch of this shape."""
        shapes = [batch.shape for batch in self.reference.images]
        index = shapes.index(images.shape)
        features = self.reference.dense[index], self.reference.image[index]
        return SimpleNamespace(dense=features[0], image=features[1])

    def encode_texts(self, tokens: np.ndarray) -> np.ndarray:
        """The features of the only batch."""
        assert tokens.shape == (2, 3)
        return self.reference.texts[0]


def make_bundle(folder: Path, *, files: tuple[str, ...] = ("reference.npz",)) -> Bundle:
    """A bundle of which only its reference matters."""
    records = {name: FileRecord(sha256="", size=0) for name in files}
    manifest = Manifest(
        name="m",
        architecture="a",
        readout="sclip",
        patch_size=16,
        embed_dim=8,
        context_length=3,
        logit_scale=1.0,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        opset=20,
        license="MIT",
        files=records,
    )
    return Bundle(folder, manifest)


def assert_same(got: Reference, expected: Reference, *, tolerance: float) -> None:
    """Equal inputs and names, features up to a tolerance, all float32."""
    for kind in ("images", "tokens", "dense", "image", "texts"):
        pairs = list(zip(getattr(got, kind), getattr(expected, kind), strict=True))
        for mine, theirs in pairs:
            assert mine.dtype == theirs.dtype
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)
    assert list(got.names) == list(expected.names)
    np.testing.assert_array_equal(got.queries, expected.queries)


def test_reference_survives_the_disk(reference: Reference, tmp_path: Path) -> None:
    """Bit for bit in float32; in float16 up to its rounding, and about half as large."""
    write_reference(tmp_path / "reference.npz", reference)
    assert_same(read_reference(make_bundle(tmp_path)), reference, tolerance=0)
    first = (tmp_path / "reference.npz").read_bytes()
    write_reference(tmp_path / "reference.npz", reference)
    assert (tmp_path / "reference.npz").read_bytes() == first
    write_reference(tmp_path / "reference.npz", reference, features="float16")
    assert_same(read_reference(make_bundle(tmp_path)), reference, tolerance=2.0**-11)
    assert [path.name for path in tmp_path.iterdir()] == ["reference.npz"]


def test_bundles_of_earlier_releases_have_none(tmp_path: Path) -> None:
    """One sentence and the cure."""
    with pytest.raises(BundleError, match=r"no reference\.npz.*export the model again"):
        read_reference(make_bundle(tmp_path, files=()))


@pytest.mark.parametrize(
    "fault", ["gone", "empty", "cut", "byte", "text", "array", "pickle", "less", "width"]
)
def test_damaged_references_are_one_sentence(
    reference: Reference, tmp_path: Path, fault: str
) -> None:
    """Whatever is wrong with the file; nothing in it is ever executed."""
    path = tmp_path / "reference.npz"
    write_reference(path, reference)
    whole = path.read_bytes()
    middle = len(whole) // 2
    contents = {
        "empty": b"",
        "cut": whole[:middle],
        "byte": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "text": b"not an archive",
    }
    if fault == "gone":
        path.unlink()
    elif fault == "pickle":
        np.savez(path, names=np.array([{}], dtype=object))
    elif fault == "array":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif fault == "less":
        write_reference(path, replace(reference, dense=reference.dense[:1]))
    elif fault == "width":
        write_reference(path, replace(reference, queries=reference.queries[:, :3]))
    else:
        path.write_bytes(contents[fault])
    with pytest.raises(BundleError, match="cannot be read") as caught:
        read_reference(make_bundle(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", LIMITS)
def test_equal_features_pass(reference: Reference, precision: str) -> None:
    """One comparison for each output and batch; texts have no classes."""
    found = prove_backend(Recorded(reference), reference, limits=LIMITS[precision])
    assert [(c.output, c.shape[0]) for c in found] == [
        ("dense", 1),
        ("image", 1),
        ("dense", 3),
        ("image", 3),
        ("text", 2),
    ]
    assert {c.agreement for c in found} == {1.0, None}


def test_wrong_features_fail(reference: Reference) -> None:
    """Of each output; the engine and its device are named."""
    for kind, told in {"dense": "dense", "image": "image", "texts": "text"}.items():
        off = replace(reference, **{kind: [-batch for batch in getattr(reference, kind)]})
        with pytest.raises(ParityError, match=rf"\(recorded, nowhere\): output {told} for input"):
            prove_backend(Recorded(off), reference, limits=LIMITS["bf16"])


def test_texts_have_the_limits_of_float32(reference: Reference) -> None:
    """An error that bf16 is allowed for images fails for texts."""
    rng = np.random.default_rng(1)
    noisy = [batch + 2e-3 * rng.standard_normal(batch.shape) for batch in reference.dense]
    images = replace(reference, dense=[batch.astype(np.float32) for batch in noisy])
    prove_backend(Recorded(images), reference, limits=LIMITS["bf16"])
    texts = replace(reference, texts=[reference.texts[0] + np.float32(2e-3)])
    with pytest.raises(ParityError, match=r"output text.*limit 0\.0001"):
        prove_backend(Recorded(texts), reference, limits=LIMITS["bf16"])


def test_sizes_that_do_not_fit_are_left_out(reference: Reference) -> None:
    """But a proof on no images at all is none."""
    limits = LIMITS["fp16"]
    found = prove_backend(
        Recorded(reference), reference, limits=limits, fits=lambda shape: shape[0] > 1
    )
    assert {c.shape for c in found} == {(3, 16, 16, 3), (2, 3)}
    with pytest.raises(ParityError, match=r"none of the reference's inputs \(1 x 32 x 48 x 3, 3 x"):
        prove_backend(Recorded(reference), reference, limits=limits, fits=lambda shape: False)
