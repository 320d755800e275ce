"""`LumbarSpine`: puts the anatomy modules together and evaluates them at any points."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scanner.phantom.abdomen import Abdomen
from scanner.phantom.body import Body
from scanner.phantom.canal import Canal
from scanner.phantom.canvas import Canvas, Patient
from scanner.phantom.column import Column
from scanner.phantom.discs import Discs
from scanner.phantom.landmarks import landmarks
from scanner.phantom.lesion import Lesion
from scanner.phantom.lesions import Lesions
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
    lesion : TissueSample or None
        A second tissue at the same points where lesions are near: densities are shared out between
        the two, and their signals add up. The labels above are anatomy, with or without disease.
    """

    labels: np.ndarray
    density: np.ndarray
    fat_fraction: np.ndarray
    lesion: TissueSample | None = None

    def reshape(self, shape: tuple[int, ...]) -> TissueSample:
        """The same points in another shape."""
        return TissueSample(
            self.labels.reshape(shape),
            self.density.reshape(shape),
            self.fat_fraction.reshape(shape),
            None if self.lesion is None else self.lesion.reshape(shape),
        )


class LumbarSpine:
    """A synthetic patient from T9 to the coccyx, defined at every point of space.

    The anatomy is analytic: there is no voxel grid, so any plane can be rendered at any resolution.
    Coordinates are DICOM LPS in mm with the origin at the centre of the body of L3.

    Parameters
    ----------
    parameters : SpineParameters or None
    lesions : tuple of Lesion
        From `scanner.disease`, or made by hand.
    """

    def __init__(
        self, parameters: SpineParameters | None = None, lesions: tuple[Lesion, ...] = ()
    ) -> None:
        self.parameters = parameters or SpineParameters()
        self._patient = Patient(self.parameters)
        random = self._patient.random
        self._scoliosis = (
            random.uniform(0.5, 2.5) + self.parameters.variants.scoliosis_mm,
            random.uniform(0, 2 * np.pi),
            random.uniform(150, 260),
        )
        patient = self._patient
        self._pelvis = Pelvis(patient)
        self._canal = Canal(patient)
        self._body, self._abdomen, self._muscles = Body(patient), Abdomen(patient), Muscles(patient)
        self._vertebrae, self._discs = Vertebrae(patient), Discs(patient)
        self._lesions = Lesions(lesions, patient, self._pelvis)

    def with_lesions(self, lesions: tuple[Lesion, ...]) -> LumbarSpine:
        """The same patient with other lesions; the anatomy is shared."""
        other = copy.copy(self)
        other._lesions = Lesions(lesions, self._patient, self._pelvis)
        return other

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """Lesions of this patient."""
        return tuple(shape.lesion for shape in self._lesions.shapes)

    @property
    def column(self) -> Column:
        """The vertebral column in body coordinates."""
        return self._patient.column

    @property
    def pelvis(self) -> Pelvis:
        """Sacrum and sacroiliac joints in body coordinates."""
        return self._pelvis

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
        count = points.size // 3
        labels, density, fat = _empty(count)
        second: TissueSample | None = None
        for part, canvas in self._painted(points.reshape(-1, 3)):
            labels[part], density[part], fat[part] = canvas.labels, canvas.density, canvas.fat
            replaced = self._lesions.replaced(canvas)
            if replaced is None:
                continue
            density[part] *= 1 - replaced.share
            if second is None:
                nothing = np.zeros_like(density)
                second = TissueSample(np.zeros_like(labels), nothing, nothing.copy())
            second.labels[part] = replaced.labels
            second.density[part] = replaced.density * replaced.share
            second.fat_fraction[part] = replaced.fat
        whole = TissueSample(labels, density, fat, second)
        return whole.reshape(shape)

    def lesion_share(self, number: int, points: np.ndarray) -> np.ndarray:
        """Exact share of the tissue which one lesion takes.

        Parameters
        ----------
        number : int
            Index into ``lesions``.
        points : ndarray (..., 3), float32
            DICOM LPS, mm.

        Returns
        -------
        ndarray (...), float32
            0 outside, the lesion's severity at its core.
        """
        points = np.asarray(points, np.float32)
        share = np.empty(points.size // 3, np.float32)
        for part, canvas in self._painted(points.reshape(-1, 3)):
            share[part] = self._lesions.share(number, canvas)
        return share.reshape(points.shape[:-1])

    def lesion_radius(self, number: int, points: np.ndarray) -> np.ndarray:
        """Distance of points (point, 3) from a lesion's centre; 1 at its border; float32."""
        canvas = self._canvas(np.asarray(points, np.float32))
        return self._lesions.shapes[number].radius(canvas, np.arange(len(points)))

    def lesion_depth(self, number: int, points: np.ndarray) -> np.ndarray:
        """Depth of points (point, 3) below the surface where a lesion begins, float32."""
        canvas = self._canvas(np.asarray(points, np.float32))
        return self._lesions.shapes[number].depth(canvas, np.arange(len(points)))

    def to_body(self, points: np.ndarray) -> np.ndarray:
        """Body coordinates of DICOM LPS, float32 (..., 3): inverse of `to_patient`."""
        scaled = np.asarray(points, np.float32) * np.float32(1 / self.parameters.size)
        scaled[..., 0] -= self._sideways(scaled[..., 2]).astype(np.float32)
        return scaled

    def to_patient(self, points: np.ndarray) -> np.ndarray:
        """DICOM LPS of body coordinates, float64 (..., 3): adds scoliosis and scale."""
        points = np.array(points, float)
        points[..., 0] += self._sideways(points[..., 2])
        return points * self.parameters.size

    def _painted(self, points: np.ndarray) -> Iterator[tuple[slice, Canvas]]:
        """Anatomy at points (point, 3), in blocks."""
        for start in range(0, len(points), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(points)))
            canvas = self._canvas(points[part])
            self._paint(canvas)
            yield part, canvas

    def _canvas(self, points: np.ndarray) -> Canvas:
        """An empty canvas over points (point, 3)."""
        return Canvas(self._patient, *np.ascontiguousarray(self.to_body(points).T))

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
        return {name: self.to_patient(point) for name, point in plane.items()}


def _empty(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, density and fat fraction to be filled."""
    return np.empty(count, np.uint8), np.empty(count, np.float32), np.empty(count, np.float32)
