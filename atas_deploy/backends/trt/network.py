"""A bundle's image encoder as TensorRT reads it."""

from dataclasses import dataclass
from typing import Any

from atas_deploy.backends.trt.flavour import Flavour
from atas_deploy.core.bundle import IMAGE_ENCODER, Bundle
from atas_deploy.core.errors import BundleError

_TYPES = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A network; the parser owns weights of it, so both live as long as the build.

    Attributes:
        network: TensorRT's `INetworkDefinition`.
        parser: TensorRT's `OnnxParser`.
    """

    network: Any
    parser: Any


def parse_graph(builder: Any, bundle: Bundle, flavour: Flavour) -> Parsed:
    """Read the image encoder into a strongly typed network and check that it is one.

    Raises:
        BundleError: TensorRT cannot read it, it has other inputs, outputs or arithmetic.
    """
    module, path = flavour.module, bundle.path / IMAGE_ENCODER
    flags = module.NetworkDefinitionCreationFlag
    strongly_typed = getattr(flags, "STRONGLY_TYPED", None)  # TensorRT 11 has no other networks
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = module.OnnxParser(network, flavour.log)
    if not parser.parse_from_file(str(path)):
        reasons = [parser.get_error(i).desc().strip(" .") for i in range(parser.num_errors)]
        raise BundleError(
            f"{flavour} cannot read the graph {path} ({'; '.join(reasons)[:300]}); export the "
            "model again with this release."
        )
    _check_bindings(network, bundle, flavour)
    _check_precision(network, bundle, flavour)
    return Parsed(network, parser)


def bindings(network: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape, -1 where it is dynamic, and type of every input and output, by name."""
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    return {tensor.name: (tuple(tensor.shape), tensor.dtype) for tensor in tensors}


def product_types(network: Any, module: Any) -> set[str]:
    """Names of the types in which a network multiplies matrices: "FLOAT", "HALF", "BF16"."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    products = [layer for layer in layers if layer.type == module.LayerType.MATRIX_MULTIPLY]
    return {product.get_output(0).dtype.name for product in products}


def _check_bindings(network: Any, bundle: Bundle, flavour: Flavour) -> None:
    width, types = bundle.manifest.embed_dim, flavour.module.DataType
    expected = {
        "images": ((-1, -1, -1, 3), types.UINT8),
        "dense": ((-1, -1, -1, width), types.FLOAT),
        "image": ((-1, width), types.FLOAT),
    }
    got = bindings(network)
    if got != expected:
        raise BundleError(
            f"The graph of {bundle.path} has {_words(got)}; expected {_words(expected)}: it is no "
            "image encoder of atas-deploy, export the model again."
        )


def _check_precision(network: Any, bundle: Bundle, flavour: Flavour) -> None:
    """Compare the matrix products with the manifest; a few stay float32 in every precision."""
    precision = bundle.manifest.precision
    wanted, got = _TYPES.get(precision, ""), product_types(network, flavour.module)
    if wanted not in got or not got <= {wanted, "FLOAT"}:
        raise BundleError(
            f"The manifest of {bundle.path} says {precision}, but its graph multiplies matrices in "
            f"{', '.join(sorted(got)) or 'no type'}; export the model again."
        )


def _words(tensors: dict[str, tuple[tuple[int, ...], Any]]) -> str:
    named = (f"{name} {kind.name} {shape}" for name, (shape, kind) in tensors.items())
    return ", ".join(named) or "neither inputs nor outputs"
