"""Tests of writing video with the time stamps and the sound of its source."""

import errno
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.media.video import VideoReader, VideoWriter

MakeClip = Callable[..., Path]
Picture = Callable[[int, tuple[int, int]], npt.NDArray[np.uint8]]


def copy(source: Path, target: Path, *, max_frames: int | None = None) -> Path:
    """Write a clip anew, frame by frame."""
    with (
        VideoReader(source, max_frames=max_frames) as reader,
        VideoWriter(target, source=reader) as out,
    ):
        for frame in reader:
            out.write(frame.image, frame)
    return target


def times(path: Path) -> list[float]:
    """Return the time stamps of a clip's frames, in seconds."""
    with VideoReader(path) as reader:
        return [frame.time for frame in reader]


def sound(path: Path, track: int = 0) -> list[tuple[float, bytes]]:
    """Return the time stamp in seconds and the bytes of every audio packet."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[track])
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size]


def boxes(path: Path) -> Iterator[str]:
    """Yield the names of an MP4's top-level boxes in order."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        yield data[place + 4 : place + 8].decode()
        place += int.from_bytes(data[place : place + 4])


def test_plays_in_browsers(make_clip: MakeClip, tmp_path: Path) -> None:
    """The file is H.264, yuv420p, limited BT.709, with its header before its data."""
    path = copy(make_clip(), tmp_path / "out.mp4")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range) == (1, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)
    order = list(boxes(path))
    assert order.index("moov") < order.index("mdat")


@pytest.mark.parametrize(
    ("stamps", "time_base"),
    [
        ([0, 400, 1_700, 9_000, 9_001, 20_000], Fraction(1, 25_000)),
        ([30_000, 31_001, 33_003, 60_000], Fraction(1, 30_000)),
        (list(range(100)), Fraction(1, 25)),
        ([7], Fraction(1, 90_000)),
    ],
)
def test_time_stamps_are_the_source_s(
    make_clip: MakeClip, tmp_path: Path, stamps: list[int], time_base: Fraction
) -> None:
    """Time stamps, the first included, are those of the source, however uneven the rate."""
    source = make_clip(stamps=stamps, time_base=time_base)
    result = times(copy(source, tmp_path / "out.mp4"))
    assert result == pytest.approx([float(pts * time_base) for pts in stamps], abs=1e-3)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi"])
def test_other_containers_keep_their_time_stamps(
    make_clip: MakeClip, tmp_path: Path, name: str
) -> None:
    """Millisecond, 90 kHz and frame clocks survive, sound included."""
    codec = "mpeg4" if name == "a.avi" else "libx264"
    source = make_clip(
        name, stamps=range(25), time_base=Fraction(1, 25), codec=codec, audio="libmp3lame"
    )
    result = copy(source, tmp_path / "out.mp4")
    assert times(result) == pytest.approx(times(source), abs=1e-3)
    shift = np.subtract(*[[time for time, _ in sound(path)][:20] for path in (result, source)])
    assert np.abs(shift).max() < 1e-3


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "ac3"])
def test_sound_is_copied_byte_for_byte(make_clip: MakeClip, tmp_path: Path, codec: str) -> None:
    """Packets that MP4 can carry come through unchanged, at their own times."""
    source = make_clip(stamps=range(0, 50_000, 1_000), audio=codec)
    result = sound(copy(source, tmp_path / "out.mp4"))
    assert [data for _, data in result] == [data for _, data in sound(source)]
    assert [time for time, _ in result] == pytest.approx([t for t, _ in sound(source)], abs=1e-3)


def test_opus_is_copied(make_clip: MakeClip, tmp_path: Path) -> None:
    """Opus moves from Matroska to MP4 unchanged."""
    source = make_clip("a.mkv", time_base=Fraction(1, 25), stamps=range(12), audio="libopus")
    result = copy(source, tmp_path / "out.mp4")
    assert [data for _, data in sound(result)] == [data for _, data in sound(source)]


