"""`--triton DIR`: a model repository for NVIDIA's Triton Inference Server.

    DIR/image_encoder/config.pbtxt, DIR/image_encoder/1/model.onnx (or model.plan, an engine)
    DIR/text_encoder/...
    DIR/similarity/...              if the bundle has the similarity head

Two layouts. Plain (max_batch_size 0): `dims` are whole shapes, a request is run as it comes.
Batched (max_batch_size N): `dims` leave out the first axis, along which Triton puts requests of
equal shapes together. Its batcher takes that axis for granted in every input, so that `text` of
the similarity head gets one, too: (1, queries, D) for a request of one image.

What the fields mean: Triton's model_config.proto and its guide on model configuration. Nothing here
runs Triton.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx_ir as ir

from atas_deploy import __version__
from atas_deploy.backends.trt.engines import EngineRecord, list_engines, load_engine
from atas_deploy.backends.trt.profiles import Profile
from atas_deploy.core.bundle import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.core.errors import ConfigError
from atas_deploy.export.folder import FolderKind, new_folder
from atas_deploy.export.similarity import SIMILARITY, text_per_image
from atas_deploy.export.storage import save_graph

CONFIG = "config.pbtxt"
VERSION = "1"
_MARK = "# Written by atas-deploy"
_ONNX, _PLAN = "model.onnx", "model.plan"
_TYPES: dict[int, str] = {
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
}
_BACKENDS = {_ONNX: ("onnxruntime", "onnxruntime_onnx"), _PLAN: ("tensorrt", "tensorrt_plan")}


def is_repository(folder: Path) -> bool:
    """Tell whether a folder holds nothing but models that `write_repository` wrote."""
    try:
        texts = [(path / CONFIG).read_text(encoding="utf-8") for path in folder.iterdir()]
    except (OSError, ValueError):
        return False
    return all(text.startswith(_MARK) for text in texts)


REPOSITORY = FolderKind(noun="repository of this command", option="--triton", is_one=is_repository)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Served:
    """A model of the repository.

    Attributes:
        name: of the model and its folder.
        bundle: it is of.
        graph: file of the bundle whose inputs and outputs it has.
        kind: of its instances.
        engine: record of the engine that is served in the graph's place.
        plan: that engine.
    """

    name: str
    bundle: Bundle
    graph: str
    kind: str
    engine: EngineRecord | None = None
    plan: bytes = b""

    @property
    def file(self) -> str:
        """Name of the file that Triton loads."""
        return _PLAN if self.engine else _ONNX


def write_repository(
    bundle: Bundle,
    out: Path,
    *,
    max_batch_size: int = 0,
    engine: bool = False,
    force: bool = False,
) -> tuple[str, ...]:
    """Write the repository of a bundle; all of it or nothing.

    Args:
        bundle: its graphs are copied.
        out: folder to make.
        max_batch_size: most images or texts that a request or a batch of requests has in the
            batched layout; 0 = the plain layout.
        engine: whether to serve the image encoder by the bundle's TensorRT engine.
        force: replace a repository that this function wrote.

    Returns:
        The names of the models.

    Raises:
        ConfigError: there is no engine that Triton takes, or not for batches of this size.
        BundleError: the engine is damaged.
        OutputError: the folder exists, or cannot be written.
    """
    models = _models(bundle, max_batch_size=max_batch_size, engine=engine)
    with new_folder(out, force=force, kind=REPOSITORY) as folder:
        for model in models:
            _write(model, folder / model.name, max_batch_size=max_batch_size)
    return tuple(model.name for model in models)


def _models(bundle: Bundle, *, max_batch_size: int, engine: bool) -> list[_Served]:
    """What is served: words on the CPU, where they take no memory from images."""
    auto = "KIND_GPU" if bundle.manifest.precision == "bf16" else "KIND_AUTO"  # the CPU has no bf16
    image = _Served(name="image_encoder", bundle=bundle, graph=IMAGE_ENCODER, kind=auto)
    text = _Served(name="text_encoder", bundle=bundle, graph=TEXT_ENCODER, kind="KIND_CPU")
    if engine:
        plan, record = _engine(bundle, max_batch_size)
        image = replace(image, kind="KIND_GPU", engine=record, plan=plan)
    models = [image, text]
    if (bundle.path / SIMILARITY).is_file():
        models.append(_Served(name="similarity", bundle=bundle, graph=SIMILARITY, kind=auto))
    return models


def _engine(bundle: Bundle, max_batch_size: int) -> tuple[bytes, EngineRecord]:
    """The newest engine that Triton can load, if it takes batches of this size."""
    found = [record for record in list_engines(bundle) if _is_loadable(record)]
    if not found:
        raise ConfigError(
            f"{bundle.path} has no engine that Triton loads: one of TensorRT (not TensorRT-RTX) "
            "with its weights; build one with the tensorrt of Triton's container, or leave --trt "
            "out to serve ONNX."
        )
    plan, record = load_engine(bundle, found[-1].key)
    most = _largest_batch(record.key.profiles)
    if max_batch_size > most:
        raise ConfigError(
            f"--triton-batch is {max_batch_size}, but the engine {record.name} takes {most} images "
            "at most of some sizes; lower it, or build the engine with a larger --profile."
        )
    return plan, record


def _is_loadable(record: EngineRecord) -> bool:
    """Whether Triton's TensorRT backend can run an engine, which puts no weights into it."""
    stripped = record.key.options.get("strip_weights")
    return record.key.flavour == "tensorrt" and record.quarantined is None and not stripped


