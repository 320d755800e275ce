"""What goes wrong in exams of real patients: metal, and fat which is not suppressed.

Each takes a patient and is one itself (`scanner.rasterise.ScanObject`), so that fat suppression can
fail in patients with metal. All values are general knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanner.phantom import LumbarSpine, TissueSample
from scanner.phantom.column import Level
from scanner.phantom.shapes import capsule
from scanner.tissues import Label

_SCREW_RADIUS_MM = 3.2
_TITANIUM_PPM = 63.0
"""Field on the surface of a sphere of titanium along its axis: a third of the difference of
susceptibilities (190 ppm)."""
_PULSE_PPM = 6.0
"""Half bandwidth of radio-frequency pulses: spins further off resonance are not excited."""
_BALLS = 9


class FailedFatSuppression:
    """A patient in whom the inversion pulse fails in a region: fat stays bright on STIR there.

    Parameters
    ----------
    patient : LumbarSpine or PedicleScrews
    centre_mm : (float, float, float)
        DICOM LPS.
    radius_mm : float
        Where the inversion has half of its failure.
    share : float
        Of the magnetisation at the centre which is not inverted, 0-1.
    """

    def __init__(
        self,
        patient: LumbarSpine | PedicleScrews,
        centre_mm: tuple[float, float, float],
        radius_mm: float = 60.0,
        share: float = 0.9,
    ) -> None:
        self._patient = patient
        self._centre, self._radius, self._share = np.asarray(centre_mm), radius_mm, share

    def sample(self, points: np.ndarray) -> TissueSample:
        """Tissue at points (..., 3), DICOM LPS, mm."""
        return self._patient.sample(points)

    def b0_ppm(self, points: np.ndarray) -> np.ndarray:
        """Off-resonance in ppm at points (..., 3), float32 (...)."""
        return self._patient.b0_ppm(points)

    def inversion_failure(self, points: np.ndarray) -> np.ndarray:
        """Share of the magnetisation that is not inverted at points (..., 3), float32 (...)."""
        distance = np.linalg.norm(np.asarray(points) - self._centre, axis=-1)
        share = self._share / (1 + np.exp((distance - self._radius) / (0.15 * self._radius)))
        if isinstance(self._patient, PedicleScrews):
            share = np.maximum(share, self._patient.inversion_failure(points))
        return np.asarray(share, np.float32)


@dataclass(frozen=True)
class _Screw:
    head: tuple[float, float, float]
    tip: tuple[float, float, float]


class PedicleScrews:
    """A patient with titanium screws in both pedicles of some levels: void, field and bad fat.

    Parameters
    ----------
    patient : LumbarSpine
    levels : tuple of str
        "L4", ...
    """

    def __init__(self, patient: LumbarSpine, levels: tuple[str, ...]) -> None:
        self._patient = patient
        self._screws = [screw for name in levels for screw in _screws(patient.column.by_name[name])]

    def sample(self, points: np.ndarray) -> TissueSample:
        """Tissue at points (..., 3): metal, and less signal where pulses miss the resonance."""
        tissue = self._patient.sample(points)
        body = self._patient.to_body(points)
        x, y, z = (np.ascontiguousarray(body[..., k]) for k in range(3))
        distance = np.full(x.shape, np.float32(99))
        for screw in self._screws:
            rod = capsule(x, y, z, screw.head, screw.tip, _SCREW_RADIUS_MM)
            distance = np.minimum(distance, rod)
        labels = np.where(distance < 0, np.uint8(Label.METAL), tissue.labels)
        hit = self._excited(body)
        lesion = tissue.lesion
        if lesion is not None:
            left = np.where(distance < 0, np.float32(0), lesion.density * hit)
            lesion = TissueSample(lesion.labels, left, lesion.fat_fraction)
        return TissueSample(labels, tissue.density * hit, tissue.fat_fraction, lesion)

    def b0_ppm(self, points: np.ndarray) -> np.ndarray:
        """Off-resonance in ppm at points (..., 3), float32 (...)."""
        return self._patient.b0_ppm(points) + self._field(self._patient.to_body(points))

    def inversion_failure(self, points: np.ndarray) -> np.ndarray:
        """Share of the magnetisation that is not inverted at points (..., 3), float32 (...)."""
        return 1 - self._excited(self._patient.to_body(points), 0.4 * _PULSE_PPM)

    def _excited(self, body: np.ndarray, half_width_ppm: float = _PULSE_PPM) -> np.ndarray:
        return np.asarray(1 / (1 + (self._field(body) / half_width_ppm) ** 4), np.float32)

    def _field(self, body: np.ndarray) -> np.ndarray:
        """Field of the screws, each a row of balls, at body coordinates, float32 (...)."""
        field = np.zeros(body.shape[:-1], np.float32)
        for screw in self._screws:
            head, tip = np.array(screw.head), np.array(screw.tip)
            for part in np.linspace(0, 1, _BALLS):
                offset = body - (head + part * (tip - head)).astype(np.float32)
                r2 = np.maximum(np.sum(offset**2, axis=-1), _SCREW_RADIUS_MM**2)
                dipole = (3 * offset[..., 2] ** 2 - r2) / r2**2.5
                field += np.float32(0.5 * _TITANIUM_PPM * _SCREW_RADIUS_MM**3) * dipole
        return field


def _screws(level: Level) -> list[_Screw]:
    """Screws through both pedicles of a vertebra, converging to the front."""
    outer, inner = level.canal_width / 2 + 5.5, level.canal_width / 2 - 1.0
    back = level.to_plane(level.depth / 2 + 24, 0.16 * level.height)
    front = level.to_plane(-0.2 * level.depth, 0.1 * level.height)
    return [_Screw((sign * (outer + 3.5), *back), (sign * inner, *front)) for sign in (1.0, -1.0)]
