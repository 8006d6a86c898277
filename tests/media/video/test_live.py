"""Tests of reading streams, from servers on this machine only."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from atas_deploy.core.errors import InputError
from atas_deploy.media.video import Frame, VideoReader, VideoWriter, live

MakeClip = Callable[..., Path]


class QuietFiles(SimpleHTTPRequestHandler):
    """Serves a folder without writing a log."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Stalling(BaseHTTPRequestHandler):
    """Sends the first half of a clip, then nothing, with the connection open."""

    content = b""
    stop = threading.Event()

    def do_GET(self) -> None:
        """Answer a request."""
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) // 2])
        self.wfile.flush()
        self.stop.wait(20)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    """Run a server and yield its address, which names a user and a password."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://kim:sesame@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for one second only."""
    monkeypatch.setattr(live, "OPEN_TIMEOUT", 1.0)
    monkeypatch.setattr(live, "READ_TIMEOUT", 1.0)


def read(location: str, **options: Any) -> list[Frame]:
    """Read all frames of a stream."""
    with VideoReader(location, **options) as reader:
        return list(reader)


def silent_port() -> socket.socket:
    """Listen on a port and never answer."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_http(make_clip: MakeClip, name: str) -> None:
    """A file on a web server gives all its frames, from time 0 on, and then ends."""
    clip = make_clip(name, stamps=range(25), time_base=Fraction(1, 25), audio="aac")
    with (
        serving(partial(QuietFiles, directory=clip.parent)) as address,
        VideoReader(f"{address}/{name}") as reader,
    ):
        frames = list(reader)
        assert reader.live
        assert reader.finished
        assert "sesame" not in reader.name
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(25)], abs=2e-3)


def test_http_part(make_clip: MakeClip) -> None:
    """Start and end count from the first frame that a stream sends."""
    clip = make_clip("a.ts", stamps=range(50), time_base=Fraction(1, 25))
    with serving(partial(QuietFiles, directory=clip.parent)) as address:
        times = [frame.time for frame in read(f"{address}/a.ts", start=1, end=1.5)]
    assert times == pytest.approx([n / 25 for n in range(25, 38)], abs=1e-3)


def test_a_stream_can_be_written(make_clip: MakeClip, tmp_path: Path) -> None:
    """A copy of a stream is a silent video of its frames."""
    clip = make_clip("a.ts", stamps=range(25), time_base=Fraction(1, 25), audio="aac")
    with (
        serving(partial(QuietFiles, directory=clip.parent)) as address,
        VideoReader(f"{address}/a.ts") as reader,
        VideoWriter(tmp_path / "b.mp4", source=reader) as out,
    ):
        for frame in reader:
            out.write(frame.image, frame)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].frames == 25
        assert not container.streams.audio


def test_stalled_stream(make_clip: MakeClip) -> None:
    """A server that falls silent yields its frames so far, then one sentence without password."""
    clip = make_clip("a.ts", stamps=range(200), time_base=Fraction(1, 25), size=(360, 640))
    handler = type("Handler", (Stalling,), {"content": clip.read_bytes()})
    frames: list[Frame] = []
    with serving(handler) as address:
        try:
            with (
                VideoReader(f"{address}/a.ts?token=sesame") as reader,
                pytest.raises(InputError, match=r"broke off \(no data came for 1 s\)") as caught,
            ):
                frames.extend(reader)
        finally:
            Stalling.stop.set()
    assert len(frames) > 10
    assert "sesame" not in str(caught.value)
    assert not reader.finished


@pytest.mark.parametrize("scheme", ["http", "rtsp", "tcp"])
def test_dead_server(scheme: str) -> None:
    """A server that accepts and then says nothing is given up; the message has no password."""
    with silent_port() as listener:
        address = f"{scheme}://kim:sesame@127.0.0.1:{listener.getsockname()[1]}/a"
        with pytest.raises(InputError, match=r"127\.0\.0\.1.* (did not answer|cannot)") as caught:
            read(address)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://kim:sesame@127.0.0.1:9/a.mp4", "refused"),
        ("rtsp://kim:sesame@127.0.0.1:9/a", "refused"),
        ("udp://127.0.0.1:49151", "did not answer within 1 s"),
        ("camera:987", r"^camera:987 cannot be opened"),
        ("/dev/video987", r"^/dev/video987 cannot be opened"),
    ],
)
def test_nothing_there(location: str, message: str) -> None:
    """No server and no camera are one sentence each."""
    with pytest.raises(InputError, match=message) as caught:
        read(location)
    assert "sesame" not in str(caught.value)


def test_lossy_stream(make_clip: MakeClip) -> None:
    """A stream joined in the middle, of which every tenth packet is lost, is no error."""
    clip = make_clip("a.ts", stamps=range(100), time_base=Fraction(1, 25), g="10", crf="10")
    data = clip.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    kept = [packet for index, packet in enumerate(packets[len(packets) // 5 :]) if index % 40]
    clip.write_bytes(b"".join(kept))
    with (
        serving(partial(QuietFiles, directory=clip.parent)) as address,
        VideoReader(f"{address}/a.ts") as reader,
    ):
        times = [frame.time for frame in reader]
        assert reader.finished
    assert 20 < len(times) < 90
    assert all(before < after for before, after in pairwise(times))


class MotionJpeg(BaseHTTPRequestHandler):
    """Sends JPEG after JPEG, as web cameras do."""

    def do_GET(self) -> None:
        """Answer a request."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for level in range(12):
            picture = np.full((48, 64, 3), 20 * level, np.uint8)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(0.02)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_web_camera() -> None:
    """Pictures without time stamps, as web cameras send them, are a video that runs forward."""
    frames: list[Frame] = []
    with (
        serving(MotionJpeg) as address,
        VideoReader(address) as reader,
        pytest.raises(InputError, match="broke off"),  # the format knows no end
    ):
        frames.extend(reader)
    assert len(frames) >= 11
    assert [frame.image.mean() for frame in frames[:11]] == pytest.approx(range(0, 220, 20), abs=2)
    assert all(before.time < after.time for before, after in pairwise(frames))