def _largest_batch(profiles: Sequence[Profile]) -> int:
    """Most images that the engine takes of every size that it takes."""
    return min(max(q.most[0] for q in profiles if _covers(q, p)) for p in profiles)


def _covers(wide: Profile, narrow: Profile) -> bool:
    """Whether a profile takes all heights and widths of another one."""
    lower = all(a <= b for a, b in zip(wide.least[1:], narrow.least[1:], strict=True))
    return lower and all(a >= b for a, b in zip(wide.most[1:], narrow.most[1:], strict=True))


def _write(model: _Served, folder: Path, *, max_batch_size: int) -> None:
    """Write the folder of a model."""
    (folder / VERSION).mkdir(parents=True)
    target, source = folder / VERSION / model.file, model.bundle.path / model.graph
    if model.engine:
        target.write_bytes(model.plan)
    elif model.graph == SIMILARITY and max_batch_size:
        save_graph(text_per_image(ir.load(source)), target)
    else:
        shutil.copyfile(source, target)
        for data in source.parent.glob(f"{source.name}.data"):  # the graph names the file
            shutil.copyfile(data, target.with_name(data.name))
    graph = source if model.engine else target
    (folder / CONFIG).write_text(_config(model, graph, max_batch_size), encoding="utf-8")


def _config(model: _Served, path: Path, max_batch_size: int) -> str:
    """The text of config.pbtxt."""
    graph = onnx.load(path, load_external_data=False).graph
    backend, platform = _BACKENDS[model.file]
    inputs = ",\n".join(_tensor(value, max_batch_size) for value in graph.input)
    outputs = ",\n".join(_tensor(value, max_batch_size) for value in graph.output)
    lines = [
        f"{_MARK} {__version__}: {_description(model)}.",
        f'name: "{model.name}"',
        f'backend: "{backend}"',
        f'platform: "{platform}"',
        f'default_model_filename: "{model.file}"',
        f"max_batch_size: {max_batch_size}",
        f"input [\n{inputs}\n]",
        f"output [\n{outputs}\n]",
        f"instance_group [ {{ {_instances(model)} }} ]",
        *(["dynamic_batching { }"] if max_batch_size else []),
    ]
    return "\n".join(lines) + "\n"


def _description(model: _Served) -> str:
    """One line on where the model comes from, and what its engine needs."""
    manifest, record = model.bundle.manifest, model.engine
    name = " ".join(manifest.name.split())
    told = f"{model.name} of {name}, read-out {manifest.readout}, {manifest.precision}"
    if record:
        proven = "proven" if record.proven else "not proven"
        told += f"; engine of TensorRT {record.key.version} for {record.key.cards}, {proven}"
    return told


def _tensor(value: onnx.ValueInfoProto, max_batch_size: int) -> str:
    """An input or output; -1 stands for what is dynamic, and the first axis for the batch."""
    tensor = value.type.tensor_type
    dims = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]
    shape = ", ".join(map(str, dims[1:] if max_batch_size else dims))
    kind = _TYPES[tensor.elem_type]
    return f'  {{ name: "{value.name}", data_type: {kind}, dims: [ {shape} ] }}'


def _instances(model: _Served) -> str:
    """One instance on each device; an engine's may use all of its profiles."""
    group = f"count: 1, kind: {model.kind}"
    if model.engine is None:
        return group
    profiles = ", ".join(f'"{i}"' for i in range(len(model.engine.key.profiles)))
    return f"{group}, profile: [ {profiles} ]"
