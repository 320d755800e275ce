"""Drawing for the summary series: views of slices upright as on a console, marks, lines and words.

Lines and words are drawn at twice the size and brought down, so that they are smooth. Type is
Pillow's built-in one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from gadgets.items import LabelMap, Series
from gadgets.sampling import indices
from protocols.geometry import Vector, Volume

Colour = tuple[int, int, int]
GROUND: Colour = (13, 14, 17)
BRIGHT: Colour = (236, 239, 244)
FAINT: Colour = (150, 157, 168)
SOFT: Colour = (208, 213, 220)
LINE: Colour = (52, 56, 64)
FOUND: Colour = (255, 196, 64)
ANATOMY: Colour = (104, 208, 226)
WARNING: Colour = (255, 138, 112)

_FINE = 2
_SAME_PLANE = 0.94
"""Cosine between normals of slices that show the same plane."""
# Where patient axes (LPS) point on a screen, right and down, by the axis through the slice:
# sagittal with the front to the left, others with the patient's right to the left.
_SCREEN = (
    ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
)
_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))


@dataclass(frozen=True)
class View:
    """A rectangle of a plane, as it is to be shown.

    Attributes
    ----------
    centre : float64 (3)
        LPS mm.
    right, down : float64 (3)
        Unit vectors along which the picture's x and y grow.
    mm_per_pixel : float
    width, height : int
        Pixels.
    """

    centre: Vector
    right: Vector
    down: Vector
    mm_per_pixel: float
    width: int
    height: int

    @property
    def normal(self) -> Vector:
        """Of the plane, float64 (3)."""
        return np.asarray(np.cross(self.right, self.down))

    def points(self) -> Vector:
        """Return where the picture's pixels lie: float64 (height, width, 3), LPS mm."""
        x = (np.arange(self.width) - (self.width - 1) / 2) * self.mm_per_pixel
        y = (np.arange(self.height) - (self.height - 1) / 2) * self.mm_per_pixel
        return np.asarray(self.centre + x[:, None] * self.right + y[:, None, None] * self.down)

    def place(self, point: Vector) -> tuple[float, float]:
        """Return the pixel (x, y) upon which a point in LPS mm falls, straight onto the plane."""
        offset = (np.asarray(point) - self.centre) / self.mm_per_pixel
        return (
            float(offset @ self.right) + (self.width - 1) / 2,
            float(offset @ self.down) + (self.height - 1) / 2,
        )

    def letters(self) -> tuple[str, str, str, str]:
        """Return where left, right, top and bottom of the picture lie in the patient."""
        return tuple(_letter(axis) for axis in (-self.right, self.right, -self.down, self.down))  # type: ignore[return-value]


def _letter(axis: Vector) -> str:
    along = int(np.argmax(np.abs(axis)))
    return _LETTERS[along][int(axis[along] > 0)]


def screen_axes(volume: Volume) -> tuple[Vector, Vector]:
    """Return right and down, float64 (3), for slices as radiologists look at them."""
    rows, columns, normal = volume.directions
    right, down = (np.array(axis) for axis in _SCREEN[int(np.argmax(np.abs(normal)))])
    if abs(rows @ down) > abs(rows @ right):
        rows, columns = columns, rows
    return rows * (1 if rows @ right >= 0 else -1), columns * (1 if columns @ down >= 0 else -1)


def slice_at(volume: Volume, point: Vector) -> int | None:
    """Return the slice within which, or beside which, a point in LPS mm lies; None if in none."""
    z = round(float(indices(volume, point)[0]))
    return z if 0 <= z < volume.shape[0] else None


