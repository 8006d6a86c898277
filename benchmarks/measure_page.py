"""How exact the similarities of `visualize`'s page are: features in 8 bits against float32.

    python benchmarks/measure_page.py [PHOTO...]

Prints JSON: largest and mean error of a cosine over all pairs of patches. Without PHOTO, the two
photographs that come with scikit-learn: pip install "atas-deploy[demo]".
"""

import argparse
import json
from pathlib import Path

import numpy as np

from atas_deploy.runtime.visual.pack import pack
from atas_deploy.runtime.visual.viewer import Visualizer


def main() -> None:
    """Measure each photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--model", default="atas-tiny")
    args = parser.parse_args()
    visualizer = Visualizer([args.model])
    rows = [measure(visualizer, photo) for photo in args.photos or samples()]
    print(json.dumps({"views": visualizer.names, "photos": rows}, indent=2))


def samples() -> list[Path]:
    """The photographs of scikit-learn."""
    import sklearn.datasets

    return sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))


def measure(visualizer: Visualizer, photo: Path) -> dict[str, object]:
    """Compare all cosines of a photograph."""
    dense = visualizer(photo).views[0].dense
    packed = pack(dense)
    restored = packed.values * packed.scales[..., None]
    exact, rounded = (part.reshape(-1, dense.shape[-1]) for part in (dense, restored))
    error = np.abs(exact @ exact.T - rounded @ rounded.T)
    return {
        "photo": photo.name,
        "grid": dense.shape[:2],
        "embed_dim": dense.shape[-1],
        "largest": round(float(error.max()), 5),
        "mean": round(float(error.mean()), 5),
    }


if __name__ == "__main__":
    main()
