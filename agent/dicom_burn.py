"""Marks inside the pixels: what survives every export, screenshot and conversion."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SYNTHETIC = "SYNTHETIC"
RESEARCH = "AI - RESEARCH ONLY"


def burn(pixels: NDArray[Any], words: str, low: float, high: float) -> NDArray[Any]:
    """Return images with words in the upper left corner, on a bar as dark as ``low``.

    Parameters
    ----------
    pixels : (slice, y, x) or (slice, y, x, rgb)
        Of any type; not changed.
    words : str
        Made smaller until they fit into the width.
    low, high : float
        Pixel values for dark and bright.
    """
    rows, columns = pixels.shape[1:3]
    mask = _words(words, columns, max(10, rows // 16))
    height, width = min(rows, mask.shape[0]), min(columns, mask.shape[1])
    ink = mask[:height, :width]
    if pixels.ndim == 4:
        ink = ink[..., None]
    limits = np.iinfo(pixels.dtype)
    dark, bright = (
        np.clip(np.rint(np.nan_to_num(value)), limits.min, limits.max) for value in (low, high)
    )
    result = pixels.copy()
    result[:, :height, :width] = np.where(ink, bright, dark).astype(pixels.dtype)
    return result


def _words(words: str, columns: int, size: int) -> NDArray[np.bool_]:
    while True:
        font = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox(words)
        if right - left + 4 <= columns or size <= 6:
            break
        size -= 1
    canvas = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), words, fill=255, font=font)
    return np.asarray(canvas) > 80
