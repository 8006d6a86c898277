"""Make the pictures of docs/gallery.md again, by the commands that stand there.

    python benchmarks/make_gallery.py [--keep FOLDER]

Every `atas-deploy segment|visualize NAME.jpg ... --out PICTURE` in the page becomes
docs/gallery/PICTURE.jpg.
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

import sklearn.datasets
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "gallery"
PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
MAX_BYTES, MAX_SIDE = 120_000, 1600
RESULTS = {"segment": "*.overlay.jpg", "visualize": "*.visual.png"}


def main() -> None:
    """Run all commands of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder for photographs and results")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for photo in PHOTOS.glob("*.jpg"):
            shutil.copy(photo, folder)
        for words in commands():
            make_picture(folder, words)


def commands() -> list[list[str]]:
    """The words of each command of the page, without the program's name."""
    lines = re.findall(
        r"^    atas-deploy ((?:segment|visualize) .*)$", PAGE.read_text("utf-8"), re.M
    )
    return [shlex.split(line) for line in lines]


def make_picture(folder: Path, words: list[str]) -> None:
    """Run one command and keep its overlay, or its maps."""
    program = [sys.executable, "-c", "from atas_deploy.cli.main import main; main()"]
    subprocess.run([*program, *words, "--force", "--quiet"], cwd=folder, check=True)
    name = words[words.index("--out") + 1]
    (result,) = (folder / name).glob(RESULTS[words[0]])
    target = PICTURES / f"{name}.jpg"
    write_small(Image.open(result), target)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")


def write_small(image: Image.Image, target: Path) -> None:
    """Write a JPEG of at most `MAX_BYTES` and `MAX_SIDE` pixels, as good as that allows."""
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    for quality in range(95, 20, -5):
        image.save(target, quality=quality, optimize=True, progressive=True)
        if target.stat().st_size <= MAX_BYTES:
            return
    raise SystemExit(f"{target} cannot be made smaller than {MAX_BYTES} bytes.")


if __name__ == "__main__":
    main()
