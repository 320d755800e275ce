"""Objects with the phantom's interface and a Fourier transform that is known."""

from types import SimpleNamespace

import numpy as np
import pytest


class Ellipsoids:
    """Ellipsoids of one tissue each; where they overlap the later one counts.

    Parameters
    ----------
    parts : list of (centre, radii, label, density, fat_fraction)
    field_ppm : float
        Everywhere.
    """

    def __init__(self, parts, field_ppm=0.0):
        self.parts = parts
        self.field_ppm = field_ppm

    def sample(self, points):
        shape = points.shape[:-1]
        labels, density = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
        fat = np.zeros(shape, np.float32)
        for centre, radii, label, rho, fraction in self.parts:
            inside = np.sum(((points - np.asarray(centre)) / np.asarray(radii)) ** 2, -1) <= 1
            labels[inside], density[inside], fat[inside] = label, rho, fraction
        return SimpleNamespace(labels=labels, density=density, fat_fraction=fat)

    def b0_ppm(self, points):
        return np.full(points.shape[:-1], self.field_ppm, np.float32)


@pytest.fixture
def ellipsoids():
    return Ellipsoids


@pytest.fixture
def body():
    """A torso of muscle with a few vertebrae of marrow, a CSF column and fat on the back."""
    return Ellipsoids(
        [
            ((0, -20, 0), (170, 120, 260), 3, 1.0, 0.08),
            ((0, 80, 0), (120, 18, 200), 2, 1.0, 0.95),
            *(((0, 15, z), (24, 17, 14), 4, 1.0, 0.35) for z in (-100, -64, -28, 8, 44, 80)),
            ((0, 42, 0), (9, 8, 190), 10, 1.0, 0.0),
        ]
    )
