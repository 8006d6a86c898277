"""Pictures that are too large to decode are refused in time."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import MAX_PIXELS, read_image


def png_header(width: int, height: int) -> bytes:
    """Make a PNG that announces a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        length, checksum = len(data), zlib.crc32(kind + data)
        return struct.pack(">I", length) + kind + data + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_500, 30_000])
def test_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    """A header that announces too many pixels is enough to refuse, without a warning."""
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    assert side * side > MAX_PIXELS
    with pytest.raises(InputError, match="more than 178 million pixels"):
        read_image(tmp_path / "a.png")


def test_large_photos_raise_no_warning(tmp_path: Path) -> None:
    """Between Pillow's warning and our limit only the missing data is complained about."""
    (tmp_path / "a.png").write_bytes(png_header(10_000, 10_000))
    with pytest.raises(InputError, match="damaged"):
        read_image(tmp_path / "a.png")


def test_limit_cannot_be_raised(tmp_path: Path) -> None:
    """Beyond what Pillow allows, the limit that holds is the one that is named."""
    (tmp_path / "a.png").write_bytes(png_header(13_500, 13_500))
    with pytest.raises(InputError, match="more than 178 million pixels"):
        read_image(tmp_path / "a.png", max_pixels=10**9)


def tiff_with_tile(side: int) -> bytes:
    """Make a TIFF of 16 x 16 pixels in one compressed black tile that is far larger."""
    compressor = zlib.compressobj(1)
    data = b"".join(compressor.compress(bytes(side)) for _ in range(side)) + compressor.flush()
    place = 8 + 2 + 12 * 10 + 4
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side}
    tags |= {324: place, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """Small files that would fill 64 to 400 MB are refused at a cost of less than 16 MB."""
    black = Image.new("L", (8_000, 8_000))
    for suffix in ("png", "jpg", "gif", "webp", "tiff", "jp2"):
        options = {"tiff": {"compression": "tiff_lzw"}, "webp": {"lossless": True, "method": 0}}
        black.save(tmp_path / f"bomb.{suffix}", **options.get(suffix, {}))
    (tmp_path / "tile.tiff").write_bytes(tiff_with_tile(20_000))
    bombs = [str(path) for path in tmp_path.iterdir()]
    assert max(os.path.getsize(bomb) for bomb in bombs) < 2_000_000  # noqa: PTH202
    run = [sys.executable, "-c", READ_BOMBS, str(16 * 1024), *bombs]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


READ_BOMBS = """
import resource, sys
from PIL import Image
from atas_deploy.core.errors import InputError
from atas_deploy.media.images import read_image
Image.init()
for bomb in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_image(bomb, max_pixels=1_000_000)
    except InputError as error:
        assert "more than 1 million pixels" in str(error), error
    else:
        raise AssertionError(f"{bomb} was read")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < int(sys.argv[1]), f"{bomb} took {grown} kB"
"""


def test_limit_can_be_lowered(tmp_path: Path) -> None:
    """The caller may allow fewer pixels."""
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"0\.002 million"):
        read_image(tmp_path / "a.png", max_pixels=2_000)
