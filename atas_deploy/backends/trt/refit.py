"""Weights for an engine that was built without them.

Written after the documentation of TensorRT 10, 11 and RTX; no machine of the project has run it.
"""

from typing import Any

from atas_deploy.backends.trt.flavour import Flavour
from atas_deploy.core.bundle import IMAGE_ENCODER, Bundle
from atas_deploy.core.errors import BackendError


def refit(engine: Any, bundle: Bundle, flavour: Flavour) -> None:
    """Put the weights of a bundle's graph into a stripped engine, the ones it was built from.

    Args:
        engine: TensorRT's `ICudaEngine`, of which no work is pending.
        bundle: the model; the key of the engine holds the hash of its graph.
        flavour: TensorRT.

    Raises:
        BackendError: TensorRT refuses them.
    """
    module = flavour.module
    refitter = module.Refitter(engine, flavour.log)
    parser = module.OnnxParserRefitter(refitter, flavour.log)
    path = bundle.path / IMAGE_ENCODER
    if not parser.refit_from_file(str(path)) or not refitter.refit_cuda_engine():
        raise BackendError(
            f"{flavour} cannot put the weights of {path} into its engine; build the engine again "
            "without --strip-weights."
        )
