"""A small chart as inline SVG: axes, lines, dots, intervals. Nothing but text comes out."""

import re
from collections.abc import Iterable, Sequence
from html import escape

Points = Iterable[tuple[float, float]]

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 14, 46


class Chart:
    """One chart; what is drawn later lies on top.

    Parameters
    ----------
    x, y : tuple of float
        Limits.
    x_ticks, y_ticks : sequence of float
    x_label, y_label : str
    label : str
        Said to those who cannot see it; no two charts of a page have the same.
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_label: str,
        y_label: str,
        label: str,
    ) -> None:
        self._x, self._y = x, y
        self._label = label
        self._id = re.sub(r"\W+", "-", label)
        self._parts: list[str] = []
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        for tick in x_ticks:
            at = self._px(tick)
            self._parts.append(
                f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}"/>'
                f'<text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">'
                f"{tick:g}</text>"
            )
        for tick in y_ticks:
            at = self._py(tick)
            self._parts.append(
                f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>'
                f'<text class="tick" x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">'
                f"{tick:g}</text>"
            )
        middle_x, middle_y = (LEFT + right) / 2, (TOP + bottom) / 2
        self._parts.append(
            f'<text class="axis" x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{escape(x_label)}</text>"
            f'<text class="axis" transform="translate(14 {middle_y}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        )

    def line(self, points: Points, style: str) -> None:
        """Draw a line; `style` is a class of the style sheet. It ends at the frame."""
        path = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)
        if path:
            self._parts.append(
                f'<polyline class="line {style}" clip-path="url(#{self._id})" points="{path}"/>'
            )

    def dots(self, points: Points, style: str, radius: float = 3) -> None:
        """Draw dots."""
        for x, y in points:
            self._parts.append(
                f'<circle class="dot {style}" cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" '
                f'r="{radius:g}"/>'
            )

    def interval(self, x: float, low: float, high: float, style: str) -> None:
        """Draw an upright interval."""
        at = self._px(x)
        self._parts.append(
            f'<line class="interval {style}" x1="{at:.1f}" y1="{self._py(low):.1f}" '
            f'x2="{at:.1f}" y2="{self._py(high):.1f}"/>'
        )

    def upright(self, x: float, style: str, text: str = "") -> None:
        """Draw a line from bottom to top, with a text beside it."""
        at = self._px(x)
        self._parts.append(
            f'<line class="line {style}" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" '
            f'y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="note" x="{at - 5:.1f}" y="{TOP + 12}" text-anchor="end">'
            f"{escape(text)}</text>"
        )

    def svg(self) -> str:
        """Return the chart."""
        frame_width, frame_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self._label, quote=True)}">'
            f'<defs><clipPath id="{self._id}"><rect x="{LEFT}" y="{TOP}" width="{frame_width}" '
            f'height="{frame_height}"/></clipPath></defs>'
            + "".join(self._parts)
            + f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{frame_width}" '
            f'height="{frame_height}"/></svg>'
        )

    def _px(self, x: float) -> float:
        low, high = self._x
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _py(self, y: float) -> float:
        low, high = self._y
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