def shown(series: Series, view: View) -> NDArray[np.uint8] | None:
    """Return the slice of a series through the centre of a view, uint8 (height, width).

    The shading of surface coils is evened out; for display only.

    Returns
    -------
    uint8 or None
        None where the series has no slice there, or none in this plane.
    """
    z = slice_at(series.volume, view.centre)
    if z is None or abs(view.normal @ series.volume.directions[2]) < _SAME_PLANE:
        return None
    image = _even(series.data[z])
    inside = image[image > 0.1 * image.max()] if image.any() else np.ones(1)
    white = float(np.percentile(inside, 99.3))
    at = np.moveaxis(indices(series.volume, view.points())[..., 1:], -1, 0)
    picture = ndimage.map_coordinates(image, at, np.float32, order=3, mode="constant")
    return np.asarray(np.clip(255 * (picture / white) ** 0.85, 0, 255), np.uint8)


def _even(image: NDArray[np.float32]) -> NDArray[np.float32]:
    shading = ndimage.gaussian_filter(image, 0.13 * max(image.shape))
    return np.asarray(image / (shading + 0.08 * max(float(shading.max()), 1e-12)), np.float32)


def contours(labels: LabelMap, chosen: Sequence[int], view: View) -> NDArray[np.float32]:
    """Return how much ink the outlines of labels put on each pixel, float32 (height, width)."""
    ink = np.zeros((view.height, view.width), np.float32)
    z = slice_at(labels.volume, view.centre)
    if z is None:
        return ink
    at = np.moveaxis(indices(labels.volume, view.points())[..., 1:], -1, 0)
    for label in chosen:
        mask = (labels.labels[z] == label).astype(np.float32)
        if not mask.any():
            continue
        part = ndimage.map_coordinates(ndimage.gaussian_filter(mask, 0.8), at, order=1)
        slope = np.hypot(*np.gradient(part))
        distance = np.abs(part - 0.5) / np.maximum(slope, 1e-4)
        ink = np.maximum(ink, np.clip(1.3 - distance, 0, 1))
    return ink


