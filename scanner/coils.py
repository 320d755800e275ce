"""Receive coils: loops by Biot-Savart, their noise resistance, their mutual coupling.

A circular loop's field and vector potential have closed forms in complete elliptic integrals
(Smythe, "Static and Dynamic Electricity", 3rd ed., 1968, section 7.10). The receive sensitivity is
the circularly polarised part of the field across the main field, which lies along z (Hoult,
Concepts Magn Reson 12 (2000) 173). Quasi-static: wave effects at 3 T are left out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ellipe, ellipkm1

MU0_OVER_4PI = 0.1
"""In uT m / A, so that 1 A and metres give uT."""


@dataclass(frozen=True)
class Loop:
    """A circular loop carrying 1 A.

    Attributes
    ----------
    centre, normal : (3)
        LPS in mm; a unit vector.
    radius_mm : float
    """

    centre: tuple[float, float, float]
    normal: tuple[float, float, float]
    radius_mm: float

    def _cylinder(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return axial distance, radial distance and radial unit vector of points."""
        offset = points - np.asarray(self.centre)
        axial = offset @ np.asarray(self.normal)
        radial = offset - axial[..., None] * np.asarray(self.normal)
        rho = np.linalg.norm(radial, axis=-1)
        return axial, rho, radial / np.maximum(rho, 1e-9)[..., None]

    def field(self, points: np.ndarray) -> np.ndarray:
        """Return the magnetic field in uT, float64 (..., 3), at points (..., 3) in mm."""
        z, rho, direction = self._cylinder(points)
        a = self.radius_mm
        rho = np.maximum(rho, 1e-6)
        outer, inner = (a + rho) ** 2 + z**2, (a - rho) ** 2 + z**2
        k, e = ellipkm1(inner / outer), ellipe(1 - inner / outer)
        scale = 2 * MU0_OVER_4PI * 1e3 / np.sqrt(outer)
        axial = scale * (k + (a**2 - rho**2 - z**2) / inner * e)
        radial = scale * z / rho * (-k + (a**2 + rho**2 + z**2) / inner * e)
        field = axial[..., None] * np.asarray(self.normal) + radial[..., None] * direction
        return np.asarray(field)

    def potential(self, points: np.ndarray) -> np.ndarray:
        """Return the vector potential in uT mm, float64 (..., 3), at points (..., 3) in mm."""
        z, rho, direction = self._cylinder(points)
        a = self.radius_mm
        rho = np.maximum(rho, 1e-6)
        outer, inner = (a + rho) ** 2 + z**2, (a - rho) ** 2 + z**2
        m = 1 - inner / outer
        k, e = ellipkm1(inner / outer), ellipe(m)
        size = 4 * MU0_OVER_4PI * 1e3 * np.sqrt(outer) / (2 * rho) * ((1 - m / 2) * k - e)
        return np.asarray(size[..., None] * np.cross(np.asarray(self.normal), direction))


@dataclass(frozen=True)
class Birdcage:
    """A body coil: straight legs along z on a cylinder, driven in quadrature, as one channel.

    Attributes
    ----------
    centre : (3)
        LPS in mm.
    radius_mm, length_mm : float
    legs : int
    """

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius_mm: float = 300.0
    length_mm: float = 500.0
    legs: int = 16

    def field(self, points: np.ndarray) -> np.ndarray:
        """Return the complex field in uT, complex128 (..., 3), at points (..., 3) in mm.

        Finite straight wires by Biot-Savart; the end rings, weak at the centre, are left out.
        """
        total = np.zeros(np.shape(points), complex)
        for angle in 2 * np.pi * np.arange(self.legs) / self.legs:
            wire = self.radius_mm * np.array([np.cos(angle), np.sin(angle), 0.0])
            x, y, z = np.moveaxis(points - np.asarray(self.centre) - wire, -1, 0)
            distance2 = np.maximum(x**2 + y**2, 1e-6)
            ends = [z + self.length_mm / 2, z - self.length_mm / 2]
            sines = [end / np.sqrt(end**2 + distance2) for end in ends]
            size = MU0_OVER_4PI * 1e3 * (sines[0] - sines[1]) / distance2 / self.legs
            total += np.stack([-y * size, x * size, 0 * size], -1) * np.exp(1j * angle)
        return total


