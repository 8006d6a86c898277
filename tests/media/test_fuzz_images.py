"""Damaged pictures and odd paths: a result or one of our errors, nothing else, in little memory."""

import io
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from atas_deploy.core.errors import AtasError, InputError
from atas_deploy.media.images import read_image
from atas_deploy.media.live import live_name, redact
from atas_deploy.media.sources import find_sources

FORMATS: dict[str, dict[str, object]] = {
    **{name: {} for name in ("PNG", "JPEG", "GIF", "BMP", "PPM")},
    **{"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}},
    **({"AVIF": {}} if features.check("avif") else {}),
    **({"JPEG2000": {}} if features.check("jpg_2000") else {}),
}
MAX_PIXELS = 1_000_000
MOST_MEMORY = 256 * 1024  # kB; a picture of MAX_PIXELS takes 7 MB, libraries load on first use


def whole(format_name: str, mode: str) -> bytes:
    """Make the file of a small picture, with EXIF data where the format has room."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    buffer = io.BytesIO()
    image = Image.fromarray(pixels).convert(mode)
    image.save(buffer, format=format_name, exif=exif, **FORMATS[format_name])
    return buffer.getvalue()


@st.composite
def damaged(draw: st.DrawFn, format_name: str) -> bytes:
    """Flip bits and bytes, most of them in the header, cut the end off or put bytes in."""
    content = bytearray(whole(format_name, draw(st.sampled_from(["RGB", "L"]))))
    ends = st.sampled_from([64, 400, len(content)])
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, min(draw(ends), len(content)) - 1))
        if draw(st.booleans()):
            content[place] ^= 1 << draw(st.integers(0, 7))
        else:
            content[place] = draw(st.sampled_from([0, 1, 127, 128, 255]))
    if draw(st.booleans()):
        del content[draw(st.integers(1, len(content))) :]
    if draw(st.booleans()):
        place = draw(st.integers(0, len(content)))
        content[place:place] = draw(st.binary(max_size=20))
    return bytes(content)


@pytest.mark.parametrize("format_name", FORMATS)
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_pictures(tmp_path: Path, data: st.DataObject, format_name: str) -> None:
    """Whatever is flipped, cut or put in, (H, W, 3) uint8 or an InputError comes out."""
    path = tmp_path / "a.img"
    path.write_bytes(data.draw(damaged(format_name)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        image = read_image(path, max_pixels=MAX_PIXELS)
    except InputError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert 0 < image.size <= 3 * MAX_PIXELS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    """Bytes that never were a picture are an InputError."""
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError):
        read_image(tmp_path / "a.png", max_pixels=MAX_PIXELS)


PIECES = st.one_of(
    st.sampled_from(["\0", "\n", "\ud800", "\udcff", "é", " ", "-", "%s", "@", "#", "\\"]),
    st.sampled_from(["[", "]", "[!", "[]", "*", "**", "?", "/", ".", "~", "{", "//", ":"]),
    st.sampled_from(["in", "a.jpg", "b.PNG", "in/sub", "x" * 300, "x" * 5_000, "a.jpg?b=c", "0"]),
    st.sampled_from(["camera:", "rtsp://", "http://[", "s3://", "/dev/video0", "file:"]),
)


def inside(text: str) -> bool:
    """Tell whether a path stays below the current folder."""
    return not text.startswith(("/", "~")) and ".." not in text


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    inputs=st.lists(
        st.one_of(
            st.lists(PIECES, max_size=6).map("".join),
            st.text(st.characters(exclude_categories=()), max_size=20),
        ).filter(inside),
        min_size=1,
        max_size=4,
    ),
    shard=st.sampled_from([None, (1, 2), (0, 1), (5, 3)]),
    exclude=st.sampled_from([None, Path("in"), Path("in/sub"), Path("gone")]),
)
def test_odd_paths(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    shard: tuple[int, int] | None,
    exclude: Path | None,
) -> None:
    """Whatever is asked for, sources with unlike names or one of our errors come out."""
    folder = tmp_path_factory.getbasetemp() / "odd"
    for file in ("a.jpg", "in/a.jpg", "in/a.png", "in/b.PNG", "in/sub/[].jpg"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    monkeypatch.chdir(folder)
    try:
        found = find_sources(inputs, exclude=exclude, shard=shard)
    except AtasError as error:
        assert str(error)  # noqa: PT017
        return
    names = [source.name.casefold() for source in found.sources]
    assert len(names) == len(set(names))
    assert found.count() in (None, len(names))
    assert all(problem.message for problem in found.problems)


@settings(deadline=None, max_examples=200)
@given(st.lists(PIECES, max_size=6).map("".join))
def test_odd_addresses(text: str) -> None:
    """Any text can be spoken of and named."""
    assert isinstance(redact(text), str)
    assert live_name(text)
