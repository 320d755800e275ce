"""`LumbarSpine`: puts the anatomy modules together and evaluates them at any points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanner.phantom.abdomen import Abdomen
from scanner.phantom.body import Body
from scanner.phantom.canal import Canal
from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.discs import Discs
from scanner.phantom.landmarks import landmarks
from scanner.phantom.muscles import Muscles
from scanner.phantom.parameters import SpineParameters
from scanner.phantom.pelvis import Pelvis
from scanner.phantom.vertebrae import Vertebrae

_BLOCK = 1 << 15


@dataclass(frozen=True)
class TissueSample:
    """Tissue at points.

    Attributes
    ----------
    labels : ndarray (...), uint8
        `scanner.tissues.Label`.
    density : ndarray (...), float32
        Multiplies the tissue's proton density.
    fat_fraction : ndarray (...), float32
        Proton-density fat fraction, 0-1.
    """

    labels: np.ndarray
    density: np.ndarray
    fat_fraction: np.ndarray


class LumbarSpine:
    """A synthetic patient from T9 to the coccyx, defined at every point of space.

    The anatomy is analytic: there is no voxel grid, so any plane can be rendered at any resolution.
    Coordinates are DICOM LPS in mm with the origin at the centre of the body of L3.
    """

    def __init__(self, parameters: SpineParameters | None = None) -> None:
        self.parameters = parameters or SpineParameters()
        self._patient = Patient(self.parameters)
        random = self._patient.random
        self._scoliosis = (
            random.uniform(0.5, 2.5),
            random.uniform(0, 2 * np.pi),
            random.uniform(150, 260),
        )
        patient = self._patient
        self._pelvis = Pelvis(patient)
        self._canal = Canal(patient)
        self._body, self._abdomen, self._muscles = Body(patient), Abdomen(patient), Muscles(patient)
        self._vertebrae, self._discs = Vertebrae(patient), Discs(patient)

    def _sideways(self, z: np.ndarray) -> np.ndarray:
        """Scoliotic shift of x at body height z."""
        amount, phase, period = self._scoliosis
        return np.asarray(amount * (np.sin(z * (2 * np.pi / period) + phase) - np.sin(phase)))

    def sample(self, points: np.ndarray) -> TissueSample:
        """Tissue at points.

        Parameters
        ----------
        points : ndarray (..., 3), float32
            DICOM LPS, mm.

        Returns
        -------
        TissueSample
            Arrays of shape (...).
        """
        points = np.asarray(points, np.float32)
        shape = points.shape[:-1]
        flat = points.reshape(-1, 3)
        count = len(flat)
        labels, density, fat = (
            np.empty(count, np.uint8),
            np.empty(count, np.float32),
            np.empty(count, np.float32),
        )
        scale = np.float32(1 / self.parameters.size)
        for start in range(0, count, _BLOCK):
            part = slice(start, min(start + _BLOCK, count))
            y, z = flat[part, 1] * scale, flat[part, 2] * scale
            x = flat[part, 0] * scale - self._sideways(z).astype(np.float32)
            canvas = Canvas(self._patient, x, y, z)
            self._paint(canvas)
            labels[part], density[part], fat[part] = canvas.labels, canvas.density, canvas.fat
        return TissueSample(labels.reshape(shape), density.reshape(shape), fat.reshape(shape))

    def _paint(self, canvas: Canvas) -> None:
        """Back to front: later anatomy covers earlier."""
        self._body.paint(canvas)
        self._abdomen.paint(canvas)
        self._muscles.paint(canvas)
        self._canal.paint_epidural(canvas)
        self._pelvis.paint(canvas)
        self._vertebrae.paint(canvas)
        self._discs.paint(canvas)
        self._canal.paint_roots(canvas)
        self._canal.paint_sac(canvas)

    def b0_ppm(self, points: np.ndarray) -> np.ndarray:
        """Off-resonance in ppm after shimming: lung and bowel gas, hips, and a smooth residual.

        Parameters
        ----------
        points : ndarray (..., 3), float32
            DICOM LPS, mm.

        Returns
        -------
        ndarray (...), float32
        """
        scaled = np.asarray(points, np.float32) / np.float32(self.parameters.size)
        x, y, z = scaled[..., 0], scaled[..., 1], scaled[..., 2]
        sources = (
            ((0.0, -70.0, 210.0), 55.0, 0.9),
            ((45.0, -90.0, 60.0), 32.0, 0.45),
            ((-40.0, -85.0, -60.0), 30.0, 0.4),
            ((10.0, -20.0, -165.0), 26.0, 0.35),
            ((125.0, 0.0, -200.0), 45.0, -0.25),
            ((-125.0, 0.0, -200.0), 45.0, -0.25),
        )
        field = 0.06 * (z / 150) ** 2 - 0.05 * (x / 120) ** 2 + 0.04 * y / 100
        for (cx, cy, cz), radius, strength in sources:
            # A smoothed dipole along z: what a gas-filled sphere leaves outside itself.
            dx, dy, dz = x - cx, y - cy, z - cz
            r2 = dx * dx + dy * dy + dz * dz + radius * radius
            field = field + strength * radius**3 * (3 * dz * dz - r2 + radius * radius) / r2**2.5
        return field.astype(np.float32)

    def landmarks(self) -> dict[str, np.ndarray]:
        """Exact positions of anatomical landmarks; see `scanner.phantom.landmarks`."""
        plane = landmarks(self._patient.column, self._pelvis)
        size = self.parameters.size
        return {
            name: np.array([(p[0] + self._sideways(p[2])) * size, p[1] * size, p[2] * size])
            for name, p in plane.items()
        }
