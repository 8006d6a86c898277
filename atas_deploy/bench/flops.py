"""Count the operations of an image encoder, in a process that imports PyTorch.

    python -m atas_deploy.bench.flops BUNDLE HxW...

The answer, see `atas_deploy.core.child`, is a number for each size: matrix products, attention and
convolutions for one picture, a multiplication and an addition counted as two, by PyTorch's
`FlopCounterMode` on the module that the graph was exported from, without any weights or memory.
Element-wise operations, norms and softmax are not in it.
"""

import json
import sys
from pathlib import Path

from atas_deploy.core.bundle import MODEL_CONFIG, Bundle
from atas_deploy.core.child import answer
from atas_deploy.core.errors import BackendError, BundleError
from atas_deploy.core.extra import needs_extra
from atas_deploy.core.geometry import Size


def count_flops(bundle: Bundle, sizes: list[Size]) -> list[int]:
    """Operations for one picture of each size (H, W).

    Raises:
        BundleError: the bundle has no configuration to build the module from.
        ConfigError: the model is not supported.
        BackendUnavailableError: PyTorch is missing.
    """
    with needs_extra("export", to="Counting the encoder's operations"):
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from atas_deploy.clip.model import build_model
        from atas_deploy.clip.vit import DenseViT
    manifest, config = bundle.manifest, _config(bundle.path)
    counts = []
    with torch.device("meta"), torch.inference_mode():
        tower = DenseViT(
            build_model(config).visual,
            manifest.readout,
            stride=manifest.stride,
            attention_window=manifest.attention_window,
        ).eval()
        for size in sizes:
            with FlopCounterMode(display=False) as counter:
                tower(torch.zeros(1, 3, *size))
            counts.append(int(counter.get_total_flops()))
    return counts


def _config(folder: Path) -> dict[str, object]:
    try:
        content: dict[str, object] = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BundleError(
            f"The operations of {folder} cannot be counted: it has no readable {MODEL_CONFIG}; "
            "export the model again with its weights."
        ) from exc
    return content


def main(folder: str, *sizes: str) -> None:
    """Count and answer."""

    def unexpected(reason: str) -> BackendError:
        return BackendError(f"The operations of {folder} could not be counted: {reason}")

    def count() -> dict[str, list[int]]:
        pairs = [size.split("x") for size in sizes]
        return {"flops": count_flops(Bundle.open(folder), [(int(h), int(w)) for h, w in pairs])}

    answer(count, unexpected=unexpected)


if __name__ == "__main__":
    main(*sys.argv[1:])
