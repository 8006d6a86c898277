"""A wrong graph never passes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from atas_deploy.backends.base import ImageFeatures
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.core.errors import ParityError
from atas_deploy.export import parity
from atas_deploy.export.bundle import Towers, prove_graphs
from atas_deploy.export.cases import Cases, image_batches, image_cases
from atas_deploy.export.parity import Comparison, Limits, TorchReference, check, compare


def damage(bundle: Bundle, graph: str, to: Path) -> Bundle:
    """A copy of the two graphs in which one bias of one is changed."""
    for name in (IMAGE_ENCODER, TEXT_ENCODER):
        proto = onnx.load(bundle.path / name)
        if name == graph:
            (tensor,) = (t for t in proto.graph.initializer if t.name.endswith("1.mlp.c_fc.bias"))
            values = numpy_helper.to_array(tensor).copy()
            values[0] += 0.5
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(proto, to / name)
    return Bundle(to, bundle.manifest)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            IMAGE_ENCODER,
            r"image encoder.*ort \(cpu\)\): output dense for input 1 x 64 x 64 x 3.*limit 0.0001",
        ),
        (TEXT_ENCODER, r"text encoder.*ort \(cpu\)\): output text for input 1 x \d.*limit 0.0001"),
    ],
)
def test_damaged_graph_is_found(
    bundle: Bundle, model: ClipModel, towers: Towers, tmp_path: Path, graph: str, reason: str
) -> None:
    """One wrong bias is named with output, input, metric and limit."""
    with pytest.raises(ParityError, match=reason):
        prove_graphs(damage(bundle, graph, tmp_path), model, towers)


def test_sound_graphs_pass_with_room(bundle: Bundle, model: ClipModel, towers: Towers) -> None:
    """Correct graphs stay far below the limits."""
    stages = prove_graphs(bundle, model, towers)
    assert [set(stage["worst"]) for stage in stages] == [
        {"image", "text"},
        {"dense", "image", "text"},
    ]
    for stage in stages:
        assert all(worst["max_abs"] < 1e-5 for worst in stage["worst"].values())


def test_reference_that_is_not_open_clip_is_found(model: ClipModel, towers: Towers) -> None:
    """The PyTorch modules themselves are compared with open_clip's functions."""

    class Off(TorchReference):
        def encode_images(self, images: np.ndarray) -> ImageFeatures:
            features = super().encode_images(images)
            return ImageFeatures(features.dense, features.image[..., ::-1])

    cases = Cases(images=image_batches((64, 64)), tokens=[])
    with pytest.raises(ParityError, match=r"against open_clip\): output image"):
        parity.prove_reference(Off(towers.image, towers.text), model.model, towers.image, cases)


@pytest.mark.parametrize(
    ("got", "metric"),
    [
        ([[1.0, 0.001]], "maximum difference"),
        ([[1.0, float("nan")]], "maximum difference nan"),
        ([[0.9, 0.0]], "maximum difference 0.1"),
    ],
)
def test_check_fails_on(got: list[list[float]], metric: str) -> None:
    """Differences, NaN and wrong lengths all fail."""
    comparison = compare("image", (1, 2), np.float32(got), np.float32([[1, 0]]))
    with pytest.raises(ParityError, match=metric):
        check(comparison, Limits(), stage="here")


def test_small_cosine_fails_within_the_difference() -> None:
    """Many small differences fail by their direction."""
    comparison = Comparison(
        output="dense", shape=(1,), max_abs=0.0, cosine_mean=1.0, cosine_min=0.9998
    )
    with pytest.raises(ParityError, match=r"smallest cosine 0\.999800, limit 0\.9999"):
        check(comparison, Limits(), stage="here")


def test_other_shape_fails() -> None:
    """A transposed output is not compared but refused."""
    with pytest.raises(ParityError, match=r"shape \[2, 3\], expected \[3, 2\]"):
        compare("text", (3,), np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32))


def test_comparison_measures_what_it_says() -> None:
    """Two vectors, one equal and one at 60 degrees."""
    a = np.float32([[1, 0], [1, 0]])
    b = np.float32([[1, 0], [0.5, 0.75**0.5]])
    comparison = compare("image", (2,), a, b)
    assert comparison.cosine_min == pytest.approx(0.5)
    assert comparison.cosine_mean == pytest.approx(0.75)
    assert comparison.max_abs == pytest.approx(0.75**0.5)


def test_cases_cover_what_matters() -> None:
    """Batches of 1 and 3; the trained size, others, and some that are not square."""
    photo = np.zeros((30, 40, 3), np.uint8)
    shapes = [b.shape for b in image_cases(trained_size=(64, 64), multiple=16)]
    assert {shape[0] for shape in shapes} == {1, 3}
    assert (1, 64, 64, 3) in shapes
    assert sum(h != w for _, h, w, _ in shapes) >= 4
    assert {(16, 80), (80, 16)} <= {shape[1:3] for shape in shapes}
    fine = [b.shape for b in image_cases(trained_size=(224, 224), multiple=1)]
    assert max(h * w for _, h, w, _ in fine) == 48 * 48
    with_photos = image_cases(trained_size=(64, 64), multiple=16, photos=[photo] * 4)
    assert any((batch == 0).all() and len(batch) == 4 for batch in with_photos)
