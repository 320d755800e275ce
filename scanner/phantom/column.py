"""The vertebral column: sizes, positions and tilts of all levels, coordinates along the spine.

The column is planar (mid-sagittal, y-z). Each level has a local frame: `u` posterior, `w` cranial,
x to the left. The *spine coordinates* of a point are `s`, arc length along the posterior wall of
the vertebral bodies counted caudally from L3, and `d`, distance posterior to that wall.

Sizes come from `variants_sizes`; the shape of the sacrum is general knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from scanner.phantom.parameters import SpineParameters
from scanner.phantom.variants import SchmorlNode, Variants
from scanner.phantom.variants_sizes import (
    CONCAVITY,
    S1_WIDTH,
    SACRAL_CONCAVITY,
    disc_wedges,
    level_rows,
)

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
_ORIGIN = 6
"""Index of the level whose centre is the origin: L3 of five lumbar bodies."""


@dataclass(frozen=True)
class Level:
    """One vertebra in the mid-sagittal plane; lengths in mm, angles in radians.

    `tilt` turns the local frame: posterior axis (cos, sin), cranial axis (-sin, cos) in (y, z).
    `wedge` is positive where the anterior height is larger. `kind` is the row of the tables; `ala`
    says on which sides (left, right) the transverse process is as broad as a sacral ala.
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
    kind: str = field(default="", kw_only=True)
    ala: tuple[bool, bool] = field(default=(False, False), kw_only=True)
    nodes: tuple[SchmorlNode, ...] = field(default=(), kw_only=True)

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
    """One disc: frame half-way between the end plates; `above` and `below` are level names.

    `kind` is that of the level above, `slip` how far that lies in front of the level below, `extra`
    how much further than usual (mm) disc reaches into the end plates.
    """

    above: str
    below: str
    y: float
    z: float
    tilt: float
    height: float
    width: float
    depth: float
    kind: str = ""
    slip: float = 0.0
    extra: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.above}/{self.below}"

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
        self.levels, self.discs, self.sacrum = _stack(parameters.lordosis_deg, parameters.variants)
        # Soft tissues are tied to usual names: those this patient lacks mean the nearest level.
        self.by_name = {"T9": self.levels[0], "L5": self.levels[-1]}
        self.by_name |= {level.name: level for level in (*self.levels, *self.sacrum)}
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


def _stack(
    lordosis_deg: float, variants: Variants
) -> tuple[tuple[Level, ...], tuple[Disc, ...], tuple[Level, ...]]:
    """Stack bodies and discs caudally with the wanted lordosis; the origin is the centre of L3.

    The lordosis is that of the patient before any fracture: a wedged body bends the spine above it
    forwards.
    """
    build, rows = variants.build, level_rows(variants, fractured=True)
    disc_wedge = disc_wedges(lordosis_deg, level_rows(variants, fractured=False))
    wedge = [np.arctan2(row.anterior - row.posterior, row.depth) for row in rows]
    slips = {slip.level: slip.offset_mm for slip in variants.slips}

    # The tilt of the first end plate follows from the slope of the last by subtraction.
    slope = np.radians(build.sacral_slope * lordosis_deg)
    tilt = slope - sum(wedge) - sum(disc_wedge)
    at = np.zeros(2)
    levels: list[Level] = []
    discs: list[Disc] = []
    for i, row in enumerate(rows):
        height, mid = (row.posterior + row.anterior) / 2, tilt + wedge[i] / 2
        half = height / 2 * np.array([np.sin(mid), -np.cos(mid)])
        at += half
        frame = (*at, mid, height, wedge[i], row.width, row.depth, row.canal_ap, row.canal_width)
        last = i + 1 == len(rows)
        fused = last and variants.transitional == "sacralised"
        sides = variants.transitional_sides
        levels.append(
            replace(
                _level(row.name, *frame, row.superior, row.inferior),
                kind=row.kind,
                ala=(fused and sides != "right", fused and sides != "left"),
                nodes=tuple(n for n in variants.schmorl_nodes if n.level == row.name),
            )
        )
        at += half
        below = "S1" if last else rows[i + 1].name
        mid = tilt + wedge[i] + disc_wedge[i] / 2
        half = row.rim / 2 * np.array([np.sin(mid), -np.cos(mid)])
        slip = slips.get(row.name, 0.0)
        shift = slip / 2 * np.array([np.cos(mid), np.sin(mid)])
        at += half + shift
        below_width, below_depth, below_concavity = (
            (S1_WIDTH, _SACRUM["S1"][0], SACRAL_CONCAVITY)
            if last
            else (rows[i + 1].width, rows[i + 1].depth, rows[i + 1].superior)
        )
        usual = CONCAVITY[row.kind][1] + (
            SACRAL_CONCAVITY if last else CONCAVITY[rows[i + 1].kind][0]
        )
        deepened = row.inferior + below_concavity - usual
        nodes = [n.depth_mm for n in variants.schmorl_nodes if n.level in (row.name, below)]
        narrow = 0.75 if fused else 1.0
        size = (
            row.disc_height + deepened,
            (row.width + below_width) / 2 * narrow,
            (row.depth + below_depth) / 2 * narrow + 0.5 * abs(slip),
        )
        disc = Disc(row.name, below, float(at[0]), float(at[1]), float(mid), *size)
        discs.append(replace(disc, kind=row.kind, slip=slip, extra=max([*nodes, deepened, 0.0])))
        at += half + shift
        tilt += wedge[i] + disc_wedge[i]

    # The sacrum hangs from the posterior corner of its end plate: one continuous dorsal wall.
    sacrum: list[Level] = []
    wall = at + _SACRUM["S1"][0] / 2 * np.array([np.cos(tilt), np.sin(tilt)])
    for name, (depth, height, turn, half_width) in _SACRUM.items():
        mid = tilt + np.radians(turn * build.sacral_curve)
        caudal = np.array([np.sin(mid), -np.cos(mid)])
        centre = wall + caudal * height / 2 - depth / 2 * np.array([np.cos(mid), np.sin(mid)])
        sacral_wedge = 2 * np.radians(turn * build.sacral_curve) if name == "S1" else 0.0
        frame = (*centre, mid, height, sacral_wedge, 2 * half_width, depth, 0, 0)
        sacrum.append(replace(_level(name, *frame, SACRAL_CONCAVITY, 0), kind=name))
        wall = wall + caudal * height
    base = levels[_ORIGIN]

    def moved(part: _Placed) -> _Placed:
        return replace(part, y=part.y - base.y, z=part.z - base.z)

    return tuple(map(moved, levels)), tuple(map(moved, discs)), tuple(map(moved, sacrum))


def _level(name: str, *values: float) -> Level:
    """A level of plain floats: a NumPy scalar would turn every float32 array into float64."""
    return Level(name, *(float(v) for v in values))
