"""Shapes of changed discs, shared by disc and canal: herniation and annular fissure.

Pure functions of the local frame of a disc: x left, u back, w up, all mm.
"""

from __future__ import annotations

import numpy as np

from scanner.phantom.column import Disc
from scanner.phantom.shapes import ellipsoid, smooth_min
from scanner.phantom.variants import DiscChange


def posterior_edge(disc: Disc, x_mm: float) -> float:
    """How far behind the middle the disc's free edge lies at a distance from the midline."""
    part = min(abs(x_mm) / (disc.width / 2), 0.95)
    return float(disc.depth / 2 * (1 - part**2.6) ** (1 / 2.6))


def herniation_distance(
    disc: Disc, change: DiscChange, x: np.ndarray, u: np.ndarray, w: np.ndarray
) -> np.ndarray:
    """Distance to protruded or extruded disc, negative inside."""
    edge, deep = posterior_edge(disc, change.side_mm), change.protrusion_mm
    off = x - np.float32(change.side_mm)
    # The base lies inside the disc, so that only the wanted depth shows behind its edge.
    base = 3.0
    half = (change.breadth_mm / 2, deep + base, disc.height * 0.55 + 0.15 * deep)
    distance = ellipsoid(off, u - np.float32(edge - base), w, half)
    if change.migration_mm:
        far = change.migration_mm
        fragment = ellipsoid(
            off,
            u - np.float32(edge + 0.45 * deep),
            w - np.float32(0.6 * far),
            (0.38 * change.breadth_mm, 0.55 * deep, 0.4 * abs(far) + 3.0),
        )
        distance = smooth_min(distance, fragment, 2.0)
    return np.asarray(distance)


def fissure_distance(
    disc: Disc, change: DiscChange, x: np.ndarray, u: np.ndarray, w: np.ndarray
) -> np.ndarray:
    """Distance to the fluid-filled tear of the posterior annulus (a high-intensity zone)."""
    edge = posterior_edge(disc, change.side_mm)
    centre = (np.float32(change.side_mm), np.float32(edge - 1.8))
    return ellipsoid(x - centre[0], u - centre[1], w, (4.5, 1.5, min(1.6, disc.height * 0.25)))
