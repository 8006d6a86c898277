"""`atas-deploy export` as a user types it."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from atas_deploy.cli.export import read_photos
from atas_deploy.cli.main import main
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import InputError


def test_export_prints_what_it_wrote(model: ClipModel, tmp_path: Path) -> None:
    """One line for the bundle and one for each stage of the proof."""
    Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(tmp_path / "photo.png")
    arguments = ["export", "--model", str(model.folder), "--out", str(tmp_path / "b")]
    result = CliRunner().invoke(main, [*arguments, "--photos", str(tmp_path / "photo.png")])
    assert result.exit_code == 0, result.output
    first, *stages = result.output.splitlines()
    assert first.startswith(f"{tmp_path / 'b'}: tiny, read-out sclip, ")
    assert len(stages) == 3
    assert "dense within" in stages[1]
    assert stages[2].startswith("graph for the CPU")
    Bundle.open(tmp_path / "b").verify()


def test_precision_is_written_and_told(model: ClipModel, tmp_path: Path) -> None:
    """A bfloat16 bundle: its precision, and one stage more than that of float32."""
    arguments = ["--model", str(model.folder), "--precision", "bf16", "--out", str(tmp_path / "b")]
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code == 0, result.output
    first, *stages = result.output.splitlines()
    assert "read-out sclip, bf16, " in first
    assert [stage.partition(":")[0].partition(",")[0] for stage in stages] == [
        "modules against open_clip",
        "float32 graphs",
        "image graph as written",
    ]
    assert "classes" in stages[2]
    assert Bundle.open(tmp_path / "b").manifest.precision == "bf16"


def test_photos_are_the_images_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Videos in a folder are passed over, bad images named; without a good one it is an error."""
    Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(tmp_path / "photo.png")
    (tmp_path / "bad.jpg").write_text("no image")
    (tmp_path / "clip.mp4").touch()
    (photo,) = read_photos((str(tmp_path), "gone.png"))
    assert photo.shape == (20, 30, 3)
    assert "bad.jpg is not an image" in (told := capsys.readouterr().err)
    assert "gone.png does not exist" in told
    with pytest.raises(InputError, match="bad"):
        read_photos((str(tmp_path / "bad.jpg"), str(tmp_path / "clip.mp4")))
    with pytest.raises(InputError, match="videos only"):
        read_photos((str(tmp_path / "clip.mp4"),))


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--model", "ViT-B16/openai"], "did you mean ViT-B-16", 2),
        (["--model", "FOLDER", "--readout", "sharp"], "not one of 'vanilla', 'maskclip'", 2),
        (["--model", "FOLDER", "--attention-window", "1000"], "expected up to 4", 2),
        (["--model", "/"], "is not a model: expected", 2),
        (["--model", "FOLDER", "--photos", "missing.jpg"], "missing.jpg", 1),
    ],
)
def test_mistakes_are_one_sentence(
    model: ClipModel, tmp_path: Path, arguments: list[str], message: str, code: int
) -> None:
    """The cure and an exit code, 2 for what cannot be used; nothing written."""
    arguments = [str(model.folder) if a == "FOLDER" else a for a in arguments]
    result = CliRunner().invoke(main, ["export", *arguments, "--out", str(tmp_path / "b")])
    assert result.exit_code == code
    assert message in result.output
    assert not (tmp_path / "b").exists()