def test_other_sound_becomes_aac(make_clip: MakeClip, tmp_path: Path) -> None:
    """What MP4 cannot carry is encoded again, and stays in step."""
    source = make_clip("a.mkv", time_base=Fraction(1, 25), stamps=range(50), audio="pcm_s16le")
    result = copy(source, tmp_path / "out.mp4")
    with av.open(str(result)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        frames = list(container.decode(audio=0))
    wave = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    start = round(float(frames[0].pts * frames[0].time_base) * 48_000)
    expected = 0.3 * np.sin(2 * np.pi * 440 * (start + np.arange(len(wave))) / 48_000)
    assert np.abs(wave[4_800:-4_800] - expected[4_800:-4_800]).max() < 0.05
    assert len(wave) / 48_000 == pytest.approx(2, abs=0.05)


def test_cut_clips_have_cut_sound(make_clip: MakeClip, tmp_path: Path) -> None:
    """With `max_frames` the sound ends within a packet of the picture's end."""
    source = make_clip(stamps=range(0, 50_000, 1_000), audio="aac")
    result = sound(copy(source, tmp_path / "out.mp4", max_frames=20))
    assert result == sound(source)[: len(result)]
    last = result[-1][0]
    assert last < 0.8 <= last + 1_025 / 48_000


def test_longer_sound_is_kept_whole(make_clip: MakeClip, tmp_path: Path) -> None:
    """When the picture is complete, so is a sound that outlasts it."""
    source = make_clip(stamps=range(0, 10_000, 1_000), audio="aac", audio_seconds=3)
    assert sound(copy(source, tmp_path / "out.mp4")) == sound(source)


def test_no_sound_stays_silent(make_clip: MakeClip, tmp_path: Path) -> None:
    """A silent source gives a file without an audio stream."""
    with av.open(str(copy(make_clip(), tmp_path / "out.mp4"))) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("size", [(95, 160), (96, 161), (33, 47), (1, 1)])
def test_odd_sizes_are_padded_not_scaled(
    tmp_path: Path, picture: Picture, size: tuple[int, int]
) -> None:
    """An odd row or column is repeated; the picture itself keeps its place."""
    image = picture(0, size)
    with VideoWriter(tmp_path / "a.mp4", size=size, rate=Fraction(25), crf=1) as out:
        out.write(image)
    with VideoReader(tmp_path / "a.mp4") as reader:
        (frame,) = reader
    height, width = size
    assert frame.image.shape == (height + height % 2, width + width % 2, 3)
    padded = np.pad(image, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    assert np.abs(frame.image.astype(int) - padded).mean() < 4


@pytest.mark.parametrize(("rotation", "aspect"), [(0, Fraction(4, 3)), (90, Fraction(3, 4))])
def test_wide_pixels_stay_wide(
    make_clip: MakeClip, tmp_path: Path, rotation: int, aspect: Fraction
) -> None:
    """Anamorphic clips keep their shape on the screen, turned ones too."""
    source = make_clip(pixel_aspect=Fraction(4, 3), rotation=rotation)
    with av.open(str(copy(source, tmp_path / "out.mp4"))) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect


@pytest.mark.parametrize("height", [96, 720])
def test_colours_survive(tmp_path: Path, picture: Picture, height: int) -> None:
    """A round trip shifts no colour: small errors and no bias in any channel."""
    image = picture(0, (height, 160))
    with VideoWriter(tmp_path / "a.mp4", size=(height, 160), rate=Fraction(25), crf=8) as out:
        out.write(image)
    with VideoReader(tmp_path / "a.mp4") as reader:
        (frame,) = reader
    difference = frame.image.astype(int) - image
    assert np.abs(difference).mean() < 2
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.5


def test_frames_without_a_source_follow_the_rate(tmp_path: Path, picture: Picture) -> None:
    """Pictures made from nothing are a step of the rate apart."""
    rate = Fraction(30_000, 1_001)
    with VideoWriter(tmp_path / "a.mp4", size=(96, 160), rate=rate) as out:
        for index in range(10):
            out.write(picture(index, (96, 160)))
    expected = [float(index / rate) for index in range(10)]
    assert times(tmp_path / "a.mp4") == pytest.approx(expected, abs=1e-3)


def test_last_frame_keeps_its_length(make_clip: MakeClip, tmp_path: Path) -> None:
    """The new file lasts as long as the source."""
    source = make_clip(stamps=range(0, 50_000, 1_000))
    result = copy(source, tmp_path / "out.mp4")
    with VideoReader(source) as before, VideoReader(result) as after:
        assert after.duration == pytest.approx(before.duration, abs=1e-3)


def test_file_appears_at_the_end(tmp_path: Path, picture: Picture) -> None:
    """While it is written there is only a part; afterwards only the file."""
    with VideoWriter(tmp_path / "a.mp4", size=(96, 160), rate=Fraction(25)) as out:
        out.write(picture(0, (96, 160)))
        (part,) = tmp_path.iterdir()
        assert part.suffix == ".part"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(
    make_clip: MakeClip, tmp_path: Path, error: type[BaseException]
) -> None:
    """After an exception neither the file nor its part is there."""
    source = make_clip(audio="aac")

    def fail() -> None:
        with VideoReader(source) as reader, VideoWriter(tmp_path / "a.mp4", source=reader) as out:
            for frame in reader:
                out.write(frame.image, frame)
                raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == [source]


def test_broken_source_can_be_finalised(make_clip: MakeClip, tmp_path: Path) -> None:
    """Catching the source's error inside the block keeps the frames and sound before it."""
    source = make_clip("a.mkv", stamps=range(100), time_base=Fraction(1, 25), audio="aac")
    whole = sound(source)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with VideoReader(source) as reader, VideoWriter(tmp_path / "a.mp4", source=reader) as out:
        try:
            for frame in reader:
                out.write(frame.image, frame)
        except InputError:
            assert not reader.finished
        else:
            pytest.fail("the damage was not noticed")
    assert 20 < len(times(tmp_path / "a.mp4")) < 80
    kept = sound(tmp_path / "a.mp4")
    assert [data for _, data in kept] == [data for _, data in whole[: len(kept)]]
    end = times(tmp_path / "a.mp4")[-1] + 0.04
    assert end - 0.5 < kept[-1][0] < end  # packets lie a little off their place in a file


def test_time_running_back_is_straightened(make_clip: MakeClip, tmp_path: Path) -> None:
    """Frames given in a wrong order still make a valid file."""
    with VideoReader(make_clip()) as reader, VideoWriter(tmp_path / "a.mp4", source=reader) as out:
        for frame in reversed(list(reader)):
            out.write(frame.image, frame)
    result = times(tmp_path / "a.mp4")
    assert len(result) == 12
    assert all(before < after for before, after in pairwise(result))


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    """A picture of another size is an error that names both sizes."""
    out = VideoWriter(tmp_path / "a.mp4", size=(96, 160), rate=Fraction(25))
    with pytest.raises(InputError, match=r"\(2, 2, 3\), expected \(96, 160, 3\)"):
        out.write(np.zeros((2, 2, 3), np.uint8))
    out.abort()
    assert not list(tmp_path.iterdir())


def test_no_frames_no_file(tmp_path: Path) -> None:
    """A video without frames is an error, not an empty file."""
    out = VideoWriter(tmp_path / "a.mp4", size=(96, 160), rate=Fraction(25))
    with pytest.raises(OutputError, match="at least one frame"):
        out.close()
    assert not list(tmp_path.iterdir())


def test_size_and_rate_are_needed(tmp_path: Path) -> None:
    """Without a source, size and rate must be given."""
    with pytest.raises(InputError, match="give both"):
        VideoWriter(tmp_path / "a.mp4", size=(2, 2))


def test_missing_folder(tmp_path: Path) -> None:
    """A missing folder is found out at once, not after the work."""
    with pytest.raises(OutputError, match="folder does not exist"):
        VideoWriter(tmp_path / "no" / "a.mp4", size=(96, 160), rate=Fraction(25))


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up at the very end is one sentence and leaves nothing behind."""

    def fill(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write() -> None:
        with VideoWriter(tmp_path / "a.mp4", size=(96, 160), rate=Fraction(25)) as out:
            out.write(np.zeros((96, 160, 3), np.uint8))
            monkeypatch.setattr(Path, "replace", fill)

    with pytest.raises(OutputError, match="disk is full"):
        write()
    assert not list(tmp_path.iterdir())


def test_several_sound_tracks(make_clip: MakeClip, tmp_path: Path) -> None:
    """Every sound track of the source is kept."""
    first, source = make_clip("one.mp4", audio="aac"), tmp_path / "two.mkv"
    with av.open(str(first)) as single, av.open(str(source), "w") as double:
        video = double.add_stream_from_template(single.streams.video[0])
        tracks = [double.add_stream_from_template(single.streams.audio[0]) for _ in range(2)]
        for packet in single.demux():
            for target in [video] if packet.stream.type == "video" else tracks:
                if packet.size:
                    packet.stream = target
                    double.mux(packet)
    result = copy(source, tmp_path / "out.mp4")
    for track in range(2):
        assert [d for _, d in sound(result, track)] == [d for _, d in sound(source, track)]


def test_damaged_sound_is_the_source_s_fault(make_clip: MakeClip, tmp_path: Path) -> None:
    """Sound whose description is broken is an error about the source; no file is left."""
    source = make_clip("a.mkv", time_base=Fraction(1, 25), stamps=range(12), audio="libopus")
    codec_private, unknown = b"\x63\xa2\x93OpusHead", b"\x63\xa3\x93OpusHead"
    source.write_bytes(source.read_bytes().replace(codec_private, unknown))
    with pytest.raises(InputError, match=r"a\.mkv has damaged sound"):
        copy(source, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == [source]


def test_real_video(shared_data: Path, tmp_path: Path) -> None:
    """The first 30 frames of a phone clip keep their time stamps and sound."""
    source = shared_data / "video" / "01_dog.mp4"
    result = copy(source, tmp_path / "out.mp4", max_frames=30)
    assert times(result) == pytest.approx([n * 1_001 / 30_000 for n in range(30)], abs=1e-3)
    kept = sound(result)
    assert kept == sound(source)[: len(kept)]
    assert kept[-1][0] == pytest.approx(1.0, abs=0.025)
