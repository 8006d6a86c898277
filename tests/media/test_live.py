"""Tests of telling live inputs, and of keeping their passwords to ourselves."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.media.live import is_live, live_name, redact


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://host/a",
        "RTMP://host",
        "http://host/a.m3u8",
        "https://[::1]:80/",
        "udp://@:1234",
        "tcp://1.2.3.4:5",
        "srt://host:9?mode=caller",
        "camera:0",
        "/dev/video12",
    ],
)
def test_live_inputs(text: str) -> None:
    """Addresses of streams and cameras are live."""
    assert is_live(text)


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4",
        "camera:",
        "camera:x",
        "camera:0.mp4",
        "/dev/null",
        "/dev/video",
        "dev/video0",
        "file:///a.mp4",
        "s3://bucket/a.mp4",
        "http:/a",
        "C:/a.mp4",
        "rtsp:",
        "a/rtsp://b",
    ],
)
def test_other_inputs(text: str) -> None:
    """Files, also oddly named ones, and other addresses are not."""
    assert not is_live(text)


@pytest.mark.parametrize(
    ("location", "shown", "name"),
    [
        (
            "rtsp://me:word@10.0.0.5:554/cam/1",
            "rtsp://***@10.0.0.5:554/cam/1",
            "10.0.0.5-554-cam-1",
        ),
        ("rtsp://cam/live?password=x#y", "rtsp://cam/live?***", "cam-live"),
        ("rtsp://cam/user=a_password=b.sdp", "rtsp://cam/***", "cam"),
        ("http://[::1]:8080/../x.m3u8", "http://[::1]:8080/../x.m3u8", "1-8080-..-x.m3u8"),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234", "239.0.0.1-1234"),
        ("SRT://", "SRT://", "srt"),
        ("camera:0", "camera:0", "camera-0"),
        ("/dev/video0", "/dev/video0", "video0"),
    ],
)
def test_names_of_live_inputs(location: str, shown: str, name: str) -> None:
    """Secrets are hidden in messages and left out of names."""
    assert redact(location) == shown
    assert live_name(location) == name


def test_files_are_not_redacted() -> None:
    """A file may be called anything."""
    assert redact("a@b?c=d.mp4") == "a@b?c=d.mp4"


@given(
    user=st.text(min_size=1),
    word=st.text(min_size=1),
    scheme=st.sampled_from(["rtsp", "http", "ftp"]),
)
def test_passwords_never_show(user: str, word: str, scheme: str) -> None:
    """Whatever characters they have, encoded or not, user and password are gone."""
    address = f"{scheme}://{user}:{word}@host/live"
    assert redact(address) == f"{scheme}://***@host/live"
    assert live_name(address) == "host-live"


@given(st.text(st.characters(exclude_categories=())))
def test_names_are_safe(rest: str) -> None:
    """Any address gives a short visible file name that every system takes."""
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", live_name(f"rtsp://{rest}"))
