"""Tests of reading a part of a video, and of the copy that is made of it."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.media.video import Frame, VideoReader, VideoWriter
from atas_deploy.media.video.span import Clock, Span

MakeClip = Callable[..., Path]

OPEN_GROUPS = {"x264-params": "keyint=10:min-keyint=10:scenecut=0:open-gop=1:bframes=3:b-adapt=0"}


def read(path: Path, *, start: float | None = None, end: float | None = None) -> list[Frame]:
    """Read the frames of a part of a clip."""
    with VideoReader(path, start=start, end=end) as reader:
        return list(reader)


def sound(path: Path) -> list[tuple[float, bytes]]:
    """Return the time stamp in seconds and the bytes of every audio packet."""
    with av.open(str(path)) as container:
        packets = container.demux(audio=0)
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size]


def flashes(path: Path, size: tuple[int, int] = (64, 96)) -> Path:
    """Write a clip whose third and seventh second are white and loud, in PCM sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "40"})
        video.height, video.width = size
        audio = container.add_stream("pcm_s16le", rate=48_000)
        for index in range(200):
            on = index // 25 in {2, 6}
            picture = np.full((*size, 3), 255 * on, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
            wave = np.full((1, 2 * 1_920), 9_000 * on, np.int16)
            block = av.AudioFrame.from_ndarray(wave, format="s16", layout="stereo")
            block.sample_rate, block.pts = 48_000, 1_920 * index
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def delayed(source: Path, target: Path, *, hours: int = 7) -> Path:
    """Copy a clip so that its time begins hours late."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        streams = {s.index: after.add_stream_from_template(s) for s in before.streams}
        for packet in before.demux():
            if packet.size:
                shift = round(3_600 * hours / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    return target


def switches(values: np.ndarray, seconds: np.ndarray) -> list[float]:
    """Return the times at which a signal passes half of its greatest value."""
    loud = values > values.max() / 2
    return [float(seconds[place + 1]) for place in np.flatnonzero(loud[1:] != loud[:-1])]


def heard(path: Path) -> Iterator[tuple[float, float]]:
    """Yield time and loudness of a file's sound, each hundredth of a second."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()[0].astype(float)
            for place in range(0, len(samples), 480):
                yield frame.time + place / 48_000, float(np.abs(samples[place : place + 480]).max())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.h264"])
@pytest.mark.parametrize(("start", "end"), [(2.0, 3.0), (1.48, None), (None, 0.4), (3.96, None)])
def test_a_part_is_the_same_as_in_the_whole(
    make_clip: MakeClip, name: str, start: float | None, end: float | None
) -> None:
    """Exactly the frames in [start, end) come, pixel for pixel, whatever the key frames."""
    options = {"codec": "mpeg4", "g": "10"} if name == "a.avi" else {"codec": "libx264"}
    if name != "a.avi":
        options |= OPEN_GROUPS
    clip = make_clip(name, stamps=range(100), time_base=Fraction(1, 25), **options)
    whole = read(clip)
    wanted = [f for f in whole if (start or 0) - 1e-6 <= f.time < (end or 1e9) - 1e-6]
    part = read(clip, start=start, end=end)
    assert [frame.time for frame in part] == [frame.time for frame in wanted]
    assert [frame.index for frame in part] == list(range(len(wanted)))
    for one, other in zip(part, wanted, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_only_the_part_is_decoded(make_clip: MakeClip) -> None:
    """Damage before the start does no harm: the reader jumps over it."""
    clip = make_clip(
        "a.mkv", stamps=range(250), time_base=Fraction(1, 25), g="25", bf="0", crf="30"
    )
    with av.open(str(clip)) as container:
        data = max(
            (bytes(p) for p in container.demux(video=0) if p.size and p.pts < 5_000), key=len
        )
    clip.write_bytes(clip.read_bytes().replace(data, bytes(len(data))))
    assert len(read(clip, start=8, end=9)) == 25
    with pytest.raises(InputError, match="damaged"):
        read(clip)


@pytest.mark.parametrize(
    ("start", "end", "max_frames", "count"),
    [(2, 3, None, 25), (1, None, None, 75), (None, 2, 99, 50), (2, 3, 7, 7), (3.5, 99, None, 12)],
)
def test_count_is_of_the_part(
    make_clip: MakeClip, start: float | None, end: float | None, max_frames: int | None, count: int
) -> None:
    """The estimated number of frames honours start, end and max_frames."""
    clip = make_clip(stamps=range(100), time_base=Fraction(1, 25))
    with VideoReader(clip, start=start, end=end, max_frames=max_frames) as reader:
        assert reader.frame_count == pytest.approx(count, abs=1)
        assert len(list(reader)) == pytest.approx(count, abs=1)
        assert reader.finished == (end in {None, 99})


def test_rounded_times_find_their_frame(make_clip: MakeClip) -> None:
    """A time taken from the results, with six digits, starts at that very frame."""
    stamps = range(0, 30 * 1_001, 1_001)
    clip = make_clip(stamps=stamps, time_base=Fraction(1, 30_000), rate=30)
    assert read(clip, start=round(7_007 / 30_000, 6))[0].pts * Fraction(1, 30_000) == Fraction(
        7_007, 30_000
    )


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1, None), (None, -1), (float("nan"), None), (None, float("inf")), (2, 2), (3, 1), (0, 0)],
)
def test_impossible_times(make_clip: MakeClip, start: float | None, end: float | None) -> None:
    """Negative, infinite and reversed times are refused."""
    with pytest.raises(ConfigError, match=r"^Got "):
        VideoReader(make_clip(), start=start, end=end)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.h264"])
