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
from atas_deploy.export.cases import (
    Cases,
    class_cases,
    image_batches,
    image_cases,
    sample_photos,
    stored_cases,
)
from atas_deploy.export.parity import TorchReference
from atas_deploy.export.stages import prove_graphs
from atas_deploy.export.towers import Towers


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
            r"image encoder.*as written, onnxruntime [\d.]+, cpu\): output dense for input 1 x "
            r"64 x 64 x 3.*limit 0.0001; nothing was written",
        ),
        (TEXT_ENCODER, r"text encoder.*cpu\): output text for input 1 x \d.*limit 0.0001"),
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
    stages, _ = prove_graphs(bundle, model, towers)
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


def test_cases_cover_what_matters() -> None:
    """Batches of 1, 3 and 8; the trained size, others, and some that are not square."""
    photo = np.zeros((30, 40, 3), np.uint8)
    shapes = [b.shape for b in image_cases(trained_size=(64, 64), multiple=16)]
    assert {shape[0] for shape in shapes} == {1, 3, 8}
    assert (1, 64, 64, 3) in shapes
    assert sum(h != w for _, h, w, _ in shapes) >= 4
    assert {(16, 80), (80, 16)} <= {shape[1:3] for shape in shapes}
    fine = [b.shape for b in image_cases(trained_size=(224, 224), multiple=1)]
    assert max(h * w for _, h, w, _ in fine) == 48 * 48
    with_photos = image_cases(trained_size=(64, 64), multiple=16, photos=[photo] * 4)
    assert any((batch == 0).all() and len(batch) == 4 for batch in with_photos)


def test_stored_cases_are_few_and_small() -> None:
    """The trained and the recommended size, a batch, a strip, and those asked for, each once."""
    sizes = [(2, 32, 32), (1, 64, 64)]
    cases = stored_cases(trained_size=(64, 64), multiple=16, short_side=100, sizes=sizes)
    shapes = [batch.shape[:3] for batch in cases]
    assert shapes == [(1, 64, 64), (1, 96, 96), (3, 16, 48), (1, 16, 128), (2, 32, 32)]
    assert all(batch.dtype == np.uint8 for batch in cases)
    _, _, mixed, *_ = cases
    spread = [len(np.unique(image)) for image in mixed]
    assert spread[2] <= 3 < spread[0]


def test_classes_have_tokens(model: ClipModel) -> None:
    """One row for each class of COCO panoptic."""
    names, tokens = class_cases(model.tokenizer())
    assert (len(names), len(tokens)) == (133, 133)
    assert names[:2] == ["person", "bicycle"]


def test_sample_photos_are_pictures() -> None:
    """Those of scikit-learn, found without importing it."""
    pytest.importorskip("sklearn")
    assert [path.name for path in sample_photos()] == ["china.jpg", "flower.jpg"]
