"""The vertebral column: sizes, positions and tilts of all levels, coordinates along the spine.

The column is planar (mid-sagittal, y-z). Each level has a local frame: `u` posterior, `w` cranial,
x to the left. The *spine coordinates* of a point are `s`, arc length along the posterior wall of
the vertebral bodies counted caudally from L3, and `d`, distance posterior to that wall.

Sources: body heights and end-plate widths, Bonczar 2024 (meta-analysis); end-plate depth, Panjabi
1992; canal, Griffith (CT, n=1080); disc heights, Shin 2024; segmental lordosis and body wedging as
listed in the tables below (Scientific Reports 2022, s41598-022-21840-x). Thoracic and sacral rows
are general knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from scanner.phantom.parameters import SpineParameters

# Per level: posterior, anterior body height, width, depth, middle height of the disc below, canal
# AP, canal width.
_SIZES = {
    "T9": (20.6, 19.6, 31.0, 29.0, 3.8, 15.0, 17.5),
    "T10": (21.8, 20.8, 32.5, 30.0, 4.2, 15.0, 17.5),
    "T11": (23.4, 22.0, 35.0, 31.5, 4.8, 15.2, 18.0),
    "T12": (25.2, 23.6, 38.5, 33.0, 5.6, 15.6, 20.0),
    "L1": (26.57, 24.54, 41.09, 34.1, 6.61, 15.46, 20.87),
    "L2": (27.02, 25.75, 42.98, 34.6, 7.90, 14.58, 21.19),
    "L3": (26.67, 26.83, 44.82, 35.2, 8.83, 14.04, 22.13),
    "L4": (25.76, 26.86, 47.50, 35.5, 9.31, 15.34, 24.55),
    "L5": (24.11, 27.44, 48.81, 35.7, 8.14, 19.67, 29.55),
}
# Depth of the superior and inferior end-plate concavity.
_CONCAVITY = {
    "T9": (0.8, 0.8),
    "T10": (0.8, 0.9),
    "T11": (0.9, 1.0),
    "T12": (1.0, 1.2),
    "L1": (1.1, 1.4),
    "L2": (1.2, 1.6),
    "L3": (1.3, 1.7),
    "L4": (1.3, 1.5),
    "L5": (1.2, 0.9),
}
_SACRAL_CONCAVITY = 0.4
_S1_WIDTH = 50.0
# Share of the L1-S1 lordosis (superior end plate to superior end plate) at the average 50.9
# degrees.
_SHARES_DEG = {"L1": 0.9, "L2": 6.2, "L3": 8.9, "L4": 13.1, "L5": 21.8}
_THORACIC_DISC_DEG = {"T9": 0.0, "T10": 0.3, "T11": 0.8, "T12": 2.0}
# Sacrum: superior depth, height, tilt against the superior end plate of S1, half width of the
# fused body.
_SACRUM = {
    "S1": (33.0, 29.0, 3.0, 23.0),
    "S2": (22.5, 24.0, 1.0, 18.0),
    "S3": (16.5, 20.0, -13.0, 15.5),
    "S4": (13.0, 17.0, -30.0, 13.0),
    "S5": (11.0, 15.0, -48.0, 11.0),
    "Co1": (9.0, 12.0, -68.0, 8.0),
}
LEVELS = tuple(_SIZES)
SACRAL_LEVELS = tuple(_SACRUM)


@dataclass(frozen=True)
class Level:
    """One vertebra in the mid-sagittal plane; lengths in mm, angles in radians.

    `tilt` turns the local frame: posterior axis (cos, sin), cranial axis (-sin, cos) in (y, z).
    `wedge` is positive where the anterior height is larger.
    """

    name: str
    y: float
    z: float
    tilt: float
    height: float
    wedge: float
    width: float
    depth: float
    canal_ap: float
    canal_width: float
    concavity_superior: float
    concavity_inferior: float

    def to_local(self, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Local (u, w) of points (y, z)."""
        return _to_local(self, y, z)

    def to_plane(self, u: float, w: float) -> tuple[float, float]:
        """(y, z) of a local point."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return self.y + u * cos - w * sin, self.z + u * sin + w * cos

    def corner(self, posterior: bool, superior: bool) -> tuple[float, float]:
        """(y, z) where the line of an end plate meets the line of a wall."""
        u = self.depth / 2 * (1 if posterior else -1)
        w = self.height / 2 - u * np.tan(self.wedge / 2)
        return self.to_plane(u, w if superior else -w)


@dataclass(frozen=True)
class Disc:
    """One disc: frame half-way between the end plates; `above` and `below` are level names."""

    above: str
    below: str
    y: float
    z: float
    tilt: float
    height: float
    width: float
    depth: float

    def to_local(self, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Local (u, w) of points (y, z)."""
        return _to_local(self, y, z)