@pytest.mark.parametrize("start", [4.0, 5.0, 10_000.0])
def test_start_behind_the_end(make_clip: MakeClip, name: str, start: float) -> None:
    """A start behind the end is an error that tells how long the video is."""
    clip = make_clip(name, stamps=range(100), time_base=Fraction(1, 25), bf="0")
    with pytest.raises(InputError, match=r"has no frame from .* on: it goes from 0\.00 s to (3|4)"):
        read(clip, start=start)


def test_end_before_the_first_frame(make_clip: MakeClip) -> None:
    """A file whose time begins later than the end says when it begins."""
    clip = make_clip(stamps=range(50_000, 75_000, 1_000))
    with pytest.raises(InputError, match=r"before 1 s: it goes from 2\.00 s to 3\.00 s"):
        read(clip, end=1)


@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])
def test_sound_stays_in_step(tmp_path: Path, name: str) -> None:
    """In a copy that starts in the middle, light and sound still change at the same time."""
    source, target = flashes(tmp_path / name), tmp_path / "out.mp4"
    with (
        VideoReader(source, start=1.52, end=7.52) as reader,
        VideoWriter(target, source=reader) as out,
    ):
        for frame in reader:
            out.write(frame.image, frame)
    seen = read(target)
    bright = switches(np.array([f.image.mean() for f in seen]), np.array([f.time for f in seen]))
    times, levels = map(np.array, zip(*heard(target), strict=True))
    assert seen[0].time == 0
    assert bright == pytest.approx([0.48, 1.48, 4.48, 5.48], abs=1e-3)
    assert switches(levels, times) == pytest.approx(bright, abs=0.03)
    assert times[0] == pytest.approx(0, abs=0.03)
    assert times[-1] == pytest.approx(6, abs=0.05)


@pytest.mark.parametrize(
    ("name", "audio"), [("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.avi", "libmp3lame")]
)
def test_copied_sound_is_shifted(
    make_clip: MakeClip, tmp_path: Path, name: str, audio: str
) -> None:
    """Packets of a copy come unchanged, each earlier by the start."""
    codec = "mpeg4" if name == "a.avi" else "libx264"
    source = make_clip(
        name, stamps=range(100), time_base=Fraction(1, 25), audio=audio, codec=codec, g="30"
    )
    target = tmp_path / "out.mp4"
    with VideoReader(source, start=2) as reader, VideoWriter(target, source=reader) as out:
        for frame in reader:
            out.write(frame.image, frame)
    wanted = [(time - 2, data) for time, data in sound(source) if time >= 2]
    copied = sound(target)
    assert [data for _, data in copied] == [data for _, data in wanted]
    assert [t for t, _ in copied] == pytest.approx([t for t, _ in wanted], abs=1e-3)


def test_late_clocks_start_at_zero_in_a_copy(make_clip: MakeClip, tmp_path: Path) -> None:
    """A broadcast whose time stamps begin hours late is not copied with hours of nothing."""
    clip = delayed(make_clip(stamps=range(0, 25_000, 1_000), audio="aac"), tmp_path / "a.ts")
    with VideoReader(clip) as reader, VideoWriter(tmp_path / "b.mp4", source=reader) as out:
        for frame in reader:
            assert frame.time > 3_600
            out.write(frame.image, frame)
    assert read(tmp_path / "b.mp4")[0].time == 0
    assert sound(tmp_path / "b.mp4")[0][0] < 0.1


@settings(deadline=None, max_examples=100)
@given(stamps=st.lists(st.none() | st.integers(-(10**6), 10**6), min_size=1, max_size=20))
def test_live_clocks_never_run_back(stamps: list[int | None]) -> None:
    """Whatever a live stream stamps, its time begins with 0, grows, and never by over 10 s."""
    clock = Clock(time_base=Fraction(1, 1_000), step=40, live=True)
    times = [clock.stamp(pts) for pts in stamps]
    assert times[0] == 0
    steps = np.diff(times)
    assert np.all(steps > 0)
    assert np.all(steps <= 10_000)


def test_clocks_of_files_are_kept() -> None:
    """A file's time stamps stay; missing ones continue at the rate."""
    clock = Clock(time_base=Fraction(1, 1_000), step=40, live=False)
    stamps = [None, None, 500, None, 90_000, 10]
    assert [clock.stamp(pts) for pts in stamps] == [0, 40, 500, 540, 90_000, 10]


def test_unknown_length() -> None:
    """How much of a video is wanted can be told if the end is."""
    assert Span(start=2, end=5).shorten(None, begin=0) == 3
    assert Span(start=2).shorten(None, begin=0) is None
    assert Span(start=2).shorten(1, begin=0) == 0
