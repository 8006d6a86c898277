"""`atas-deploy demo`: the main job on a photograph that scikit-learn carries."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atas_deploy.cli.segment import run_segment
from atas_deploy.core.errors import BackendUnavailableError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CLASSES = "sky,building|roof,tree"
_HEIGHT, _WIDTH = 360, 480
_FRAMES, _RATE = 75, 15


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("atas-demo"),
    show_default=True,
    help="Folder of the sample pictures and the results.",
)
@click.option("--model", default="atas-tiny", show_default=True, help="Name or bundle folder.")
def demo(out: Path, *, model: str) -> None:
    """Segment a sample photo and a clip panned over it.

    The photo, by danielbuechele, CC BY 2.0, comes with scikit-learn.
    """
    from atas_deploy.runtime.options import JobOptions

    samples = make_samples(out / "samples")
    run_segment(
        [str(sample) for sample in samples],
        out=out,
        options=JobOptions(force=True),
        classes=_CLASSES,
        model=model,
    )
    click.echo(f"Open {out / 'china.overlay.jpg'} and {out / 'china-pan.overlay.mp4'}.")


def make_samples(folder: Path) -> list[Path]:
    """Write china.jpg and china-pan.mp4; return their paths.

    Raises:
        BackendUnavailableError: scikit-learn, which carries the photo, is not installed.
        OutputError: a file cannot be written.
    """
    from atas_deploy.core.files import output_error
    from atas_deploy.media.formats import write_image
    from atas_deploy.media.video import VideoWriter

    try:
        from sklearn.datasets import load_sample_image
    except ImportError as exc:
        raise BackendUnavailableError(
            'The sample photo comes with scikit-learn: pip install "atas-deploy[demo]".'
        ) from exc
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    china = load_sample_image("china.jpg")
    photo, clip = folder / "china.jpg", folder / "china-pan.mp4"
    write_image(photo, china)
    with VideoWriter(clip, size=(_HEIGHT, _WIDTH), rate=Fraction(_RATE)) as writer:
        for i in range(_FRAMES):
            writer.write(pan(china, i / (_FRAMES - 1)))
    return [photo, clip]


def pan(image: "npt.NDArray[np.uint8]", t: float) -> "npt.NDArray[np.uint8]":
    """The view of a camera that pans over a picture.

    Args:
        image: (H, W, 3) uint8, larger than the view.
        t: time from 0, the left end, to 1, the right end.

    Returns:
        (360, 480, 3) uint8.
    """
    import cv2
    import numpy as np

    ease = t * t * (3 - 2 * t)
    height, width = image.shape[:2]
    x = ease * (width - _WIDTH) + (_WIDTH - 1) / 2
    y = (1 - ease) * (height - _HEIGHT) + (_HEIGHT - 1) / 2
    return cv2.getRectSubPix(image, (_WIDTH, _HEIGHT), (x, y)).astype(np.uint8, copy=False)
