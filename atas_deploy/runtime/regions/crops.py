"""Boxes cut out of a picture, as CLIPSelf's teacher sees them.

H W pixels
"""

from atas_deploy.core.region import Box
from atas_deploy.runtime.encode import Image


def cut_crop(image: Image, box: Box, *, scale: float = 1.0) -> Image | None:
    """Cut a box out of a picture: a view of it, at least a pixel wide and high.

    The box grows about its centre and is cut at the picture's border; its edges are rounded to
    pixels, halves up.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (x0, y0, x1, y1) in pixels; it may reach outside.
        scale: factor on both sides of the box: 1.0 for CLIPSelf's grids, 1.5 for its proposals.

    Returns:
        (H', W', 3) uint8; None for a box without area, or outside the picture when grown.

    Source: Wu et al., "CLIPSelf", ICLR 2024, section 3.
    """
    height, width = image.shape[:2]
    rows = _span(box[1], box[3], length=height, scale=scale)
    columns = _span(box[0], box[2], length=width, scale=scale)
    return image[rows, columns] if rows and columns else None


def _span(start: float, end: float, *, length: int, scale: float) -> slice | None:
    """The pixels of a box along an axis; None if there are none."""
    centre, half = (start + end) / 2, scale * (end - start) / 2
    start, end = max(centre - half, 0), min(centre + half, length)
    if start >= end:
        return None
    first, last = int(start + 0.5), int(end + 0.5)
    if first == last:  # within a pixel
        first = min(int((start + end) / 2), length - 1)
        last = first + 1
    return slice(first, last)
