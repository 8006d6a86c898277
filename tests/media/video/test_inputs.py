"""Tests that every kind of video file is read: pixel formats, transparency, oddities."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from atas_deploy.core.errors import InputError
from atas_deploy.media.video import Frame, VideoReader, VideoWriter, opening
from atas_deploy.media.video.colour import ToRgb, ToYuv

MakeClip = Callable[..., Path]
Picture = Callable[[int, tuple[int, int]], np.ndarray]

LOSSLESS = {"libx264": {"crf": "0"}, "libx265": {"x265-params": "lossless=1:log-level=error"}}


def read(path: Path) -> list[Frame]:
    """Read all frames of a clip."""
    with VideoReader(path) as reader:
        return list(reader)


def transparent(path: Path, codec: str, pixel_format: str, **options: str) -> Path:
    """Write three red pictures whose left half is clear and whose right quarter is half clear."""
    rgba = np.full((64, 96, 4), (255, 0, 0, 255), np.uint8)
    rgba[:, :48, 3], rgba[:, 72:, 3] = 0, 128
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixel_format
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
            container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"),
    [
        ("libx264", "yuv420p10le", "a.mp4"),
        ("libx264", "yuv422p10le", "a.mov"),
        ("libx264", "yuv444p", "a.mp4"),
        ("libx264", "yuvj420p", "a.mp4"),
        ("libx265", "yuv420p10le", "a.mp4"),
        ("libx265", "yuv420p12le", "a.mkv"),
        ("libsvtav1", "yuv420p10le", "a.mp4"),
        ("libvpx-vp9", "yuv444p", "a.webm"),
        ("ffv1", "yuv444p16le", "a.mkv"),
        ("ffv1", "bgr0", "a.mkv"),
        ("prores_ks", "yuv422p10le", "a.mov"),
        ("png", "rgb48be", "a.mov"),
        ("mjpeg", "yuvj420p", "a.avi"),
        ("mpeg2video", "yuv420p", "a.mpg"),
        ("wmv2", "yuv420p", "a.wmv"),
    ],
)
def test_pixel_formats(
    make_clip: MakeClip, picture: Picture, codec: str, pixel_format: str, name: str
) -> None:
    """Deep, full-range, RGB and finely sampled formats keep their colours."""
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec} to make the clip with")
    options = LOSSLESS.get(codec, {})
    frames = read(
        make_clip(
            name,
            codec=codec,
            pixel_format=pixel_format,
            stamps=range(5),
            time_base=Fraction(1, 25),
            **options,
        )
    )
    assert len(frames) == 5
    difference = frames[0].image.astype(int) - picture(0, (96, 160))
    assert np.abs(difference).mean() < 6
    assert np.abs(difference.mean(axis=(0, 1))).max() < 2.5


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le"])
def test_grey(make_clip: MakeClip, picture: Picture, pixel_format: str) -> None:
    """Grey video is grey in all three channels."""
    clip = make_clip("a.mkv", codec="ffv1", pixel_format=pixel_format, time_base=Fraction(1, 1_000))
    image = read(clip)[0].image.astype(int)
    assert np.ptp(image, axis=2).max() == 0
    luma = picture(0, (96, 160)) @ [0.299, 0.587, 0.114]
    assert np.abs(image[..., 0] - luma).max() < 3


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
        ("a.mov", "png", "rgba", {}),
        ("a.mov", "qtrle", "argb", {}),
        ("a.mov", "prores_ks", "yuva444p10le", {}),
        ("a.mkv", "ffv1", "bgra", {}),
        ("a.webm", "libvpx-vp9", "yuva420p", {"crf": "4", "b": "0"}),
        ("a.apng", "apng", "rgba", {}),
    ],
)
def test_transparent_parts_are_white(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    """Clear is white and half clear is half white, as in images."""
    frames = read(transparent(tmp_path / name, codec, pixel_format, **options))
    assert len(frames) == 3
    places = [frames[-1].image[32, x].astype(int) for x in (20, 60, 84)]
    expected = [(255, 255, 255), (255, 0, 0), (255, 127, 127)]
    assert np.abs(np.array(places) - expected).max() <= 6


def test_gif(tmp_path: Path) -> None:
    """A GIF that is named outright is a video."""
    frames = read(transparent(tmp_path / "a.gif", "gif", "rgb8"))
    assert len(frames) == 3
    assert frames[0].image[32, 60] == pytest.approx([255, 0, 0], abs=4)


@pytest.mark.parametrize("size", [(95, 161), (1, 1), (2, 3)])
def test_odd_sizes(make_clip: MakeClip, size: tuple[int, int]) -> None:
    """No row or column is lost or added."""
    clip = make_clip("a.mkv", codec="ffv1", size=size, time_base=Fraction(1, 1_000))
    assert read(clip)[0].image.shape == (*size, 3)


@pytest.mark.parametrize("name", ["a.ts", "a.h264"])
def test_changing_size(make_clip: MakeClip, tmp_path: Path, name: str) -> None:
    """Where the frame size changes in the middle, later frames are scaled to the first size."""
    parts = [
        make_clip(f"{size[0]}{name}", size=size, stamps=range(10), time_base=Fraction(1, 25))
        for size in [(96, 160), (192, 320), (64, 64)]
    ]
    joined = tmp_path / name
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = read(joined)
    assert len(frames) >= 28
    assert {frame.image.shape for frame in frames} == {(96, 160, 3)}
    one, other = (frames[place].image.astype(int) for place in (2, 12))
    assert np.abs(one - other).mean() < 10  # the same drawing


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_no_frame_rate(make_clip: MakeClip, tmp_path: Path, codec: str) -> None:
    """A raw stream, which has neither time stamps nor length, is read and can be written."""
    suffix, options = {
        "libx264": ("h264", {}),
        "libx265": ("hevc", {"x265-params": "log-level=error"}),
    }[codec]
    clip = make_clip(
        f"a.{suffix}", codec=codec, stamps=range(20), time_base=Fraction(1, 25), **options
    )
    with VideoReader(clip) as reader, VideoWriter(tmp_path / "b.mp4", source=reader) as out:
        for frame in reader:
            out.write(frame.image, frame)
    assert len(read(tmp_path / "b.mp4")) == 20


@pytest.mark.parametrize(
    ("stated", "rate"),
    [
        ((None, None), 25),
        ((Fraction(0), None), 25),
        ((Fraction(90_000), Fraction(30)), 30),
        ((Fraction(12_000), Fraction(-1)), 25),
        ((Fraction(1, 10), None), Fraction(1, 10)),
        ((Fraction(960), Fraction(30)), 960),
    ],
)
def test_bogus_frame_rates(stated: tuple[Any, Any], rate: Fraction) -> None:
    """Rates of zero, below it, or beyond any camera are not believed."""

    class Stream:
        average_rate, guessed_rate = stated

    assert opening.frame_rate(Stream()) == rate  # type: ignore[arg-type]


def test_bogus_rate_in_a_file(make_clip: MakeClip, tmp_path: Path) -> None:
    """Frames a tick of 1/90,000 s apart, at a rate no camera has, are read and written."""
    clip = make_clip(stamps=range(12), time_base=Fraction(1, 90_000))
    with VideoReader(clip) as reader, VideoWriter(tmp_path / "b.mp4", source=reader) as out:
        assert 0 < reader.rate <= 1_000
        for frame in reader:
            out.write(frame.image, frame)
    assert len(read(tmp_path / "b.mp4")) == 12


def test_interlaced(make_clip: MakeClip) -> None:
    """Interlaced video is read as it is, both fields of a frame woven together."""
    clip = make_clip(
        "a.ts", stamps=range(12), time_base=Fraction(1, 25), **{"x264-params": "tff=1"}
    )
    frames = read(clip)
    assert len(frames) == 12
    assert frames[0].image.shape == (96, 160, 3)


def test_several_video_streams(tmp_path: Path, picture: Picture) -> None:
    """Of several video streams the one that players show is read, by itself."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, size in zip(streams, [(48, 64), (96, 160)], strict=True):
            stream.height, stream.width = size
        for index in range(10):
            for stream in streams:
                size = (stream.height, stream.width)
                frame = av.VideoFrame.from_ndarray(picture(index, size))
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    frames = read(path)
    assert len(frames) == 10
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}  # Matroska's default


def test_cover_picture_is_no_video(tmp_path: Path) -> None:
    """A song with a cover has no video stream."""
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1_024), np.float32), format="fltp")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no video stream"):
        read(path)


def test_huge_frames_are_refused(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that claims frames beyond the limit for images is refused before it is decoded."""
    monkeypatch.setattr(opening, "MAX_PIXELS", 10_000)
    with pytest.raises(InputError, match=r"160 x 96 pixels, more than the 10000"):
        read(make_clip())


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12"])
@pytest.mark.parametrize("size", [(32, 48), (31, 47)])
def test_pictures_are_not_touched(
    picture: Picture, size: tuple[int, int], pixel_format: str
) -> None:
    """Writing takes read-only and sliced pictures, leaves them as they are and keeps none."""
    whole = np.repeat(picture(0, size), 2, axis=1)
    image = whole[:, ::2]
    image.setflags(write=False)
    convert = ToYuv(size, pixel_format=pixel_format)
    yuv = convert(image)
    before = yuv.to_ndarray()
    whole[:] = 0
    np.testing.assert_array_equal(yuv.to_ndarray(), before)
    even = ToRgb((yuv.height, yuv.width), turns=0)(yuv)
    assert even.mean() > 20
