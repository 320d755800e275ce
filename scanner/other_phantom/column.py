"""Poses and sizes of all vertebrae: rigid frames along a curve built from the sacrum upwards.

A frame has three unit vectors, left, back and up; local coordinates (x, u, w) are along these.
Curve coordinates of a point are (s, x, d): arc length along the posterior wall of the bodies
(caudal positive, zero at the end plate of S1), distance to the left, and distance behind the wall.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from scanner.other_phantom.parameters import OtherParameters

_ABOVE = 9
_SACRAL = ("S1", "S2", "S3", "S4", "S5")


@dataclass(frozen=True)
class Segment:
    """One vertebral body, or one disc.

    Attributes
    ----------
    name : str
    centre : ndarray (3)
    axes : ndarray (3, 3)
        Rows: left, back, up.
    half_width, half_depth, height : float
        mm; the height in the middle.
    wedge : float
        Angle between the end plates, radians; positive: taller in front.
    hollow : (float, float)
        Depth of the upper and lower end plate's concavity.
    waist : float
        Share of the width that is lost half-way between the end plates.
    canal_depth, canal_half_width : float
    rank : float
        Levels above the sacrum: 1 for the lowest lumbar body; discs in between.
    """

    name: str
    centre: np.ndarray
    axes: np.ndarray
    half_width: float
    half_depth: float
    height: float
    wedge: float
    hollow: tuple[float, float]
    waist: float
    canal_depth: float
    canal_half_width: float
    rank: float

    def local(self, points: np.ndarray) -> np.ndarray:
        """Local (x, u, w) of points (point, 3)."""
        turn = self.axes.T.astype(np.float32)
        return np.asarray((points - self.centre.astype(np.float32)) @ turn)

    def point(self, x: float, u: float, w: float) -> np.ndarray:
        """Position of a local point."""
        return np.asarray(self.centre + np.array([x, u, w]) @ self.axes)

    def corner(self, back: bool, upper: bool) -> np.ndarray:
        """Where the lines of end plate and wall meet in the middle plane."""
        u = self.half_depth * (1 if back else -1)
        w = self.height / 2 - u * np.tan(self.wedge / 2)
        return self.point(0.0, u, w if upper else -w)


class Column:
    """All levels of one patient and the curve along their posterior wall."""

    def __init__(self, parameters: OtherParameters, rng: np.random.Generator) -> None:
        self.bodies, self.discs, self.sacrum = _build(parameters, rng)
        self.by_name = {part.name: part for part in (*self.bodies, *self.sacrum)}
        walls = [part.point(0, part.half_depth, 0) for part in (*self.bodies, *self.sacrum)]
        # The curve goes on beyond both ends.
        top, tail = walls[0], walls[-1]
        upper = self.bodies[0].axes[2]
        lower = (tail - walls[-2]) / np.linalg.norm(tail - walls[-2])
        walls = [top + upper * 160, top + upper * 80, *walls, tail + lower * 35, tail + lower * 80]
        knots = np.array(walls)
        chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        spline = CubicSpline(chord, knots)
        along = np.arange(0, chord[-1], 1.0)
        self._curve = spline(along)
        tangent = spline(along, 1)
        self._tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
        left = np.array([1.0, 0, 0]) - self._tangent[:, :1] * self._tangent
        self._left = left / np.linalg.norm(left, axis=1, keepdims=True)
        # Left x back = up, and the tangent points down.
        self._back = np.cross(self._left, self._tangent)
        steps = np.linalg.norm(np.diff(self._curve, axis=0), axis=1)
        arc = np.concatenate([[0], np.cumsum(steps)])
        self._tree = cKDTree(self._curve)
        first = self.by_name["S1"].corner(back=True, upper=True)
        self._arc = arc - arc[self._tree.query(first)[1]]

    def coordinates(self, points: np.ndarray) -> np.ndarray:
        """Curve coordinates (s, x, d) of points (point, 3), float32."""
        near = self._tree.query(points)[1]
        off = points - self._curve[near]
        s = self._arc[near] + np.einsum("ij,ij->i", off, self._tangent[near])
        x = np.einsum("ij,ij->i", off, self._left[near])
        d = np.einsum("ij,ij->i", off, self._back[near])
        return np.stack([s, x, d], axis=1).astype(np.float32)

    def position(self, s: np.ndarray, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Points (point, 3) of curve coordinates."""
        curve, left, back = (
            np.stack([np.interp(s, self._arc, v[:, k]) for k in range(3)], axis=1)
            for v in (self._curve, self._left, self._back)
        )
        return np.asarray(curve + x[:, None] * left + d[:, None] * back)

    def s_of(self, name: str) -> float:
        """Arc length at the middle of a body."""
        part = self.by_name[name]
        return float(self.coordinates(part.point(0, part.half_depth, 0)[None])[0, 0])


def _axes(tilt: float, lateral: float, turn: float) -> np.ndarray:
    """Frame of a vertebra: sagittal tilt, coronal tilt and rotation about its own axis."""
    left, back = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), np.sin(tilt)])
    up = np.cross(left, back)
    left, up = (
        np.cos(lateral) * left - np.sin(lateral) * up,
        np.cos(lateral) * up + np.sin(lateral) * left,
    )
    left, back = (
        np.cos(turn) * left + np.sin(turn) * back,
        np.cos(turn) * back - np.sin(turn) * left,
    )
    return np.stack([left, back, up])