def test_missing_page(tmp_path: Path) -> None:
    """What a server says is passed on."""
    with (
        serving(partial(QuietFiles, directory=tmp_path)) as address,
        pytest.raises(InputError, match=r"cannot be opened \(server returned 404 Not Found\)"),
    ):
        read(f"{address}/a.mp4")


@pytest.mark.parametrize("content", ["hello " * 1_000, "<html><body>Log in</body></html>"])
def test_a_page_is_no_video(tmp_path: Path, content: str) -> None:
    """A text on a server is refused though FFmpeg can play text."""
    (tmp_path / "a.txt").write_text(content)
    with (
        serving(partial(QuietFiles, directory=tmp_path)) as address,
        pytest.raises(InputError),
    ):
        read(f"{address}/a.txt")


def test_missing_device_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras need a layer of the system that the build of PyAV may lack."""
    missing = "dshow" if live.sys.platform != "win32" else "v4l2"
    platform = {"dshow": "win32", "v4l2": "linux"}[missing]
    monkeypatch.setattr(live.sys, "platform", platform)
    with pytest.raises(InputError, match=f"this build of PyAV lacks {missing}: install another"):
        read("camera:0")


def test_udp(make_clip: MakeClip) -> None:
    """MPEG-TS over UDP is read until it falls silent, which is its way to end."""
    clip = make_clip("a.ts", stamps=range(50), time_base=Fraction(1, 25), g="5", bf="0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def send() -> None:
        """Send the clip again and again, since packets before the reader is there are lost."""
        data = clip.read_bytes()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for _ in range(3):
                for place in range(0, len(data), 1_316):
                    out.sendto(data[place : place + 1_316], ("127.0.0.1", port))
                    time.sleep(0.01)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with VideoReader(f"udp://127.0.0.1:{port}") as reader:
        times = [frame.time for frame in reader]
        assert reader.finished
    sender.join()
    assert len(times) > 25
    assert times[0] == 0
    assert all(after > before for before, after in pairwise(times))


def test_files_given_as_text(make_clip: MakeClip) -> None:
    """A text that is no address is a path."""
    assert len(read(str(make_clip()))) == 12