def _to_local(frame: Level | Disc, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.float32(np.cos(frame.tilt)), np.float32(np.sin(frame.tilt))
    dy, dz = y - np.float32(frame.y), z - np.float32(frame.z)
    return dy * cos + dz * sin, dz * cos - dy * sin


_Placed = TypeVar("_Placed", Level, Disc)


class Column:
    """All levels of one patient, and the map from (y, z) to spine coordinates (s, d)."""

    def __init__(self, parameters: SpineParameters) -> None:
        self.levels, self.discs, self.sacrum = _stack(parameters.lordosis_deg)
        self.by_name = {level.name: level for level in (*self.levels, *self.sacrum)}
        wall = self._wall_points()
        chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(wall, axis=0), axis=1))])
        spline = CubicSpline(chord, wall)
        along = np.arange(0, chord[-1], 0.5)
        curve = spline(along)
        tangent = spline(along, 1)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
        origin = arc[np.argmin(np.abs(curve[:, 1]))]
        self._curve, self._tangent, self._arc = curve, tangent, arc - origin
        self._tree = cKDTree(curve)
        self._step = 2.0
        self._corner = (-200.0, -300.0)
        grid_y = np.arange(self._corner[0], 200.1, self._step)
        grid_z = np.arange(self._corner[1], 300.1, self._step)
        s, d = self.project(*np.meshgrid(grid_y, grid_z, indexing="ij"))
        self._map_shape = s.shape
        self._map = np.stack([s.ravel(), d.ravel()], axis=-1).astype(np.float32)

    def _wall_points(self) -> np.ndarray:
        """Posterior wall (y, z) from far above T9 to below the coccyx, caudally ordered."""
        points = [level.to_plane(level.depth / 2, 0) for level in self.levels]
        sacral = [level.to_plane(level.depth / 2, 0) for level in self.sacrum]
        top = np.array(points[0])
        up = np.array([[0.0, 150.0], [2.0, 75.0]]) + top
        last = np.array(sacral[-1])
        direction = last - np.array(sacral[-2])
        down = last + direction / np.linalg.norm(direction) * np.array([[30.0], [70.0]])
        return np.concatenate([up, points, sacral, down])

    def project(self, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = self._tree.query(np.stack([y, z], axis=-1))[1]
        dy, dz = y - self._curve[near, 0], z - self._curve[near, 1]
        ty, tz = self._tangent[near, 0], self._tangent[near, 1]
        # The tangent points caudally, so its left normal (-tz, ty) points posteriorly.
        return self._arc[near] + dy * ty + dz * tz, -dy * tz + dz * ty

    def spine_coordinates(self, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spine coordinates of points.

        Parameters
        ----------
        y, z : ndarray (point), float32, mm

        Returns
        -------
        s, d : ndarray (point), float32, mm
            Arc length (caudal positive, zero beside L3) and distance posterior to the posterior
            wall.
        """
        rows, columns = self._map_shape
        fy = np.clip((y - self._corner[0]) / self._step, 0, rows - 1.001)
        fz = np.clip((z - self._corner[1]) / self._step, 0, columns - 1.001)
        iy, iz = fy.astype(np.int32), fz.astype(np.int32)
        part_y = (fy - iy).astype(np.float32)[:, None]
        part_z = (fz - iz).astype(np.float32)[:, None]
        index = iy * columns + iz
        near = (
            self._map.take(index, axis=0) * (1 - part_z)
            + self._map.take(index + 1, axis=0) * part_z
        )
        index += columns
        far = (
            self._map.take(index, axis=0) * (1 - part_z)
            + self._map.take(index + 1, axis=0) * part_z
        )
        near += (far - near) * part_y
        return np.ascontiguousarray(near[:, 0]), np.ascontiguousarray(near[:, 1])

    def s_of(self, name: str) -> float:
        """Arc length beside the centre of a level."""
        level = self.by_name[name]
        s, _ = self.project(*(np.array(v) for v in level.to_plane(level.depth / 2, 0)))
        return float(s)

    def point(self, s: float, d: float) -> tuple[float, float]:
        """(y, z) of spine coordinates."""
        near = int(np.argmin(np.abs(self._arc - s)))
        (y, z), (ty, tz) = self._curve[near], self._tangent[near]
        return float(y - d * tz), float(z + d * ty)


def _stack(lordosis_deg: float) -> tuple[tuple[Level, ...], tuple[Disc, ...], tuple[Level, ...]]:
    """Stack bodies and discs caudally with the wanted lordosis; L3's centre becomes the origin."""
    wedge = {n: np.arctan2(ant - post, depth) for n, (post, ant, _, depth, *_) in _SIZES.items()}
    body_sum = sum(wedge[n] for n in _SHARES_DEG)
    natural = {n: np.radians(share) - wedge[n] for n, share in _SHARES_DEG.items()}
    stretch = (np.radians(lordosis_deg) - body_sum) / sum(natural.values())
    disc_wedge = {n: a * stretch for n, a in natural.items()}
    disc_wedge |= {n: np.radians(a) for n, a in _THORACIC_DISC_DEG.items()}

    # Sacral slope about 0.8 of the lordosis; the tilt of the first end plate follows by
    # subtraction.
    slope = np.radians(0.8 * lordosis_deg)
    tilt = slope - sum(wedge.values()) - sum(disc_wedge.values())
    at = np.zeros(2)
    levels: list[Level] = []
    discs: list[Disc] = []
    for i, name in enumerate(LEVELS):
        post, ant, width, depth, disc_height, *canal = _SIZES[name]
        height, mid = (post + ant) / 2, tilt + wedge[name] / 2
        half = height / 2 * np.array([np.sin(mid), -np.cos(mid)])
        at += half
        frame = (*at, mid, height, wedge[name], width, depth, *canal, *_CONCAVITY[name])
        levels.append(_level(name, *frame))
        at += half
        below = LEVELS[i + 1] if i + 1 < len(LEVELS) else "S1"
        below_concavity = _CONCAVITY[below][0] if below in _CONCAVITY else _SACRAL_CONCAVITY
        rim = disc_height - _CONCAVITY[name][1] - below_concavity
        mid = tilt + wedge[name] + disc_wedge[name] / 2
        half = rim / 2 * np.array([np.sin(mid), -np.cos(mid)])
        at += half
        below_width, below_depth = (
            _SIZES[below][2:4] if below in _SIZES else (_S1_WIDTH, _SACRUM["S1"][0])
        )
        size = (disc_height, (width + below_width) / 2, (depth + below_depth) / 2)
        discs.append(Disc(name, below, float(at[0]), float(at[1]), float(mid), *size))
        at += half
        tilt += wedge[name] + disc_wedge[name]

    # The sacrum hangs from the posterior corner of its end plate: one continuous dorsal wall.
    sacrum: list[Level] = []
    wall = at + _SACRUM["S1"][0] / 2 * np.array([np.cos(tilt), np.sin(tilt)])
    for name, (depth, height, turn, half_width) in _SACRUM.items():
        mid = tilt + np.radians(turn)
        caudal = np.array([np.sin(mid), -np.cos(mid)])
        centre = wall + caudal * height / 2 - depth / 2 * np.array([np.cos(mid), np.sin(mid)])
        sacral_wedge = 2 * np.radians(turn) if name == "S1" else 0.0
        frame = (*centre, mid, height, sacral_wedge, 2 * half_width, depth, 0, 0)
        sacrum.append(_level(name, *frame, _SACRAL_CONCAVITY, 0))
        wall = wall + caudal * height
    base = next(level for level in levels if level.name == "L3")

    def moved(part: _Placed) -> _Placed:
        return replace(part, y=part.y - base.y, z=part.z - base.z)

    return tuple(map(moved, levels)), tuple(map(moved, discs)), tuple(map(moved, sacrum))


def _level(name: str, *values: float) -> Level:
    """A level of plain floats: a NumPy scalar would turn every float32 array into float64."""
    return Level(name, *(float(v) for v in values))
