"""A block of points being painted: coordinates, shared distances, and the three output arrays.

Anatomy modules paint in order, later ones over earlier ones. Each asks for the points in its
bounding box first and works on those alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scanner.phantom.column import Column
from scanner.phantom.noise import Noise
from scanner.phantom.parameters import SpineParameters
from scanner.tissues import Label

FAR = np.float32(99.0)


class Patient:
    """What all anatomy modules share: parameters, column and noise fields of one patient."""

    def __init__(self, parameters: SpineParameters) -> None:
        self.parameters = parameters
        self.column = Column(parameters)
        self.shape_noise = Noise(parameters.seed * 2 + 11)
        self.texture_noise = Noise(parameters.seed * 2 + 12)
        self.random = np.random.default_rng(parameters.seed)


class Canvas:
    """Points in body coordinates and what has been painted on them.

    Attributes
    ----------
    x, y, z : ndarray (point), float32
        LPS mm, without scoliosis and body scale.
    soft_x, soft_y, soft_z : ndarray (point), float32
        The same, displaced by the domain warp of the soft tissues.
    s, d : ndarray (point), float32
        Spine coordinates of (y, z).
    rough : ndarray (channel = 4, point), float32
        Unit noise of about 11 mm wavelength: roughness of surfaces, patches of marrow.
    warp : ndarray (channel = 4, point), float32
        The unit noise behind the domain warp, about 55 mm wavelength.
    depth, fat_depth : ndarray (point), float32
        Depth below the skin and the thickness of the subcutaneous fat there, mm.
    bone, sacrum : ndarray (point), float32
        Distance to the nearest bone of the spine and to the sacrum, filled in as they are painted.
    labels, density, fat : ndarray (point)
        The result.
    """

    def __init__(self, patient: Patient, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
        self.patient = patient
        self.x, self.y, self.z = x, y, z
        self.s, self.d = patient.column.spine_coordinates(y, z)
        warp = patient.shape_noise(x, y, z, 55.0)
        self.rough = patient.shape_noise(x, y, z, 11.0)
        self.soft_x = x + 2.2 * warp[0] + 0.5 * self.rough[0]
        self.soft_y = y + 2.2 * warp[1] + 0.5 * self.rough[1]
        self.soft_z = z + 2.2 * warp[2]
        self.warp = warp
        # Set by the body: depth below the skin, and depth at which muscle begins.
        self.depth = np.zeros_like(x)
        self.fat_depth = np.zeros_like(x)
        self._extent = [(float(v.min()), float(v.max())) for v in (x, y, z, self.s, self.d)]
        self.labels = np.zeros(x.shape, np.uint8)
        self.density = np.ones(x.shape, np.float32)
        self.fat = np.zeros(x.shape, np.float32)
        self.bone = np.full(x.shape, FAR)
        self.sacrum = np.full(x.shape, FAR)

    def grain(self, index: np.ndarray) -> np.ndarray:
        """Uncorrelated noise in -0.5 to 0.5: dithers one tissue gradually into another."""
        hashed = (
            np.sin(self.x[index] * 12.9898 + self.y[index] * 78.233 + self.z[index] * 37.719)
            * 4375.85
        )
        return np.asarray(hashed - np.floor(hashed) - np.float32(0.5))

    def within(
        self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]
    ) -> np.ndarray:
        """Indices of the points inside a box."""
        return self._select(zip((self.x, self.y, self.z), self._extent[:3], (x, y, z)))

    def along_spine(self, x: float, s: tuple[float, float], d: tuple[float, float]) -> np.ndarray:
        """Indices of the points with |x| below `x` and spine coordinates inside the ranges."""
        coordinates = (self.x, self.s, self.d)
        return self._select(zip(coordinates, (self._extent[0], *self._extent[3:]), ((-x, x), s, d)))

    def _select(
        self, tests: Iterable[tuple[np.ndarray, tuple[float, float], tuple[float, float]]]
    ) -> np.ndarray:
        """Indices inside all ranges; a range that the whole block meets or misses costs nothing."""
        inside = None
        for values, (least, most), (low, high) in tests:
            if least >= high or most <= low:
                return np.empty(0, np.intp)
            for needed, test in ((least <= low, np.greater), (most >= high, np.less)):
                if needed:
                    passed = test(values, low if test is np.greater else high)
                    inside = passed if inside is None else inside & passed
        return np.arange(self.x.size) if inside is None else np.flatnonzero(inside)

    def paint(
        self,
        index: np.ndarray,
        mask: np.ndarray | slice,
        label: Label,
        density: np.ndarray | float = 1.0,
        fat: np.ndarray | float = 0.0,
    ) -> None:
        """Give the points `index[mask]` a tissue; arrays run along `index`."""
        chosen = index[mask]
        self.labels[chosen] = label
        self.density[chosen] = density[mask] if isinstance(density, np.ndarray) else density
        self.fat[chosen] = fat[mask] if isinstance(fat, np.ndarray) else fat
