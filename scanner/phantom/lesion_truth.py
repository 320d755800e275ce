"""The exact truth about a patient's lesions, measured by sampling; it never leaves the scanner.

A lesion's extent is where it takes at least half of its own severity: what a reader would outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocols.findings import FindingType, Side, Structure
from scanner.phantom.lesion import MAKEUP, Lesion
from scanner.phantom.spine import LumbarSpine

_POINTS_PER_RADIUS = 11
_STEPS_MM = (0.4, 1.5)
_COARSE = 5


@dataclass(frozen=True)
class LesionTruth:
    """One lesion as it is in the patient.

    Attributes
    ----------
    number : int
        Index into ``spine.lesions``; ``spine.lesion_share(number, points)`` is its mask.
    lesion : Lesion
    type : protocols.findings.FindingType
        How it looks.
    structure, side, level
        As of the lesion.
    centre_mm, extent_mm : (float, float, float)
        Centre of mass and size of the bounding box along the patient's axes, DICOM LPS.
    volume_ml : float
    depth_mm : float or None
        Of its deepest point from the surface of the sacroiliac joint.
    """

    number: int
    lesion: Lesion
    type: FindingType
    structure: Structure
    side: Side
    level: str | None
    centre_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    volume_ml: float
    depth_mm: float | None


def lesion_truth(spine: LumbarSpine) -> tuple[LesionTruth, ...]:
    """Measure all lesions of a patient.

    Parameters
    ----------
    spine : LumbarSpine

    Returns
    -------
    tuple of LesionTruth
        In the order of ``spine.lesions``. One that takes no tissue at all (it lies outside its
        bone) has no volume.
    """
    return tuple(_measure(spine, number) for number in range(len(spine.lesions)))


def _measure(spine: LumbarSpine, number: int) -> LesionTruth:
    lesion = spine.lesions[number]
    size = spine.parameters.size
    centre = spine.to_patient(np.array(lesion.centre))
    typical = float(np.cbrt(np.prod(lesion.radii))) * size
    step_mm = float(np.clip(typical / _POINTS_PER_RADIUS, *_STEPS_MM))
    points = _points_around(spine, number, centre, step_mm)
    points = points[spine.lesion_share(number, points) >= lesion.severity / 2]
    middle, extent = centre, np.zeros(3)
    depth: float | None = None
    if len(points):
        middle, extent = points.mean(axis=0, dtype=float), np.ptp(points, axis=0) + step_mm
        if lesion.structure in (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL):
            depth = max(float(spine.lesion_depth(number, points).max()) * size, 0.0)
    return LesionTruth(
        number=number,
        lesion=lesion,
        type=MAKEUP[lesion.kind].type,
        structure=lesion.structure,
        side=lesion.side,
        level=lesion.level,
        centre_mm=(float(middle[0]), float(middle[1]), float(middle[2])),
        extent_mm=(float(extent[0]), float(extent[1]), float(extent[2])),
        volume_ml=len(points) * step_mm**3 / 1000,
        depth_mm=depth,
    )


def _points_around(
    spine: LumbarSpine, number: int, centre: np.ndarray, step_mm: float
) -> np.ndarray:
    """Evenly spaced points within a lesion's border, float32 (point, 3)."""
    lesion = spine.lesions[number]
    reach = (1.6 * max(lesion.radii) + 4) * spine.parameters.size
    coarse = _cube(np.arange(-reach, reach + 1, _COARSE * step_mm)) + centre
    # Half the diagonal of a cell, in radii, may separate the border from the cell's centre.
    margin = _COARSE * step_mm / min(lesion.radii)
    coarse = coarse[spine.lesion_radius(number, coarse) < 1.3 + margin]
    fine = _cube((np.arange(_COARSE) - _COARSE // 2) * step_mm)
    points = (coarse[:, None] + fine).reshape(-1, 3)
    return np.asarray(points[spine.lesion_radius(number, points) <= 1], np.float32)


def _cube(along: np.ndarray) -> np.ndarray:
    """All points with the three coordinates among ``along``, (point, 3)."""
    return np.stack(np.meshgrid(along, along, along, indexing="ij"), axis=-1).reshape(-1, 3)
