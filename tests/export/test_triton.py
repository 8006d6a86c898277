"""Model repositories for Triton: configurations by its schema, models by its rules.

No Triton runs here. `serve` stands for what its documentation promises: shapes and types by the
configuration, requests put together along the first axis, the model in ONNX Runtime.
"""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.trt.engines import save_engine, set_proven
from atas_deploy.backends.trt.key import EngineKey, graph_hash
from atas_deploy.backends.trt.profiles import Profile, parse_profile
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError, OutputError
from atas_deploy.export.triton import write_repository
from atas_deploy.export.with_head import add_similarity
from atas_deploy.export.words import write_words
from atas_deploy.models import open_model
from atas_deploy.runtime.segment import Segmenter

# The part of Triton's model_config.proto that our configurations use: names, numbers and types of
# the fields as in triton-inference-server/common. Protobuf refuses whatever is not declared here.
Field = descriptor_pb2.FieldDescriptorProto
DATA_TYPES = {"INVALID": 0, "UINT8": 2, "INT64": 9, "FP16": 10, "FP32": 11, "BF16": 14}
KINDS = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3}
# message: field: (number, type or name of a message or enum, repeated)
MESSAGES: dict[str, dict[str, tuple[int, Any, bool]]] = {
    "ModelInput": {
        "name": (1, Field.TYPE_STRING, False),
        "data_type": (2, "DataType", False),
        "dims": (4, Field.TYPE_INT64, True),
    },
    "ModelOutput": {
        "name": (1, Field.TYPE_STRING, False),
        "data_type": (2, "DataType", False),
        "dims": (3, Field.TYPE_INT64, True),
    },
    "ModelInstanceGroup": {
        "name": (1, Field.TYPE_STRING, False),
        "count": (2, Field.TYPE_INT32, False),
        "gpus": (3, Field.TYPE_INT32, True),
        "kind": (4, "ModelInstanceGroup.Kind", False),
        "profile": (5, Field.TYPE_STRING, True),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, Field.TYPE_INT32, True),
        "max_queue_delay_microseconds": (2, Field.TYPE_UINT64, False),
    },
    "ModelConfig": {
        "name": (1, Field.TYPE_STRING, False),
        "platform": (2, Field.TYPE_STRING, False),
        "max_batch_size": (4, Field.TYPE_INT32, False),
        "input": (5, "ModelInput", True),
        "output": (6, "ModelOutput", True),
        "instance_group": (7, "ModelInstanceGroup", True),
        "default_model_filename": (8, Field.TYPE_STRING, False),
        "dynamic_batching": (11, "ModelDynamicBatching", False),
        "backend": (17, Field.TYPE_STRING, False),
    },
}
ENUMS = ("DataType", "ModelInstanceGroup.Kind")


def schema() -> descriptor_pb2.FileDescriptorProto:
    """The declarations as protobuf's compiler would give them."""
    file = descriptor_pb2.FileDescriptorProto(
        name="model_config.proto", package="inference", syntax="proto3"
    )
    _add_enum(file.enum_type, "DataType", {f"TYPE_{k}": v for k, v in DATA_TYPES.items()})
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == "ModelInstanceGroup":
            _add_enum(message.enum_type, "Kind", KINDS)
        for field, (number, kind, repeated) in fields.items():
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type = Field.TYPE_ENUM if kind in ENUMS else Field.TYPE_MESSAGE
                added.type_name = f".inference.{kind}"
            else:
                added.type = kind
    return file


def _add_enum(where: Any, name: str, values: dict[str, int]) -> None:
    enum = where.add(name=name)
    for value, number in values.items():
        enum.value.add(name=value, number=number)


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(schema())
ModelConfig: Any = message_factory.GetMessageClass(
    _POOL.FindMessageTypeByName("inference.ModelConfig")
)


def parse(text: str) -> Any:
    """A ModelConfig of its text form; ParseError for what the schema does not have."""
    return text_format.Parse(text, ModelConfig())


TYPES = {"TYPE_UINT8": "uint8", "TYPE_INT64": "int64", "TYPE_FP32": "float32"}