@dataclass(frozen=True)
class CoilArray:
    """Receive channels with coupling between neighbours.

    Attributes
    ----------
    elements : tuple of Loop or Birdcage
    coupling : float
        Of two loops whose rims touch; falls with the square of the distance between centres.
    phase_rad : tuple of float
        Of the cable of each channel.
    names : tuple of str
    """

    elements: tuple[Loop | Birdcage, ...]
    names: tuple[str, ...]
    phase_rad: tuple[float, ...]
    coupling: float = 0.2

    def __len__(self) -> int:
        return len(self.elements)

    def mixing(self) -> np.ndarray:
        """Return the matrix that couples and rotates channels, complex128 (coil, coil)."""
        mix = np.eye(len(self), dtype=complex)
        for i, first in enumerate(self.elements):
            for j, second in enumerate(self.elements):
                if i != j and isinstance(first, Loop) and isinstance(second, Loop):
                    gap = float(np.linalg.norm(np.subtract(first.centre, second.centre)))
                    touching = first.radius_mm + second.radius_mm
                    mix[i, j] = 1j * self.coupling * min(1.0, (touching / gap) ** 2)
                    if gap > 1.5 * touching:
                        mix[i, j] = 0
        return np.exp(1j * np.asarray(self.phase_rad))[:, None] * mix

    def sensitivities(self, points: np.ndarray) -> np.ndarray:
        """Return receive sensitivities in uT/A, complex64 (coil, ...), at points (..., 3) in mm."""
        fields = np.stack([element.field(points) for element in self.elements])
        alone = fields[..., 0] - 1j * fields[..., 1]
        return np.tensordot(self.mixing(), alone, 1).astype(np.complex64)

    def noise_covariance(self, tissue: np.ndarray) -> np.ndarray:
        """Return the noise covariance, complex128 (coil, coil), its mean diagonal 1.

        Noise of the sample: the overlap of the loops' electric fields, which go as their vector
        potentials, over the conducting tissue (Roemer et al., Magn Reson Med 16 (1990) 192). Noise
        of the coils themselves: a tenth of that. Coupling mixes noise as it mixes signal.

        Parameters
        ----------
        tissue : (point, 3)
            Positions in the body, in mm, evenly spread.
        """
        loops = [element for element in self.elements if isinstance(element, Loop)]
        if len(loops) < len(self):
            overlap = np.eye(len(self))
        else:
            potentials = np.stack([loop.potential(tissue).ravel() for loop in loops])
            overlap = potentials @ potentials.T
            overlap /= np.mean(np.diag(overlap))
        mix = self.mixing()
        covariance = mix @ (overlap + 0.1 * np.eye(len(self))) @ mix.conj().T
        return np.asarray(covariance / np.mean(np.diag(covariance).real))


def _array(elements: list[Loop], names: list[str], seed: int) -> CoilArray:
    phases = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(elements))
    return CoilArray(tuple(elements), tuple(names), tuple(phases))


def spine_array(
    back_mm: float,
    rows: int = 6,
    columns: int = 2,
    centre_z_mm: float = 0.0,
    anterior_mm: float | None = None,
    seed: int = 0,
) -> CoilArray:
    """Return loops in the table behind the back, and on the belly where asked for.

    Parameters
    ----------
    back_mm : float
        Where the back is: LPS y of the most posterior skin. The loops lie 20 mm behind it.
    rows, columns : int
        Along z and x.
    centre_z_mm : float
        Of the array.
    anterior_mm : float or None
        LPS y of the most anterior skin, where 6 larger loops are to lie 20 mm in front of it.
    seed : int
        Of the cables' phases.
    """
    radius, pitch = 42.0, 66.0
    elements, names = [], []
    for row in range(rows):
        for column in range(columns):
            x = (column - (columns - 1) / 2) * 1.2 * pitch
            z = centre_z_mm - (row - (rows - 1) / 2) * pitch
            elements.append(Loop((x, back_mm + 20.0, z), (0.0, -1.0, 0.0), radius))
            names.append(f"Spine:SP{row + 1}:{column + 1}")
    if anterior_mm is not None:
        for row in range(2):
            for column in range(3):
                x, z = (column - 1) * 130.0, centre_z_mm + (0.5 - row) * 130.0
                elements.append(Loop((x, anterior_mm - 20.0, z), (0.0, 1.0, 0.0), 75.0))
                names.append(f"Body:BO{row + 1}:{column + 1}")
    return _array(elements, names, seed)
