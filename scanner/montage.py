"""A page of images as an MR console shows them: dark, upright, windowed, a row for each series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

BACKGROUND = (12, 13, 16)
FAINT = (132, 138, 148)
BRIGHT = (228, 232, 238)
LABEL_WIDTH = 250
TILE = 300
GAP = 6
TITLE_HEIGHT = 60

# Where patient axes (LPS) point on a viewer's screen, right and down, by the axis through the
# slice: radiologists look at sagittal planes with the front to the left, at others with the
# patient's right to the left.
_SCREEN = {
    0: ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    1: ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
    2: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
}


@dataclass(frozen=True)
class Row:
    """One series of the page.

    Attributes
    ----------
    name : str
    lines : sequence of str
        Small print below the name.
    tiles : sequence of (caption, float (y, x))
        Images as the viewer is to see them.
    """

    name: str
    lines: Sequence[str]
    tiles: Sequence[tuple[str, NDArray[Any]]]


def upright(image: NDArray[Any], right: NDArray[Any], down: NDArray[Any]) -> NDArray[Any]:
    """Turn an image the way radiologists look at its plane: by quarter turns and flips only.

    Parameters
    ----------
    image : (y, x)
    right, down : (3)
        Where x and y of the image point in the patient, LPS.
    """
    to_right, to_down = _SCREEN[int(np.argmax(np.abs(np.cross(right, down))))]
    if abs(np.dot(right, to_down)) > abs(np.dot(right, to_right)):
        image, right, down = image.T, down, right
    if np.dot(right, to_right) < 0:
        image = image[:, ::-1]
    if np.dot(down, to_down) < 0:
        image = image[::-1]
    return image


def even_out(image: NDArray[Any]) -> NDArray[Any]:
    """Take the shading of surface coils out, as the normalise filter of a console: display only.

    Parameters
    ----------
    image : (y, x), not negative
    """
    shading = gaussian_filter(np.asarray(image, np.float64), 0.12 * max(image.shape))
    evened: NDArray[Any] = image / (shading + 0.02 * max(shading.max(), 1e-12))
    return evened


def window(image: NDArray[Any], low: float = 2.0, high: float = 96.5) -> NDArray[np.uint8]:
    """Return grey values of an image, black and white at two percentiles of its pixels."""
    black, white = np.percentile(image, [low, high])
    grey = np.clip((image - black) / max(white - black, 1e-12), 0, 1)
    levels: NDArray[np.uint8] = np.round(255 * grey).astype(np.uint8)
    return levels


def draw(title: str, subtitle: str, rows: Sequence[Row]) -> Image.Image:
    """Return the page."""
    columns = max(len(row.tiles) for row in rows)
    size = LABEL_WIDTH + columns * (TILE + GAP), TITLE_HEIGHT + len(rows) * (TILE + GAP)
    page = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(page)
    pen.text((16, 10), title, BRIGHT, ImageFont.load_default(22))
    pen.text((16, 37), subtitle, FAINT, ImageFont.load_default(14))
    for number, row in enumerate(rows):
        top = TITLE_HEIGHT + number * (TILE + GAP)
        pen.text((16, top + 8), row.name, BRIGHT, ImageFont.load_default(20))
        pen.multiline_text(
            (16, top + 40), "\n".join(row.lines), FAINT, ImageFont.load_default(14), spacing=7
        )
        for column, (caption, image) in enumerate(row.tiles):
            left = LABEL_WIDTH + column * (TILE + GAP)
            page.paste(_tile(image), (left, top))
            pen.text((left + 8, top + 6), caption, BRIGHT, ImageFont.load_default(13))
    return page


def _tile(image: NDArray[Any]) -> Image.Image:
    """Fit an image of square pixels into a square tile, kept in shape."""
    grey = Image.fromarray(window(even_out(image)))
    scale = TILE / max(grey.size)
    fitted = grey.resize(
        (round(grey.width * scale), round(grey.height * scale)), Image.Resampling.LANCZOS
    )
    tile = Image.new("L", (TILE, TILE))
    tile.paste(fitted, ((TILE - fitted.width) // 2, (TILE - fitted.height) // 2))
    return tile