@pytest.fixture(scope="module")
def headed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle's files with a similarity head; tests must not change it."""
    folder = tmp_path_factory.mktemp("headed")
    for name in ("image_encoder.onnx", "image_encoder.onnx.data", "text_encoder.onnx"):
        (folder / name).write_bytes((bundle.path / name).read_bytes())
    copied = Bundle(folder, bundle.manifest)
    add_similarity(copied)
    return copied


@pytest.fixture(scope="module", params=[0, 4], ids=["plain", "batched"])
def repository(
    request: pytest.FixtureRequest, headed: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A repository in each layout."""
    out = tmp_path_factory.mktemp("triton") / "models"
    names = write_repository(headed, out, max_batch_size=request.param)
    assert names == ("image_encoder", "text_encoder", "similarity")
    return out


def config_of(model: Path) -> Any:
    """The configuration of a model, parsed by the schema."""
    return parse((model / "config.pbtxt").read_text(encoding="utf-8"))


def check_tensor(tensor: Any, array: np.ndarray, *, batch: int) -> None:
    """Refuse what Triton would refuse for this input or output."""
    kind = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type
    assert TYPES[kind.values_by_number[tensor.data_type].name] == array.dtype
    dims = list(tensor.dims)
    if batch:
        assert 1 <= array.shape[0] <= batch, tensor.name
    shape = array.shape[1:] if batch else array.shape
    assert len(shape) == len(dims), tensor.name
    assert all(want in (-1, got) for want, got in zip(dims, shape, strict=True)), tensor.name


def serve(model: Path, *requests: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Answers to requests, put together along the first axis as the dynamic batcher does."""
    config = config_of(model)
    batch = config.max_batch_size
    assert len(requests) == 1 or batch
    for request in requests:
        assert request.keys() == {tensor.name for tensor in config.input}
        for tensor in config.input:
            check_tensor(tensor, request[tensor.name], batch=batch)
    feed = {name: np.concatenate([r[name] for r in requests]) for name in requests[0]}
    path = model / "1" / config.default_model_filename
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in config.output]
    outputs = dict(zip(names, session.run(names, feed), strict=True))
    for tensor in config.output:
        check_tensor(tensor, outputs[tensor.name], batch=batch)
    if not batch:
        return [outputs]
    ends = np.cumsum([len(next(iter(request.values()))) for request in requests])[:-1]
    parts = {name: np.split(array, ends) for name, array in outputs.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(requests))]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded pictures."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_configurations_say_what_the_folders_hold(repository: Path) -> None:
    """Names, backends and files fit; nothing is there that the schema does not know."""
    for model in repository.iterdir():
        config = config_of(model)
        assert config.name == model.name
        assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")
        weights = {"image_encoder.onnx.data"} if model.name == "image_encoder" else set()
        files = {path.name for path in (model / "1").iterdir()}
        assert files == {config.default_model_filename} | weights
        assert len(config.instance_group) == config.instance_group[0].count == 1
        assert config.HasField("dynamic_batching") == (config.max_batch_size > 0)
    assert config_of(repository / "text_encoder").instance_group[0].kind == 2  # KIND_CPU
    assert config_of(repository / "image_encoder").instance_group[0].kind == 0  # KIND_AUTO


def test_schema_refuses_mistakes(repository: Path) -> None:
    """The parser that checks the configurations can say no."""
    text = (repository / "image_encoder/config.pbtxt").read_text()
    for old, new in (("max_batch_size", "batch_size"), ("TYPE_UINT8", "TYPE_BYTE"), ("[ {", "[ [")):
        with pytest.raises(text_format.ParseError):
            parse(text.replace(old, new))


def test_served_features_are_those_of_the_bundle(repository: Path, headed: Bundle) -> None:
    """Images of several sizes and words go through as they do in our own runtime."""
    backend = OrtBackend(headed)
    for shape in ((1, 64, 64, 3), (3, 32, 80, 3)):
        expected = backend.encode_images(noise(*shape))
        (got,) = serve(repository / "image_encoder", {"images": noise(*shape)})
        np.testing.assert_allclose(got["dense"], expected.dense, rtol=0, atol=1e-5)
        np.testing.assert_allclose(got["image"], expected.image, rtol=0, atol=1e-5)
    tokens = np.array([[812, 5, 6, 813], [812, 7, 813, 0]])
    (got,) = serve(repository / "text_encoder", {"tokens": tokens})
    np.testing.assert_allclose(got["text"], backend.encode_texts(tokens), rtol=0, atol=1e-5)


