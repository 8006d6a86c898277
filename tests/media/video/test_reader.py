"""Tests of reading video."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.media.video import Frame, VideoReader, is_video

MakeClip = Callable[..., Path]


def read(path: Path, *, max_frames: int | None = None) -> list[Frame]:
    """Read all frames of a clip."""
    with VideoReader(path, max_frames=max_frames) as reader:
        return list(reader)


def halve(path: Path) -> Path:
    """Cut a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def header_first(path: Path) -> Path:
    """Copy an MP4 so that its header comes before its frames."""
    target = path.with_name("first.mp4")
    with (
        av.open(str(path)) as source,
        av.open(str(target), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return target


def test_properties(make_clip: MakeClip) -> None:
    """Size, rate, length and number of frames are known before the first frame is read."""
    with VideoReader(make_clip()) as reader:
        assert reader.size == (96, 160)
        assert reader.rate == 25
        assert reader.frame_count == 12
        assert reader.duration == pytest.approx(0.48)


def test_variable_rate_keeps_its_time_stamps(make_clip: MakeClip) -> None:
    """Frames carry the time stamps of the file, however uneven."""
    stamps = [0, 400, 1_700, 9_000, 9_001, 20_000]
    frames = read(make_clip(stamps=stamps))
    assert [frame.pts * frame.time_base for frame in frames] == [
        Fraction(pts, 25_000) for pts in stamps
    ]
    assert [frame.index for frame in frames] == list(range(6))
    assert frames[3].time == pytest.approx(0.36)


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.ts", "a.mov"])
def test_containers(make_clip: MakeClip, name: str) -> None:
    """Other containers give all frames, in order, a constant step apart."""
    codec = "mpeg4" if name == "a.avi" else "libx264"
    frames = read(make_clip(name, time_base=Fraction(1, 25), stamps=range(12), codec=codec))
    assert np.diff([frame.time for frame in frames]) == pytest.approx(0.04, abs=1e-3)
    assert len(frames) == 12


def test_colours_are_right(make_clip: MakeClip, picture: Callable[..., np.ndarray]) -> None:
    """A clip written losslessly in RGB reads back as drawn."""
    (frame,) = read(make_clip(codec="libx264rgb", stamps=[0], crf="0"))
    np.testing.assert_array_equal(frame.image, picture(0, (96, 160)))


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_rotation_is_applied(make_clip: MakeClip, rotation: int, turns: int) -> None:
    """A phone's clip, marked as rotated, is stood up."""
    lying = read(make_clip("lying.mp4", stamps=[0]))[0].image
    with VideoReader(make_clip("marked.mp4", stamps=[0], rotation=rotation)) as reader:
        (frame,) = reader
    np.testing.assert_array_equal(frame.image, np.rot90(lying, turns))
    assert reader.size == frame.image.shape[:2]


@pytest.mark.parametrize(("max_frames", "count"), [(5, 5), (12, 12), (99, 12), (None, 12)])
def test_max_frames(make_clip: MakeClip, max_frames: int | None, count: int) -> None:
    """At most so many frames are read and announced; `finished` tells if those are all."""
    with VideoReader(make_clip(), max_frames=max_frames) as reader:
        assert reader.frame_count == count
        assert not reader.finished
        assert len(list(reader)) == count
        assert reader.finished == (max_frames in {99, None})


@pytest.mark.parametrize("max_frames", [0, -1])
def test_no_frames_wanted(make_clip: MakeClip, max_frames: int) -> None:
    """Fewer than one frame cannot be asked for."""
    with pytest.raises(ConfigError, match=f"Got max_frames {max_frames}, expected 1 or more"):
        VideoReader(make_clip(), max_frames=max_frames)


def test_single_frame(make_clip: MakeClip) -> None:
    """A clip of one frame is a clip."""
    assert len(read(make_clip(stamps=[0]))) == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_cut_files_give_their_good_frames_first(make_clip: MakeClip, name: str) -> None:
    """A file cut in the middle yields what is there, then says what is missing."""
    codec = "mpeg4" if name == "a.avi" else "libx264"
    clip = make_clip(name, stamps=range(100), time_base=Fraction(1, 25), codec=codec, bf="0")
    if name == "a.mp4":
        clip = header_first(clip)
    frames: list[Frame] = []
    with VideoReader(halve(clip)) as reader:
        with pytest.raises(InputError, match=r"damaged or cut off"):
            frames.extend(reader)  # extends frame by frame until the error
        assert not reader.finished
    assert 20 <= len(frames) <= 80


def repeat_a_frame(path: Path) -> Path:
    """Write an early frame over a late one: decoders drop what comes a second time."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    early, late = min(packets[1:10], key=len), max(packets[15:25], key=len)
    filler = (len(late) - len(early) - 4) * b"\x0c"
    data = path.read_bytes()
    assert data.count(late) == 1
    path.write_bytes(data.replace(late, early + len(filler).to_bytes(4, "big") + filler))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_lost_in_the_middle_are_told(make_clip: MakeClip, name: str) -> None:
    """Frames that the decoder drops in silence are an error, after all the others."""
    clip = make_clip(name, stamps=range(30), time_base=Fraction(1, 25), bf="0", crf="18")
    frames: list[Frame] = []
    with (
        VideoReader(repeat_a_frame(clip)) as reader,
        pytest.raises(InputError, match=r"\d frames in the middle are missing") as caught,
    ):
        frames.extend(reader)
    assert f"({30 - len(frames)} frames" in str(caught.value)
    assert frames[-1].time == pytest.approx(29 / 25)


def test_cut_in_an_open_group_is_no_damage(make_clip: MakeClip) -> None:
    """Frames that rest on others cut away before them are not missed."""
    clip = make_clip(
        "a.mkv",
        stamps=range(0, 1_200, 40),
        time_base=Fraction(1, 1_000),
        **{"x264-params": "keyint=10:min-keyint=10:scenecut=0:open-gop=1:bframes=3:b-adapt=0"},
    )
    target = clip.with_name("cut.mkv")
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        second = [i for i, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[second:]:
            packet.stream = stream
            out.mux(packet)
    assert 0 < len(read(target)) < len(packets) - second


def test_header_lost(make_clip: MakeClip) -> None:
    """An MP4 whose header was at its lost end is no video."""
    with pytest.raises(InputError, match="not a video that can be read"):
        read(halve(make_clip()))


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(InputError, match=r"a\.mp4 does not exist, expected a video"):
        VideoReader(tmp_path / "a.mp4")


def test_empty_file(tmp_path: Path) -> None:
    """A file of zero bytes is called empty."""
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match=r"empty \(0 bytes\)"):
        VideoReader(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.txt"])
def test_text_is_no_video(tmp_path: Path, name: str) -> None:
    """A text file is refused though FFmpeg can play text."""
    (tmp_path / name).write_text("hello " * 1_000)
    with pytest.raises(InputError):
        VideoReader(tmp_path / name)
    assert not is_video(tmp_path / name)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    """A file with sound only has no video stream, not even with a cover picture."""
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1_600), np.int16), layout="stereo")
        frame.sample_rate = 8_000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="no video stream"):
        VideoReader(path)


def test_a_header_without_frames(make_clip: MakeClip, tmp_path: Path) -> None:
    """A video stream without a frame is an error when it is opened."""
    clip = make_clip("a.mkv")
    data = clip.read_bytes()
    (tmp_path / "b.mkv").write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # the first cluster
    with pytest.raises(InputError):
        VideoReader(tmp_path / "b.mkv")


def test_colons_are_no_protocol(make_clip: MakeClip) -> None:
    """A colon in a name is not taken for a URL."""
    clip = make_clip()
    assert len(read(clip.rename(clip.with_name("take:1.mp4")))) == 12


def test_unspecified_matrix_is_guessed_by_height(make_clip: MakeClip) -> None:
    """Files that do not name their matrix are read as players do: 601 for SD, 709 for HD."""
    low, high = (
        read(make_clip(f"{height}.mp4", stamps=[0], size=(height, 64)))[0].image.astype(int)
        for height in (480, 720)
    )
    difference = np.abs(low[::40, 32] - high[::60, 32]).mean()
    assert difference > 2


def test_is_video(make_clip: MakeClip, tmp_path: Path) -> None:
    """A clip is a video whatever its suffix; a missing file is none."""
    clip = make_clip()
    assert is_video(clip.rename(tmp_path / "clip.dat"))
    assert not is_video(tmp_path / "no")


def test_real_video(shared_data: Path) -> None:
    """The first 30 frames of a real phone clip have their size, rate and even time stamps."""
    with VideoReader(shared_data / "video" / "01_dog.mp4", max_frames=30) as reader:
        frames = list(reader)
    assert reader.size == (720, 1280)
    assert reader.rate == Fraction(30_000, 1_001)
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) * 1_001 / 30_000, atol=1e-9)
    assert frames[0].image.std() > 20


def test_a_named_image_is_not_needed(tmp_path: Path) -> None:
    """A picture opened as a video is a clip of one frame, not a crash."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    (frame,) = read(tmp_path / "a.png")
    assert frame.image[8, 8].tolist() == [255, 0, 0]
