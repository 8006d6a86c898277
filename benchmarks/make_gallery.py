"""Make the pictures of docs/gallery.md again, by the commands that stand there.

    python benchmarks/make_gallery.py [--keep FOLDER] [--base MODEL]

Every `atas-deploy segment|visualize NAME.jpg ... --out PICTURE` in the page becomes
docs/gallery/PICTURE.jpg. With the model that `atas-tiny` was distilled from (base/ of
`python -m atas_deploy.training.atas_tiny`), docs/gain.jpg shows what it gained.
The photographs come with scikit-learn: pip install "atas-deploy[demo]".
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import sklearn.datasets
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "gallery"
PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
MAX_BYTES, MAX_SIDE = 120_000, 1600
GAIN = ["china.jpg", "--classes", "sky,building|roof,tree"]
GAIN_PICTURE = ROOT / "docs" / "gain.jpg"
RESULTS = {"segment": "*.overlay.jpg", "visualize": "*.visual.png"}


def main() -> None:
    """Run all commands of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder for photographs and results")
    parser.add_argument("--base", type=Path, help="model before distillation")
    args = parser.parse_args()
    keep, base = args.keep, args.base and args.base.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for photo in PHOTOS.glob("*.jpg"):
            shutil.copy(photo, folder)
        for words in commands():
            make_picture(folder, words)
        if base:
            make_gain(folder, base)


def commands() -> list[list[str]]:
    """The words of each command of the page, without the program's name."""
    lines = re.findall(
        r"^    atas-deploy ((?:segment|visualize) .*)$", PAGE.read_text("utf-8"), re.M
    )
    return [shlex.split(line) for line in lines]


def make_picture(folder: Path, words: list[str]) -> None:
    """Run one command and keep its overlay, or its maps."""
    name = words[words.index("--out") + 1]
    write_small(run(folder, words), PICTURES / f"{name}.jpg")


def make_gain(folder: Path, base: Path) -> None:
    """The same picture by the base and by `atas-tiny`, side by side."""
    halves = [
        run(folder, ["segment", *GAIN, "--model", model, "--out", name])
        for name, model in (("before", str(base)), ("after", "atas-tiny"))
    ]
    write_small(Image.fromarray(np.hstack([np.asarray(half) for half in halves])), GAIN_PICTURE)


def run(folder: Path, words: list[str]) -> Image.Image:
    """The overlay or the maps that a command writes."""
    program = [sys.executable, "-c", "from atas_deploy.cli.main import main; main()"]
    subprocess.run([*program, *words, "--force", "--quiet"], cwd=folder, check=True)
    (result,) = (folder / words[words.index("--out") + 1]).glob(RESULTS[words[0]])
    return Image.open(result)


def write_small(image: Image.Image, target: Path) -> None:
    """Write a JPEG of at most `MAX_BYTES` and `MAX_SIDE` pixels, as good as that allows."""
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    for quality in range(95, 20, -5):
        image.save(target, quality=quality, optimize=True, progressive=True)
        if target.stat().st_size <= MAX_BYTES:
            print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")
            return
    raise SystemExit(f"{target} cannot be made smaller than {MAX_BYTES} bytes.")


if __name__ == "__main__":
    main()
