"""Label Studio's run lengths: a stream of bits that its interface unpacks into RGBA bytes.

A head of 53 bits: the number of bytes (32), their size minus one (5), and four lengths minus one
(4 each). Then for each run: 1 for "one value, repeated", which of the four lengths its count has
(2), the count minus one, the value (8). All four bytes of a pixel are 255 inside and 0 outside.

Source: the rle-pack package of thi.ng/umbrella, whose format this is.
"""

import numpy as np
import numpy.typing as npt

_COUNT_BITS = np.array([3, 4, 8, 16])
_LONGEST_RUN = 1 << 16
_VALUE_BITS = 8


def encode_brush(mask: npt.NDArray[np.uint8]) -> bytes:
    """Pack a mask.

    Args:
        mask: (H, W) uint8, 0 and 1.

    Returns:
        The bytes of the stream, whose last one is filled up with zeros.
    """
    counts, values = _runs(mask.ravel())
    size = np.searchsorted([1 << bits for bits in _COUNT_BITS[:-1]], counts)
    count_bits = _COUNT_BITS[size]
    words = ((4 | size) << count_bits | counts - 1) << _VALUE_BITS | values
    head = 4 * mask.size
    for bits, value in [(5, _VALUE_BITS - 1), *((4, bits - 1) for bits in _COUNT_BITS)]:
        head = head << bits | int(value)
    head_bits = np.array([int(bit) for bit in f"{head:053b}"], np.uint8)
    lengths = 3 + count_bits + _VALUE_BITS
    return np.packbits(np.concatenate([head_bits, _bits(words, lengths)])).tobytes()


def _runs(
    pixels: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return counts and values of runs of bytes, none longer than `_LONGEST_RUN`."""
    starts = np.flatnonzero(np.diff(pixels, prepend=1 - pixels[:1]))
    whole = 4 * np.diff(starts, append=pixels.size)
    pieces = -(-whole // _LONGEST_RUN)
    counts = np.full(pieces.sum(), _LONGEST_RUN, np.int64)
    counts[np.cumsum(pieces) - 1] = whole - (pieces - 1) * _LONGEST_RUN
    return counts, np.repeat(255 * pixels[starts].astype(np.int64), pieces)


def _bits(words: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Write words one after the other, the highest of their bits first."""
    ends = np.cumsum(lengths)
    bits = np.zeros(ends[-1] if len(ends) else 0, np.uint8)
    for place in range(int(lengths.max(initial=0))):
        long = lengths > place
        bits[ends[long] - 1 - place] = words[long] >> place & 1
    return bits
