"""Random smooth fields as sums of plane waves, and soft unions. Pure array functions."""

from __future__ import annotations

import numpy as np

_WAVES = 18


class Waves:
    """A random field of unit variance.

    Parameters
    ----------
    rng : numpy.random.Generator
    wavelength : float
        Typical, mm.
    stretch : (float, float, float)
        The wavelength along x, y and z is multiplied by this.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        wavelength: float,
        stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        way = rng.normal(size=(_WAVES, 3))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        length = 2 * np.pi / wavelength * np.exp(rng.normal(0, 0.35, (_WAVES, 1)))
        self._vectors = (way * length / np.array(stretch)).astype(np.float32).T
        self._phases = rng.uniform(0, 2 * np.pi, _WAVES).astype(np.float32)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Field at points (point, 3): float32 (point)."""
        waves = np.cos(points @ self._vectors + self._phases)
        return np.asarray(waves.sum(axis=1) * np.float32(np.sqrt(2 / _WAVES)))

    def where(self, mask: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The field at the points of a mask (point), zero at the others: float32 (point)."""
        field = np.zeros(len(points), np.float32)
        field[mask] = self(points[mask])
        return field


def rod(points: np.ndarray, start: tuple, end: tuple, radius: float) -> np.ndarray:
    """Distance of points (point, 3) to a rod with round ends."""
    first = np.array(start, np.float32)
    way = np.array(end, np.float32) - first
    from_start = points - first
    along = np.clip(from_start @ way / (way @ way), 0, 1)
    return np.asarray(np.linalg.norm(from_start - along[:, None] * way, axis=1) - radius)


def soft_union(parts: list[np.ndarray], softness: float) -> np.ndarray:
    """Union of shapes, melted together over about `softness` mm."""
    total = np.zeros_like(parts[0])
    for part in parts:
        total += np.exp(np.clip(-part / softness, -60, 60))
    return np.asarray(-softness * np.log(np.maximum(total, np.float32(1e-26))))


def soft_cut(a: np.ndarray, b: np.ndarray, softness: float) -> np.ndarray:
    """Intersection of two shapes with a soft edge."""
    return -soft_union([-a, -b], softness)
