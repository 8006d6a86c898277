"""Options of ATAS that go together, by name."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The paper as read literally: InfoNCE of cosines at temperature 1, mean squared error of patch
    # similarities, 36 images a process, one mosaic of 6 x 6 in 960 pixels.
    "paper": {
        "size": 960,
        "grids": (6,),
        "readout": "vanilla",
        "temperature": 1.0,
        "pooling_temperature": 1.0,
        "global_to_local": 1.0,
        "local_to_local": 0.01,
        "global_to_global": 1.0,
        "local_form": "infonce",
        "global_form": "infonce",
        "relation_reduction": "mse",
        "crop_scale": 1.0,
        "views": 1,
        "layer_decay": 1.0,
        "lr": 1e-5,
        "weight_decay": 0.1,
        "batch_size": 36,
        "epochs": 6.0,
    }
}
"""Source: Yeo et al., "ATAS", ICCV 2025, as far as its settings are known."""
