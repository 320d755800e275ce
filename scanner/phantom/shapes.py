"""Signed-distance primitives, negative inside, in mm. Pure array functions.

Distances are approximate away from the surface and good near it, which is all that painting needs.
Smooth minimum and maximum: Quilez, "smooth minimum" (polynomial form).
"""

from __future__ import annotations

import numpy as np


def smooth_min(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Union of two shapes with a fillet of about `radius` mm."""
    overlap = np.maximum(radius - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - overlap * overlap * (0.25 / radius))


def smooth_max(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Intersection of two shapes with the edge rounded by about `radius` mm."""
    overlap = np.maximum(radius - np.abs(a - b), 0)
    return np.asarray(np.maximum(a, b) + overlap * overlap * (0.25 / radius))


def superellipse(
    x: np.ndarray,
    y: np.ndarray,
    half_x: np.ndarray | float,
    half_y: np.ndarray | float,
    corner: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Radial distance to, and normalised radius of, a rounded oblong.

    `corner` 2 gives an ellipse, 0 a squircle (exponent 4), 1 something like exponent 2.6.
    """
    u = (x / half_x) ** 2
    v = (y / half_y) ** 2
    r = np.sqrt(np.sqrt(u * u + corner * u * v + v * v)) + np.float32(1e-6)
    # The small offset keeps the very centre inside.
    return np.sqrt(x * x + y * y + np.float32(1e-8)) * (1 - 1 / r), r


def ellipsoid(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, half: tuple[float, float, float]
) -> np.ndarray:
    """Radial distance to an ellipsoid at the origin."""
    r = np.sqrt((x / half[0]) ** 2 + (y / half[1]) ** 2 + (z / half[2]) ** 2) + np.float32(1e-6)
    return np.asarray(np.sqrt(x * x + y * y + z * z + np.float32(1e-8)) * (1 - 1 / r))


def capsule(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radius: float,
    end_radius: float | None = None,
) -> np.ndarray:
    """Distance to a rod from `start` to `end`, tapering from `radius` to `end_radius`."""
    ax, ay, az = (np.float32(e - s) for s, e in zip(start, end))
    px, py, pz = x - np.float32(start[0]), y - np.float32(start[1]), z - np.float32(start[2])
    t = np.clip((px * ax + py * ay + pz * az) / (ax * ax + ay * ay + az * az), 0, 1)
    px -= t * ax
    py -= t * ay
    pz -= t * az
    last = radius if end_radius is None else end_radius
    return np.asarray(
        np.sqrt(px * px + py * py + pz * pz) - (radius + t * np.float32(last - radius))
    )


def box(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    half: tuple[float | np.ndarray, ...],
    rounding: float,
) -> np.ndarray:
    """Distance to a box at the origin with edges rounded by `rounding` mm."""
    qx = np.abs(x) - (half[0] - rounding)
    qy = np.abs(y) - (half[1] - rounding)
    qz = np.abs(z) - (half[2] - rounding)
    inside = np.minimum(np.maximum(np.maximum(qx, qy), qz), 0)
    qx, qy, qz = np.maximum(qx, 0), np.maximum(qy, 0), np.maximum(qz, 0)
    return np.asarray(np.sqrt(qx * qx + qy * qy + qz * qz) + inside - rounding)
