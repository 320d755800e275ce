"""Bones and discs of the second phantom as distances, in mm, negative inside."""

from __future__ import annotations

import numpy as np

from scanner.other_phantom.column import Column, Segment
from scanner.other_phantom.field import rod, soft_cut, soft_union

FAR = np.float32(60.0)
AURICULAR_S = (-6.0, 66.0)
"""Arc lengths between which the auricular surface lies."""


def body_distance(part: Segment, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to a body, and to its nearer end plate, of local points (point, 3).

    The outline is a D: an ellipse in front, nearly straight behind.
    """
    x, u, w = q.T
    half = part.height / 2 - u * np.float32(np.tan(part.wedge / 2))
    part_w = np.clip(w / np.maximum(half, 1), -1, 1)
    shrink = 1 - part.waist * (1 - part_w**2)
    power = np.where(u > 0, np.float32(3.1), np.float32(2.15))
    across = np.abs(x) / (part.half_width * shrink)
    along = np.abs(u) / (part.half_depth * (shrink if part.waist else 1))
    r = np.power(np.power(across, power) + np.power(along, power) + np.float32(1e-9), 1 / power)
    radial = (r - 1) * np.minimum(part.half_width, part.half_depth)
    bowl = np.clip(1 - r, 0, 1) ** 0.7
    upper = w - half + part.hollow[0] * bowl
    lower = -w - half + part.hollow[1] * bowl
    plate = np.maximum(upper, lower)
    return soft_cut(radial, plate, 0.7), plate


def arch_distance(part: Segment, q: np.ndarray, sacralised: bool) -> np.ndarray:
    """Distance to pedicles, laminae and processes: rods melted together."""
    # One half is enough: the arch is symmetric.
    p = np.stack([np.abs(q[:, 0]), q[:, 1], q[:, 2]], axis=1)
    back, half, tall = part.half_depth, part.canal_half_width, part.height
    deep = part.canal_depth
    thoracic = part.rank > 5.5
    thick = 4.2 if thoracic else 4.6 + 0.5 * max(0.0, 3 - part.rank)
    side = half + thick
    flat = p * np.array([1, 1, 0.62], np.float32)
    reach, drop = (13.0, 10.0) if thoracic else (22.0, 1.0)
    parts = [
        rod(flat, (side, back - 3, 0.1 * tall), (side, back + 0.6 * deep, 0.08 * tall), thick),
        rod(
            flat,
            (side - 1, back + 0.55 * deep, -0.02 * tall),
            (0, back + deep + 5.0, -0.2 * tall),
            3.6,
        ),
        rod(
            flat,
            (0, back + deep + 6, -0.2 * tall),
            (0, back + deep + 24, -0.2 * tall - (12 if thoracic else 4)),
            3.9,
        ),
        rod(
            p,
            (side + 2, back + 6, 0.15 * tall),
            (side + reach, back + 6 + drop, 0.2 * tall),
            4.0,
        ),
        rod(p, (side + 1, back + 9, 0.1 * tall), (side + 3, back + 8, 0.5 * tall + 6), 4.6),
        rod(p, (side - 2, back + 15, -0.2 * tall), (side - 1, back + 14, -0.5 * tall - 8), 4.8),
    ]
    if sacralised:
        wing = p * np.array([0.9, 1.0, 0.8], np.float32)
        parts.append(rod(wing, (18, back - 4, -1), (36, back - 3, -0.45 * tall), 9.5))
    return soft_union(parts, 1.4)


def disc_distance(part: Segment, q: np.ndarray, bulge: float) -> np.ndarray:
    """Distance to the free edge of a disc, of local points (point, 3)."""
    x, u, w = q.T
    power = np.where(u > 0, np.float32(2.8), np.float32(2.15))
    across, along = np.abs(x) / (part.half_width + bulge), np.abs(u) / (part.half_depth + bulge)
    r = np.power(np.power(across, power) + np.power(along, power) + np.float32(1e-9), 1 / power)
    # Rounded between the rims.
    return np.asarray((r - 1) * part.half_depth + 1.1 * (w / part.height) ** 2)


class Pelvis:
    """Sacrum with its alae, sacroiliac joints, ilia."""

    def __init__(self, column: Column, age: float, rng: np.random.Generator) -> None:
        self._column = column
        self.parts = column.sacrum
        self._half = 51.0 + rng.normal(0, 2.0)
        self._caudal = rng.uniform(0.18, 0.30)
        self._dorsal = rng.uniform(0.16, 0.32)
        self._curved = rng.uniform(-0.0015, 0.003)
        self._wave = rng.uniform(0, 2 * np.pi, (2, 2))
        wide = 2.5 - 0.9 * np.clip((age - 38) / 20, 0, 1)
        self.gap = np.float32(wide) * np.clip(rng.normal(1, 0.1, 2), 0.75, 1.3).astype(np.float32)

    def joint(self, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sacroiliac joint at curve coordinates (point, 3).

        Returns
        -------
        off : ndarray (point)
            Distance from the middle of the joint, outward positive.
        half_gap : ndarray (point)
            Half of the joint space.
        region : ndarray (point)
            Negative inside the auricular surface.
        """
        s, x, d = curve.T
        left = x > 0
        off = np.abs(x) - self.middle(s, d, left)
        region = self.region(s, d)
        # Behind the auricular surface the joint opens towards its ligaments.
        half_gap = 0.5 * np.where(left, *self.gap) + 0.1 * np.clip(region, 0, 20) * (d > 0)
        return off, half_gap, region

    def middle(self, s: np.ndarray, d: np.ndarray, left: np.ndarray) -> np.ndarray:
        """Distance of the joint's middle from the curve, mm."""
        phase = np.where(left[..., None], self._wave[0], self._wave[1])
        ripple = 0.9 * np.sin(s / 9 + phase[..., 0]) * np.cos(d / 8 + phase[..., 1])
        s, d = np.clip(s, -20, 85), np.clip(d, -45, 45)
        slope = self._caudal * (s - 8) + self._dorsal * (d + 14)
        return np.asarray(self._half - slope - self._curved * (s - 30) ** 2 + ripple)

    def region(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """The auricle: an ellipse with a bite out of its dorsal and cranial border."""
        lean = d + 4 - 0.12 * (s - 28)
        whole = (np.sqrt(((s - 29) / 33) ** 2 + (lean / 17) ** 2) - 1) * 17
        bite = (np.sqrt(((s - 20) / 21) ** 2 + ((lean - 19) / 14) ** 2) - 1) * 14
        return np.asarray(np.maximum(whole, -bite))

    def sacrum(self, points: np.ndarray, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the sacrum and to the body of S1."""
        s, x, d = curve.T
        ax = np.abs(x)
        bodies = []
        for part in self.parts:
            bodies.append(body_distance(part, part.local(points))[0])
        first = bodies[0]
        # Alae: a slab between front and back, which the joints and the end plate's level cut.
        front = -19.0 + 0.16 * np.clip(s, 0, 90)
        slab = np.maximum(front - d, d - 12.0 + 0.06 * np.clip(s, 0, 90))
        width = 58 - 0.62 * np.clip(s - 52, 0, 60)
        base = self.parts[0]
        lower = base.local(points)[:, 2] - base.height / 2
        # The alae begin below the end plate and slope away from it.
        top = lower + 2.5 + 0.10 * np.clip(ax - 22, 0, 40) + 0.3 * np.clip(20 - ax, 0, 20)
        wing = soft_cut(soft_cut(slab, ax - width, 1.2), np.maximum(top, s - 108), 1.2)
        # In front the bodies taper into each other without a step.
        borders = np.cumsum([0.0, *(part.height for part in self.parts)])
        depths = [2 * part.half_depth for part in self.parts]
        taper = -np.interp(s, borders, [*depths, depths[-1]]).astype(np.float32)
        first = soft_cut(first, taper - d, 1.0)
        bodies = [soft_cut(body, taper - d, 1.0) for body in bodies]
        whole = soft_union([*bodies, wing], 2.2)
        crest = np.maximum(np.maximum(8 - s, s - 88), np.maximum(ax - 5.5, d - 22 + 0.1 * s))
        crest = np.maximum(crest, -d)
        whole = np.minimum(whole, crest)
        canal = self._canal(s, x, d)
        whole = soft_cut(whole, -canal, 0.6)
        whole = soft_cut(whole, -self.holes(s, ax, d), 0.6)
        off, half_gap, _ = self.joint(curve)
        return soft_cut(whole, off + half_gap, 0.5), first

    def _canal(self, s: np.ndarray, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        deep = np.interp(s, [-20, 15, 40, 65, 100], [14.5, 13, 9, 6, 2]).astype(np.float32)
        half = np.interp(s, [-20, 15, 40, 65, 100], [14.5, 12.5, 9.5, 7, 3]).astype(np.float32)
        r = np.sqrt((x / half) ** 2 + ((d - deep / 2) / (deep / 2 + 0.3)) ** 2)
        return np.asarray((r - 1) * deep / 2)

    def holes(self, s: np.ndarray, ax: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Distance to the sacral foramina."""
        nearest = np.full_like(s, FAR)
        below = 0.0
        for k, part in enumerate(self.parts[:4]):
            below += part.height
            # Oblique funnels, wide in front.
            across = ax - (21.0 - 2.2 * k) + 0.3 * (d + 5)
            radius = (5.0 - 0.6 * k) * (1 + 0.02 * np.clip(-d, 0, 20))
            nearest = np.minimum(nearest, np.hypot(across, s - below - 0.2 * across) - radius)
        return nearest

    def ilium(self, points: np.ndarray, curve: np.ndarray) -> np.ndarray:
        """Distance to the ilia: a curved sheet outside the joints, bent outwards in front."""
        s, _, d = curve.T
        off, half_gap, _ = self.joint(curve)
        ahead = np.clip(-20 + 0.16 * np.clip(s, 0, 60) - d, 0, 90)
        sheet = off - half_gap - 0.95 * ahead + 0.003 * ahead**2
        thick = 15.0 - 6.5 * np.clip(ahead / 30, 0, 1)
        first = self.parts[0].centre
        y, z = points[:, 1] - first[1], points[:, 2] - first[2]
        # The wing's outline seen from the side.
        r = np.sqrt(((y + 12) / 68) ** 2 + ((z + 8) / 52) ** 2)
        outline = (r - 1) * 52
        column = np.sqrt((y + 28) ** 2 + (0.35 * (z + 70)) ** 2) - 24
        outline = np.minimum(outline, column)
        return soft_cut(np.abs(sheet - thick / 2) * 0.8 - thick * 0.4, outline, 1.5)
