"""Tests of choosing an encoder and its quality."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from atas_deploy.core.errors import BackendUnavailableError, ConfigError
from atas_deploy.media.video import VideoReader, VideoWriter, encoders
from atas_deploy.media.video.encoders import ENCODERS, available_encoders, choose_encoder

SIZE = (120, 160)


def pattern(index: int) -> np.ndarray:
    """Draw coloured squares that move."""
    colors = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.roll(np.kron(colors, np.ones((20, 20, 1), np.uint8)), index, axis=1)


def write(path: Path, count: int = 10, **options: object) -> VideoWriter:
    """Write a short clip and return its closed writer."""
    with VideoWriter(path, size=SIZE, rate=Fraction(25), **options) as out:  # type: ignore[arg-type]
        for index in range(count):
            out.write(pattern(index))
    return out


@pytest.mark.parametrize(
    ("wanted", "codec"), [("h264", "h264"), ("hevc", "hevc"), ("av1", "av1"), ("vp9", "vp9")]
)
def test_formats(tmp_path: Path, wanted: str, codec: str) -> None:
    """Each format that this build has makes a file that reads back."""
    if not set(ENCODERS[wanted]) & set(available_encoders()):
        pytest.skip(f"this build of PyAV has no encoder for {wanted}")
    write(tmp_path / "a.mp4", encoder=wanted)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
    with VideoReader(tmp_path / "a.mp4") as reader:
        frames = list(reader)
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(10)], abs=1e-3)
    assert np.abs(frames[5].image.astype(int) - pattern(5)).mean() < 10


@pytest.mark.parametrize("wanted", ["h264", "hevc", "av1", "vp9"])
def test_encoders_are_quiet(tmp_path: Path, wanted: str) -> None:
    """Encoders, which like to talk, write nothing on the terminal."""
    script = f"""
from fractions import Fraction
from pathlib import Path
import numpy as np
from atas_deploy.media.video import VideoWriter
with VideoWriter(Path({str(tmp_path / "a.mp4")!r}), size=(64, 96), rate=Fraction(25),
                 encoder={wanted!r}) as out:
    out.write(np.zeros((64, 96, 3), np.uint8))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "[info]" not in done.stdout + done.stderr


@pytest.mark.parametrize("encoder", ["h264", "hevc", "av1", "vp9", "mpeg4"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_short_videos(tmp_path: Path, encoder: str, count: int) -> None:
    """Videos shorter than an encoder's look-ahead are whole (x265 leaves time stamps unset)."""
    for attempt in range(5):
        write(tmp_path / f"{attempt}.mp4", count, encoder=encoder)
        with VideoReader(tmp_path / f"{attempt}.mp4") as reader:
            times = [frame.time for frame in reader]
        assert times == pytest.approx([n / 25 for n in range(count)], abs=1e-3)


def test_players_of_apple_know_the_tag(tmp_path: Path) -> None:
    """HEVC is marked as hvc1."""
    write(tmp_path / "a.mp4", encoder="hevc")
    assert b"hvc1" in (tmp_path / "a.mp4").read_bytes()


@pytest.mark.parametrize("encoder", ["h264", "hevc", "av1", "vp9"])
def test_crf_is_quality(tmp_path: Path, encoder: str) -> None:
    """A lower crf makes a larger file with every encoder."""
    sizes = []
    for crf in (5, 40):
        write(tmp_path / "a.mp4", encoder=encoder, crf=crf)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes[0] > 1.5 * sizes[1]


def test_exact_names_and_bit_rates(tmp_path: Path) -> None:
    """FFmpeg's own names work, also of an encoder that knows bit rates only."""
    assert not choose_encoder("mpeg4").constant_quality
    assert write(tmp_path / "a.mp4", encoder="mpeg4").encoder_note is None
    assert (tmp_path / "a.mp4").is_file()


def test_presets(tmp_path: Path) -> None:
    """The preset reaches the encoder."""
    write(tmp_path / "a.mp4", preset="ultrafast")
    write(tmp_path / "b.mp4", preset="slow")
    first, second = ((tmp_path / name).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert b"cabac=0" in first
    assert b"cabac=1" in second


@pytest.mark.parametrize("wanted", ["nonsense", "prores_ks", "libx264rgb", "aac", "H264", ""])
def test_unknown_encoders(tmp_path: Path, wanted: str) -> None:
    """What is no video encoder for MP4 here is one sentence that lists those that are."""
    if wanted == "":
        assert choose_encoder(wanted).name == choose_encoder().name
        return
    with pytest.raises(ConfigError, match=rf"Got encoder '{wanted}', but .* h264, .*libx264"):
        write(tmp_path / "a.mp4", encoder=wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crf": -1}, r"Got crf -1, expected 0"),
        ({"crf": 52}, r"Got crf 52, expected 0"),
        ({"preset": "warp"}, r"Got preset 'warp', expected one of ultrafast"),
        ({"preset": "7", "encoder": "mpeg4"}, r"mpeg4 has no presets"),
        ({"preset": "warp", "encoder": "vp9"}, r"libvpx-vp9 cannot make a video of 160 x 120"),
    ],
)
def test_impossible_settings(tmp_path: Path, options: dict[str, object], message: str) -> None:
    """Settings that the encoder does not know are one sentence; no file is left."""
    with pytest.raises(ConfigError, match=message):
        write(tmp_path / "a.mp4", **options)
    assert not list(tmp_path.iterdir())


def test_hardware_that_is_not_there(tmp_path: Path) -> None:
    """An encoder for a card that this machine lacks says so when the file is begun."""
    if "h264_nvenc" not in available_encoders() or Path("/dev/nvidia0").exists():
        pytest.skip("needs a build with h264_nvenc on a machine without such a card")
    with pytest.raises(ConfigError, match=r"h264_nvenc cannot make a video .* choose another"):
        write(tmp_path / "a.mp4", encoder="h264_nvenc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wanted", [None, "h264"])
def test_second_choice_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    """A build without x264 uses what it has and says so."""
    monkeypatch.setattr(encoders, "ENCODERS", {"h264": ("no-x264", "mpeg4")})
    out = write(tmp_path / "a.mp4", encoder=wanted)
    assert out.encoder_note is not None
    assert out.encoder_note.startswith("This build of PyAV has no no-x264, so video is encoded")
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert len(list(reader)) == 10


def test_no_encoder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of PyAV without H.264 says so and leaves nothing behind."""
    monkeypatch.setattr(encoders, "ENCODERS", {"h264": ("no-such-encoder",)})
    with pytest.raises(BackendUnavailableError, match=r"no H\.264 encoder: reinstall"):
        write(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who set the log level of SVT-AV1 keeps it."""
    monkeypatch.setenv("SVT_LOG", "3")
    if "libsvtav1" in available_encoders():
        choose_encoder("av1")
    assert os.environ["SVT_LOG"] == "3"