def _names(lumbar: int) -> list[str]:
    """Names from the lowest lumbar body upwards."""
    names = [f"L{k}" for k in range(lumbar, 0, -1)] + [f"T{k}" for k in range(12, 0, -1)]
    return names[:_ABOVE]


def _build(
    parameters: OtherParameters, rng: np.random.Generator
) -> tuple[tuple[Segment, ...], tuple[Segment, ...], tuple[Segment, ...]]:
    lumbar = parameters.lumbar_bodies
    weights = np.linspace(lumbar, 1, lumbar) ** 1.2
    share = np.radians(parameters.lordosis_deg) * weights / weights.sum()
    phase, waves = rng.uniform(0, 2 * np.pi), rng.uniform(8, 14)
    build = rng.normal(1, (0.03, 0.04, 0.1, 0.07))
    tilt = np.radians(parameters.sacral_slope_deg)
    at = np.zeros(3)
    bodies: list[Segment] = []
    discs: list[Segment] = []
    for k, name in enumerate(_names(lumbar)):
        is_lumbar = k < lumbar
        up = min(k, 5) / 5 if is_lumbar else 1 + (k - lumbar + 1) / 6
        lateral = np.radians(parameters.lateral_deg) * np.sin(2 * np.pi * k / waves + phase)
        fused = k == 0 and parameters.transitional == "sacralised"
        height = build[0] * (27.5 - 1.2 * up - (3.0 * (up - 1) if up > 1 else 0))
        height *= rng.normal(1, 0.02)
        width = build[1] * (25.5 - 5.0 * up) * rng.normal(1, 0.015)
        depth = build[1] * (17.8 - 1.3 * up) * rng.normal(1, 0.015)
        gap = build[2] * (10.5 - 4.6 * min(up, 1.5)) * rng.normal(1, 0.06)
        worn = np.clip((parameters.age - 35) / 120 + 0.3 * parameters.wear - 0.06 * k, 0, 0.5)
        gap = max(gap * (1 - worn) * (0.4 if fused else 1.0), 2.2)
        angle = share[k] if is_lumbar else -np.radians(rng.uniform(1.5, 4.0))
        bent = 0.0 if fused else (0.35 * angle if is_lumbar else 0.7 * angle)
        lean = angle - bent
        canal = build[3] * (16.5 - 1.5 * np.sin(np.pi * min(up, 1)))
        half_canal = build[3] * (14.0 - 4.0 * min(up, 1.2))
        common = (canal, half_canal)
        hollow = (1.4 + 0.4 * rng.random(), 1.2 + 0.6 * rng.random())

        middle = _axes(tilt - lean / 2, lateral, 0.4 * lateral)
        discs.append(
            Segment(
                "", at + middle[2] * gap / 2, middle, width, depth, gap, lean, (0, 0), 0, *common, k
            )
        )
        at = at + middle[2] * gap
        tilt -= lean
        middle = _axes(tilt - bent / 2, lateral, 0.4 * lateral)
        waist = 0.02 if fused else 0.085
        bodies.append(
            Segment(
                name,
                at + middle[2] * height / 2,
                middle,
                width * (1.06 if fused else 1.0),
                depth,
                height,
                bent,
                hollow,
                waist,
                *common,
                k + 1,
            )
        )
        at = at + middle[2] * height
        tilt -= bent
    below = ["S1", *[body.name for body in bodies]]
    discs = [replace(d, name=f"{b.name}/{n}") for d, b, n in zip(discs, bodies, below)]
    sacrum = _sacrum(parameters, rng)
    base = bodies[2].centre

    def moved(parts: list[Segment]) -> tuple[Segment, ...]:
        return tuple(replace(part, centre=part.centre - base) for part in parts)

    return moved(bodies[::-1]), moved(discs[::-1]), moved(sacrum)


def _sacrum(parameters: OtherParameters, rng: np.random.Generator) -> list[Segment]:
    """Fused bodies hanging from the posterior border of the end plate of S1."""
    slope, bend = np.radians(parameters.sacral_slope_deg), np.radians(parameters.sacral_bend_deg)
    square = parameters.transitional == "lumbarised"
    parts = []
    wall = np.array([0, np.cos(slope), np.sin(slope)]) * 16.8
    for k, name in enumerate(_SACRAL):
        axes = _axes(slope - bend * (k / 4) ** 1.4, 0.0, 0.0)
        half_depth = (16.8, 11.8, 8.6, 6.8, 5.6)[k] * rng.normal(1, 0.02)
        if k == 0:
            half_depth = 16.8
        height = (29.0, 24.5, 20.5, 17.0, 15.0)[k] * rng.normal(1, 0.02)
        half_width = (25.0, 18.5, 15.0, 12.5, 10.0)[k]
        if square and k == 1:
            half_depth, half_width = 14.8, 21.5
        centre = wall - axes[1] * half_depth - axes[2] * height / 2
        canal = (13.5, 9.5, 7.0, 5.0, 3.0)[k]
        parts.append(
            Segment(
                name,
                centre,
                axes,
                half_width,
                half_depth,
                height,
                0.0,
                (0.6 if k == 0 else 0.0, 0.0),
                0.0,
                canal,
                13.0 - 2.2 * k,
                -float(k),
            )
        )
        wall = wall - axes[2] * height
    return parts