def test_requests_with_words_of_their_own_are_put_together(headed: Bundle, tmp_path: Path) -> None:
    """In the batched layout two users' words do not mix: each gets what it would get alone."""
    write_repository(headed, tmp_path / "plain")
    write_repository(headed, tmp_path / "batched", max_batch_size=2)
    text = np.random.default_rng(1).normal(size=(2, 1, 3, 24)).astype(np.float32)
    images = [noise(1, 32, 48, 3, seed=seed) for seed in range(2)]
    requests = [{"images": images[i], "text": text[i]} for i in range(2)]
    answers = serve(tmp_path / "batched/similarity", *requests)
    for image, words, answer in zip(images, text, answers, strict=True):
        (alone,) = serve(tmp_path / "plain/similarity", {"images": image, "text": words[0]})
        np.testing.assert_allclose(answer["logits"], alone["logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(answer["image_logits"], alone["image_logits"], atol=1e-4)


def test_bf16_asks_for_a_gpu(headed: Bundle, tmp_path: Path) -> None:
    """ONNX Runtime's CPU cannot run it; words stay on the CPU."""
    write_repository(
        Bundle(headed.path, replace(headed.manifest, precision="bf16")), tmp_path / "out"
    )
    kinds = {m.name: config_of(m).instance_group[0].kind for m in (tmp_path / "out").iterdir()}
    assert kinds == {"image_encoder": 1, "similarity": 1, "text_encoder": 2}


def test_weights_beside_a_graph_go_along(headed: Bundle, tmp_path: Path) -> None:
    """By the name that the graph knows them by."""
    (tmp_path / "bundle").mkdir()
    for name in ("image_encoder.onnx", "text_encoder.onnx"):
        (tmp_path / "bundle" / name).write_bytes((headed.path / name).read_bytes())
    (tmp_path / "bundle/image_encoder.onnx.data").write_bytes(b"weights")
    write_repository(Bundle(tmp_path / "bundle", headed.manifest), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out/image_encoder/1").iterdir()}
    assert names == {"model.onnx", "image_encoder.onnx.data"}


PROFILES = tuple(parse_profile(text, multiple=16) for text in ("1x64x64:1x64x64:1x96x96",))
WIDE = (*PROFILES, parse_profile("1x32x32:4x64x64:8x96x96", multiple=16))


def with_engine(
    headed: Bundle,
    folder: Path,
    *,
    flavour: str = "tensorrt",
    profiles: tuple[Profile, ...] = WIDE,
    **options: Any,
) -> Bundle:
    """A bundle with a plan, which only Triton would open."""
    for name in ("image_encoder.onnx", "image_encoder.onnx.data", "text_encoder.onnx"):
        (folder / name).write_bytes((headed.path / name).read_bytes())
    copied = Bundle(folder, headed.manifest)
    key = EngineKey(
        graph=graph_hash(copied),
        flavour=flavour,
        version="10.16.1",
        precision="fp32",
        gpu="L4",
        capability="8.9",
        driver="580.1",
        profiles=profiles,
        options=options,
    )
    set_proven(copied, save_engine(copied, key, b"a plan"), {})
    return copied


def test_engine_is_served_in_place_of_the_graph(headed: Bundle, tmp_path: Path) -> None:
    """With all of its profiles, on the GPU; a comment tells which TensorRT it needs."""
    (tmp_path / "bundle").mkdir()
    copied = with_engine(headed, tmp_path / "bundle")
    write_repository(copied, tmp_path / "out", max_batch_size=8, engine=True)
    model = tmp_path / "out/image_encoder"
    config = config_of(model)
    assert (config.backend, config.platform) == ("tensorrt", "tensorrt_plan")
    assert (model / "1" / config.default_model_filename).read_bytes() == b"a plan"
    assert config.default_model_filename == "model.plan"
    (group,) = config.instance_group
    assert (group.kind, list(group.profile)) == (1, ["0", "1"])
    assert list(config.input[0].dims) == [-1, -1, 3]
    assert "engine of TensorRT 10.16.1 for L4" in (model / "config.pbtxt").read_text()
    assert config_of(tmp_path / "out/text_encoder").backend == "onnxruntime"


@pytest.mark.parametrize(
    ("engine", "batch", "message"),
    [
        (None, 0, "no engine that Triton loads"),
        ({"flavour": "tensorrt-rtx"}, 0, r"one of TensorRT \(not TensorRT-RTX\)"),
        ({"strip_weights": True}, 0, "with its weights"),
        ({"profiles": WIDE}, 9, "takes 8 images at most of some sizes"),
        ({"profiles": PROFILES}, 2, "takes 1 images at most of some sizes"),
    ],
)
def test_engines_that_triton_cannot_use(
    headed: Bundle, tmp_path: Path, engine: dict[str, Any] | None, batch: int, message: str
) -> None:
    """The reason and the cure, before anything is written."""
    (tmp_path / "bundle").mkdir()
    copied = headed if engine is None else with_engine(headed, tmp_path / "bundle", **engine)
    with pytest.raises(ConfigError, match=message):
        write_repository(copied, tmp_path / "out", max_batch_size=batch, engine=True)
    assert not (tmp_path / "out").exists()


def test_only_its_own_repositories_are_replaced(headed: Bundle, tmp_path: Path) -> None:
    """Somebody else's models in the folder survive --force."""
    write_repository(headed, tmp_path / "mine")
    with pytest.raises(OutputError, match="add --force"):
        write_repository(headed, tmp_path / "mine")
    write_repository(headed, tmp_path / "mine", max_batch_size=2, force=True)
    assert config_of(tmp_path / "mine/similarity").max_batch_size == 2
    other = tmp_path / "mine/other"
    other.mkdir()
    (other / "config.pbtxt").write_text('name: "other"')
    with pytest.raises(OutputError, match=r"is not a repository of this command.*--triton"):
        write_repository(headed, tmp_path / "mine", force=True)
    assert (other / "config.pbtxt").exists()


class Answer:
    """What the client's `infer` returns."""

    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        self._outputs = outputs

    def get_response(self) -> dict[str, Any]:
        """The JSON part of the answer."""
        return {"outputs": [{"name": name} for name in self._outputs]}

    def as_numpy(self, name: str) -> np.ndarray:
        """One output."""
        return self._outputs[name]


def client_module(repository: Path) -> ModuleType:
    """What the example uses of `tritonclient.http`, with `serve` behind it."""

    class InferInput:
        def __init__(self, name: str, shape: list[int], datatype: str) -> None:
            self.name, self.shape, self.datatype = name, shape, datatype

        def set_data_from_numpy(self, array: np.ndarray) -> None:
            assert list(array.shape) == self.shape
            assert TYPES[f"TYPE_{self.datatype}"] == array.dtype
            self.array = array

    class InferenceServerClient:
        def __init__(self, url: str) -> None:
            assert url == "localhost:8000"

        def infer(self, model: str, inputs: list[Any]) -> Answer:
            (outputs,) = serve(repository / model, {item.name: item.array for item in inputs})
            return Answer(outputs)

    module = ModuleType("tritonclient.http")
    module.InferInput, module.InferenceServerClient = InferInput, InferenceServerClient
    return module


def test_client_of_the_docs_gives_the_masks_of_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both examples, as they stand, from a picture file to the label map, against `Segmenter`."""
    tiny = open_model("atas-tiny")
    dogs = tmp_path / "dogs"
    shutil.copytree(tiny.path, dogs)
    copied, backend = Bundle(dogs, tiny.manifest), OrtBackend(tiny)
    add_similarity(copied)
    write_words(copied, backend, "dog|puppy,grass,sky", dogs)
    write_repository(copied, tmp_path / "models")
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    photo = cv2.resize(small, (321, 207), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo)
    package, http = ModuleType("tritonclient"), client_module(tmp_path / "models")
    package.http = http
    monkeypatch.setitem(sys.modules, "tritonclient", package)
    monkeypatch.setitem(sys.modules, "tritonclient.http", http)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/deployment.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    segmenter = Segmenter(tiny, "dog|puppy,grass,sky", backend=backend, cache=False)
    expected = segmenter(tmp_path / "photo.jpg").labels
    assert len(np.unique(expected)) > 1
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, names)
        assert (names["mask"] == expected).mean() > 0.9999  # pixels on a tie may differ
        assert cv2.imread("mask.png", cv2.IMREAD_GRAYSCALE).shape == expected.shape