class Page:
    """A picture to draw on: grey images first, lines and words over them.

    Parameters
    ----------
    width, height : int
        Pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._ground = Image.new("RGB", (width, height), GROUND)
        self._ink = Image.new("RGBA", (_FINE * width, _FINE * height), (*GROUND, 0))
        self._pen = ImageDraw.Draw(self._ink)

    def image(self, grey: NDArray[np.uint8], left: int, top: int) -> None:
        """Put an image (y, x) with its upper left corner at a pixel."""
        self._ground.paste(Image.fromarray(grey).convert("RGB"), (left, top))

    def tint(self, ink: NDArray[np.float32], colour: Colour, left: int, top: int) -> None:
        """Colour pixels as much as ``ink`` (y, x), 0 to 1, says."""
        mask = Image.fromarray((255 * ink).astype(np.uint8))
        self._ground.paste(Image.new("RGB", mask.size, colour), (left, top), mask)

    def block(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self._pen.rectangle([_FINE * v for v in (left, top, right, bottom)], (*colour, 255))

    def line(
        self, points: Sequence[tuple[float, float]], colour: Colour, width: float = 1.5
    ) -> None:
        """Draw a line through points."""
        fine = [(_FINE * x, _FINE * y) for x, y in points]
        self._pen.line(fine, (*colour, 255), max(1, round(_FINE * width)), joint="curve")

    def brackets(self, left: float, top: float, right: float, bottom: float, size: float) -> None:
        """Frame a region by its four corners, so that what lies in it stays free to see."""
        reach = min(size, (right - left) / 3, (bottom - top) / 3)
        for x, y in ((left, top), (right, top), (left, bottom), (right, bottom)):
            dx = reach if x == left else -reach
            dy = reach if y == top else -reach
            corner = [(x + dx, y), (x, y), (x, y + dy)]
            self.line(corner, GROUND, 4)
            self.line(corner, FOUND, 2)

    def badge(self, x: float, y: float, words: str, hollow: bool = False) -> None:
        """Put a number on a disc, or into a ring."""
        size, radius = 15.0, 12.0
        outer = [_FINE * v for v in (x - radius, y - radius, x + radius, y + radius)]
        inner = [_FINE * v for v in (x - 11, y - 11, x + 11, y + 11)]
        self._pen.ellipse(outer, (*GROUND, 255))
        self._pen.ellipse(inner, (*(GROUND if hollow else FOUND), 255), (*FOUND, 255), 2 * _FINE)
        self.words(x, y, words, size, FOUND if hollow else GROUND, "mm")

    def words(
        self,
        x: float,
        y: float,
        words: str,
        size: float,
        colour: Colour = BRIGHT,
        anchor: str = "la",
        over_image: bool = False,
    ) -> None:
        """Write a line; with a dark edge where it lies over an image."""
        self._pen.text(
            (_FINE * x, _FINE * y),
            words,
            (*colour, 255),
            ImageFont.load_default(_FINE * size),
            anchor=anchor,
            stroke_width=round(0.2 * size) if over_image else 0,
            stroke_fill=(*GROUND, 255),
        )

    def picture(self) -> NDArray[np.uint8]:
        """Return what was drawn, uint8 (y, x, rgb)."""
        ink = self._ink.resize(self._ground.size, Image.Resampling.BOX)
        page = Image.alpha_composite(self._ground.convert("RGBA"), ink)
        return np.asarray(page.convert("RGB"))


def wrapped(words: str, size: float, width: float) -> list[str]:
    """Break words into lines that are no wider than ``width`` pixels."""
    font, lines = ImageFont.load_default(size), [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def ruler(page: Page, view: View, left: float, bottom: float, size: float) -> None:
    """Draw how long some millimetres are."""
    length = next(mm for mm in (50, 20, 10, 5) if mm / view.mm_per_pixel < 0.3 * view.width)
    right = left + length / view.mm_per_pixel
    marks = [(left, bottom - 7), (left, bottom), (right, bottom), (right, bottom - 7)]
    page.line(marks, GROUND, 4)
    page.line(marks, BRIGHT, 1.5)
    page.words((left + right) / 2, bottom - 6, f"{length} mm", size, BRIGHT, "ms", True)


class Flow:
    """Writes downwards within a column of a page, and stops where it ends."""

    def __init__(self, page: Page, left: float, top: float, width: float, bottom: float) -> None:
        self._page, self._left, self._width, self._bottom = page, left, width, bottom
        self._y = top

    def _room(self, height: float) -> bool:
        return self._y + height <= self._bottom

    def section(self, words: str, colour: Colour = BRIGHT) -> None:
        """Begin a part with a heading and a line."""
        if self._room(60):
            self._y += 10
            self._page.words(self._left, self._y, words, 22, colour)
            self._y += 31
            self._page.block(self._left, self._y, self._left + self._width, self._y + 1, LINE)
            self._y += 10

    def write(self, words: str, size: float = 17, colour: Colour = BRIGHT) -> None:
        """Write lines as long as the column is wide."""
        for line in wrapped(words, size, self._width):
            if self._room(1.4 * size):
                self._page.words(self._left, self._y, line, size, colour)
                self._y += 1.4 * size
        self._y += 4

    def pair(self, name: str, value: str, colour: Colour = FAINT) -> None:
        """Write a name on the left and its value on the right."""
        if self._room(24):
            self._page.words(self._left, self._y, name, 17)
            self._page.words(self._left + self._width, self._y, value, 17, colour, "ra")
            self._y += 26

    def numbered(self, number: int, words: str, below: str, right: str) -> None:
        """Write two lines beside a number, and a word on the right."""
        if self._room(54):
            self._page.badge(self._left + 12, self._y + 12, str(number))
            self._page.words(self._left + 34, self._y, words, 19)
            self._page.words(self._left + self._width, self._y, right, 19, FOUND, "ra")
            self._page.words(self._left + 34, self._y + 25, below, 16, FAINT)
            self._y += 54
